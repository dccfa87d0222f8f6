"""Arrays inside an `.npz`, read row by row, so that memory does not grow with the number of rows.

An `.npz` is a zip archive of `.npy` members (NumPy documentation, `numpy.lib.format`): magic, version, a header
(type, order, shape), then the values. `numpy.load` reads a member whole; here the zip member is a stream and
each block of rows is read when it is asked for. Stored and deflated members both work.

The file is not trusted. Nothing is unpickled. Before memory is taken three claims must agree: the shape times the
item size in the header, the member's size in the zip directory, and its compressed size in the file (deflate cannot
expand more than 1032 times).
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from qcompiler.data.reading import reading
from qcompiler.data.sample import Array
from qcompiler.errors import DataError

_CHUNK = 1 << 20
_DEFLATE_LIMIT = 1032
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


@dataclass(frozen=True)
class NpyMember:
    """One array of an archive: its shape and type are known, its values are still in the file."""

    archive: Path
    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def where(self) -> str:
        return f"{self.archive}[{self.name!r}]"

    def blocks(self, rows: int) -> Iterator[Array]:
        """Consecutive blocks of `rows` rows, shape (rows, *shape[1:]); rows left over at the end are not given."""
        with self._values() as stream:
            for _ in range(self.shape[0] // rows):
                yield self._read(stream, (rows, *self.shape[1:]))

    def whole(self, opened: zipfile.ZipFile | None = None) -> Array:
        """The array; `opened` is the archive, where it is open already (opening it reads its whole directory)."""
        with self._values(opened) as stream:
            return self._read(stream, self.shape)

    @contextmanager
    def _values(self, opened: zipfile.ZipFile | None = None) -> Iterator[IO[bytes]]:
        with reading(self.where):
            archive = opened or zipfile.ZipFile(self.archive)
        with archive if opened is None else nullcontext():
            with reading(self.where):
                info = archive.getinfo(f"{self.name}.npy")
                stream = archive.open(info)
            with stream:
                if _header(stream, info, self.where) != (self.shape, self.dtype):
                    raise DataError("changed while it was in use", where=self.where)
                yield stream

    def _read(self, stream: IO[bytes], shape: tuple[int, ...]) -> Array:
        with reading(self.where):
            block = np.empty(shape, self.dtype)
            raw = block.reshape(-1).view(np.uint8)
            done = 0
            while done < raw.size:
                part = stream.read(min(_CHUNK, raw.size - done))
                if not part:
                    raise DataError("ends before its last value", where=self.where)
                raw[done : done + len(part)] = np.frombuffer(part, np.uint8)
                done += len(part)
        return block


def npz_members(path: Path) -> dict[str, NpyMember]:
    """The arrays of an archive by name, in the archive's order; only headers are read.

    Raises:
        DataError: not an `.npz`, damaged, a member that is no plain array, or sizes that contradict each other.
    """
    hint = "an .npz as numpy.savez or numpy.savez_compressed writes it is expected"
    members: dict[str, NpyMember] = {}
    with reading(str(path), hint):
        archive, size = zipfile.ZipFile(path), path.stat().st_size
    with archive:
        for info in archive.infolist():
            name = info.filename.removesuffix(".npy")
            where = f"{path}[{name!r}]"
            if name == info.filename:
                raise DataError(f"holds {name!r}, which is not an .npy array", where=str(path), hint=hint)
            if name in members:
                raise DataError("is in the archive twice", where=where)
            if info.flag_bits & 1 or info.compress_type not in _METHODS:
                raise DataError("is encrypted, or compressed by another method than deflate", where=where, hint=hint)
            most = info.compress_size * (_DEFLATE_LIMIT if info.compress_type == zipfile.ZIP_DEFLATED else 1)
            if info.compress_size > size or info.file_size > most:
                raise DataError(f"claims {info.file_size} bytes, which its archive cannot hold", where=where)
            with reading(where):
                stream = archive.open(info)
            with stream:
                members[name] = NpyMember(path, name, *_header(stream, info, where))
    return members


def _header(stream: IO[bytes], info: zipfile.ZipInfo, where: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Shape and type; leaves the stream at the first value."""
    with reading(where):
        version = np.lib.format.read_magic(stream)
        if version not in ((1, 0), (2, 0), (3, 0)):
            raise DataError(f"has the unknown .npy version {version}", where=where)
        # Version 3 differs from 2 only in the field names of records, which no model takes.
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(stream)
        length = stream.tell()
    if dtype.hasobject:
        raise DataError("holds Python objects, which are never unpickled", where=where, hint="save numbers")
    if dtype.names is not None or dtype.subdtype is not None or not dtype.itemsize:
        raise DataError(f"holds values of type {dtype}, which no model takes", where=where)
    if fortran:
        raise DataError("is in Fortran order", where=where, hint="save np.ascontiguousarray(array)")
    if any(dim < 0 for dim in shape):
        raise DataError(f"claims the shape {shape}", where=where)
    claimed = math.prod(shape) * dtype.itemsize
    if claimed != info.file_size - length:
        raise DataError(
            f"claims {claimed} bytes by its shape, but the archive holds {info.file_size - length}", where=where
        )
    return tuple(int(dim) for dim in shape), dtype
