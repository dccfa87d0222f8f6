"""Finished weights on disk: out of memory as soon as they are made, and there again after an interruption.

    FOLDER/KEY.shelf.jsonl     a record for each finished weight: where its arrays lie, and their checksums (`Journal`)
    FOLDER/KEY.shelf           the arrays as ONNX stores them, each from the start of a page on
    FOLDER/KEY.shelf.PID.work  what a compile computes on its way

Arrays are on disk before their record is, so that a record never speaks of what is not there; bytes behind the last
record, which a killed process leaves, are passed over. A record whose bytes are damaged counts as missing.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from onnx import TensorProto

from qcompiler import ir
from qcompiler.errors import ModelError, OutputError
from qcompiler.ir.external import ALIGNMENT, read_chunks, refer
from qcompiler.search.journal import Journal, content_key

KEPT = 7 * 24 * 3600.0


@dataclass(eq=False)
class Shelf:
    """Arrays by key.

    Attributes:
        journal: of the records.
        file: of the arrays.
    """

    journal: Journal
    file: Path

    @staticmethod
    def open(folder: Path, key: str) -> Shelf:
        """The shelf of everything that `key` stands for, with what is on it already; the folder need not exist."""
        folder.mkdir(parents=True, exist_ok=True)
        name = f"{key[:24]}.shelf"
        return Shelf(Journal.open(folder, name), folder / name)

    def get(self, key: str) -> tuple[dict[str, Any], list[ir.Lazy]] | None:
        """What was filed under a key with its arrays, none of them read; None where there is nothing whole."""
        record = self.journal.get(key)
        if record is None:
            return None
        try:
            found = [self._lazy(part) for part in record["parts"]]
            good = all(_checksum(lazy) == part["crc32"] for lazy, part in zip(found, record["parts"], strict=True))
        except (ModelError, KeyError, TypeError, ValueError, OSError):
            return None
        return (record["about"], found) if good else None

    def put(self, key: str, about: dict[str, Any], constants: Sequence[ir.Constant]) -> list[ir.Lazy]:
        """Files the values of constants; on disk when this returns. `about` is of plain JSON values.

        Raises:
            OutputError: the disk is full, or cannot be written.
        """
        parts = []
        try:
            with self.file.open("ab") as stream:
                for constant in constants:
                    start = -(-stream.tell() // ALIGNMENT) * ALIGNMENT
                    stream.write(bytes(start - stream.tell()))
                    crc = 0
                    for piece in ir.pieces(constant):
                        crc = zlib.crc32(piece, crc)
                        stream.write(piece)
                    place = {"offset": start, "bytes": stream.tell() - start, "crc32": crc}
                    parts.append({"type": ir.element_type(constant), "dims": [int(d) for d in constant.shape], **place})
                stream.flush()
                os.fsync(stream.fileno())
        except OSError as error:
            raise OutputError(f"cannot be written: {error.strerror or error}", where=str(self.file)) from error
        self.journal.put(key, {"about": about, "parts": parts})
        return [self._lazy(part) for part in parts]

    def link(self, key: str, other: str) -> list[ir.Lazy]:
        """Files under a key what is there under another one."""
        record = self.journal.get(other)
        self.journal.put(key, record)
        return [self._lazy(part) for part in record["parts"]]

    @contextmanager
    def work(self) -> Iterator[Path]:
        """A folder for files that a killed process may leave, and the next one removes."""
        for left in self.file.parent.glob(f"{self.file.name}.*.work"):
            if not _alive(left.name.split(".")[-2]):
                shutil.rmtree(left, ignore_errors=True)
        folder = self.file.with_name(f"{self.file.name}.{os.getpid()}.work")
        folder.mkdir()
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def discard(self) -> None:
        """Removes it all."""
        for file in (self.file, self.journal.file):
            if file is not None:
                with contextlib.suppress(OSError):
                    file.unlink()

    def _lazy(self, part: dict[str, Any]) -> ir.Lazy:
        tensor = TensorProto(data_type=int(part["type"]), dims=part["dims"])
        refer(tensor, self.file.name, int(part["offset"]), int(part["bytes"]))
        return ir.Lazy(tensor, self.file.parent)


def _alive(process: str) -> bool:
    try:
        os.kill(int(process), 0)
    except (ProcessLookupError, ValueError):
        return False
    except PermissionError:
        pass
    return True


def _checksum(lazy: ir.Lazy) -> int:
    crc = 0
    for piece in read_chunks(*lazy.span()):
        crc = zlib.crc32(piece, crc)
    return crc


@contextmanager
def open_shelf(folder: Path | None, output: Path | None, *about: object) -> Iterator[Shelf]:
    """A shelf that is gone when the block ends well, and stays for the next try when it does not.

    Args:
        folder: where shelves lie; None for one beside the output that always goes.
        output: the folder that will be written.
        about: what the shelf stands for.
    """
    if folder is None:
        parent = Path(tempfile.gettempdir()) if output is None else output.parent
        parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".qcompiler-", dir=parent) as work:
            yield Shelf.open(Path(work), content_key(*about))
        return
    shelf = Shelf.open(folder, content_key(*about))
    forget(folder, shelf)
    yield shelf
    shelf.discard()


def forget(folder: Path, but: Shelf) -> None:
    """Removes shelves that nothing was put on for `KEPT` seconds, but one."""
    with contextlib.suppress(OSError):
        for file in folder.iterdir():
            if file not in (but.file, but.journal.file) and time.time() - file.stat().st_mtime > KEPT:
                shutil.rmtree(file) if file.is_dir() else file.unlink()
