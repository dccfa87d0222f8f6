"""What was measured, written down as it ends: an interrupted search resumes where it was, a repeated one takes seconds.

    FOLDER/KEY.jsonl        one line for each record: crc32 of the rest, a space, {"key": ..., "record": ...}
    FOLDER/KEY.NAME         a file that is kept whole, such as the best verified plan

A record is filed under a hash of all that it depends on (`content_key`), so that it is never wrong, only unknown. Lines
are appended by a single write each, which a killed process leaves behind; a line that was torn, or that something else
damaged, is passed over, and the next begins behind it. Several compiles may write to one journal. A journal that cannot
be read or written costs time, never a compile.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from qcompiler.analysis.whole_file import write_whole
from qcompiler.errors import OutputError

SUFFIX = ".jsonl"
CACHED = 1 << 30
"""Bytes that the journals of a user's cache may take."""


def content_key(*parts: object) -> str:
    """sha256 of the texts of `parts`, each with its length in front."""
    digest = hashlib.sha256()
    for part in parts:
        raw = part if isinstance(part, bytes) else str(part).encode("utf-8", "surrogateescape")
        digest.update(len(raw).to_bytes(8, "little") + raw)
    return digest.hexdigest()


@dataclass(eq=False)
class Journal:
    """Records by key; `Journal()` keeps them in memory alone.

    Attributes:
        file: where they are written; None for nowhere.
    """

    file: Path | None = None
    _records: dict[str, str] = field(default_factory=dict)
    # what the next write begins with, to stand apart from a torn line
    _apart: bytes = b""

    @staticmethod
    def open(folder: Path | None, key: str) -> Journal:
        """The journal of everything that `key` stands for (`content_key`), with what is in it already.

        Args:
            folder: where journals lie; it need not exist. None gives one in memory.
            key: names the file.
        """
        if folder is None:
            return Journal()
        journal = Journal(folder / f"{key[:32]}{SUFFIX}")
        journal._read()
        return journal

    def __len__(self) -> int:
        return len(self._records)

    def get(self, key: str) -> Any:
        """A copy of the record under `key`; None where there is none."""
        text = self._records.get(key)
        return None if text is None else json.loads(text)

    def put(self, key: str, record: Any) -> None:
        """Files a record of plain JSON values, not None, in place of one that is there; on disk when this returns."""
        text = json.dumps(record, sort_keys=True, separators=(",", ":"))
        if self._records.get(key) == text:
            return
        self._records[key] = text
        line = f'{{"key":{json.dumps(key)},"record":{text}}}'.encode()
        self._append(b"%08x %s\n" % (zlib.crc32(line), line))

    def keep(self, name: str, content: bytes) -> Path | None:
        """Puts a whole file beside the records, in place of an earlier one; None where it cannot be written."""
        if self.file is None:
            return None
        path = self.kept(name)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, content)
        except (OSError, OutputError):
            return None
        return path

    def kept(self, name: str) -> Path:
        """Where `keep` puts a file."""
        if self.file is None:
            return Path(name)
        return self.file.with_name(f"{self.file.name.removesuffix(SUFFIX)}.{name}")

    def _read(self) -> None:
        if self.file is None:
            return
        with contextlib.suppress(OSError):
            content = self.file.read_bytes()
            self._apart = b"" if not content or content.endswith(b"\n") else b"\n"
            for line in content.split(b"\n"):
                if (entry := _parsed(line)) is not None:
                    self._records[entry[0]] = entry[1]

    def _append(self, line: bytes) -> None:
        if self.file is None:
            return
        with contextlib.suppress(OSError):
            self.file.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(self.file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
            try:
                whole = self._apart + line
                self._apart = b"" if os.write(handle, whole) == len(whole) else b"\n"
            finally:
                os.close(handle)


def trim(folder: Path | None, most: int = CACHED) -> None:
    """Removes files of a folder of journals, those first that were not written to for longest, down to `most` bytes."""
    if folder is None:
        return
    with contextlib.suppress(OSError):
        files = [(path.stat(), path) for path in folder.iterdir() if path.is_file()]
        left = sum(stat.st_size for stat, _ in files)
        for stat, path in sorted(files, key=lambda entry: (entry[0].st_mtime_ns, entry[1].name)):
            if left <= most:
                break
            path.unlink(missing_ok=True)
            left -= stat.st_size


def _parsed(line: bytes) -> tuple[str, str] | None:
    """Key and text of a record; None for a line that is not whole."""
    head, _, body = line.partition(b" ")
    if head != b"%08x" % zlib.crc32(body):
        return None
    try:
        entry = json.loads(body)
        return str(entry["key"]), json.dumps(entry["record"], sort_keys=True, separators=(",", ":"))
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
