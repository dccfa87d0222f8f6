"""External data: where the bytes of a tensor lie in a file beside the model, and how they are copied.

Source: ONNX standard, "External Tensor Data". A location is relative to the model's folder and may not leave it,
neither by ".." nor through a link, since a model file may come from anywhere.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

from onnx import TensorProto

from qcompiler.errors import ModelError

# Tensors start on a page, so that a reader can map them.
ALIGNMENT = 4096
CHUNK = 1 << 22
_ZEROS = bytes(CHUNK)


def external_span(tensor: TensorProto, base_dir: Path | None, size: int) -> tuple[Path, int, int]:
    """Where the data of an external tensor lies: file, offset and length in bytes.

    Args:
        tensor: a tensor whose data_location is EXTERNAL.
        base_dir: the model's folder.
        size: the bytes that its type and shape need.

    Raises:
        ModelError: no folder, a path that leaves it (also through a link), a missing or a short file.
    """
    fields = {entry.key: entry.value for entry in tensor.external_data}
    where = tensor.name
    if base_dir is None:
        raise ModelError("external data cannot be read from a model without a folder", where=where)
    if not fields.get("location"):
        raise ModelError("external data has no location", where=where)
    path = safe_path(base_dir, fields["location"], where)
    try:
        offset, length = int(fields.get("offset") or 0), int(fields.get("length") or size)
    except ValueError as error:
        raise ModelError("external data offset or length is not a number", where=where) from error
    if length != size:
        raise ModelError(f"external data holds {length} bytes where its type and shape need {size}", where=where)
    if offset < 0:
        raise ModelError(f"external data offset is negative: {offset}", where=where)
    if offset + length > path.stat().st_size:
        raise ModelError(
            f"external data file {path.name!r} is too short: {path.stat().st_size} bytes, needs {offset + length}",
            where=where,
        )
    return path, offset, length


def safe_path(base_dir: Path, location: str, where: str) -> Path:
    """The file that `location` names inside `base_dir`.

    Raises:
        ModelError: it is outside, or not a file.
    """
    try:
        root = base_dir.resolve()
        path = (root / location).resolve()
        inside = not Path(location).is_absolute() and path.is_relative_to(root)
        found = path.is_file()
    except (OSError, ValueError, RuntimeError) as error:  # a zero byte, too long, a loop of links
        raise ModelError(f"external data path {location!r} cannot be followed", where=where) from error
    if not inside or ".." in Path(location).parts:
        raise ModelError(
            f"external data path {location!r} leaves the model's folder",
            where=where,
            hint="put the data file beside the model",
        )
    if not found:
        raise ModelError(f"external data file {location!r} is missing", where=where, hint=f"expected in {base_dir}")
    return path


def refer(tensor: TensorProto, location: str, offset: int, length: int) -> None:
    """Makes `tensor` refer to a span of the file `location`."""
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", str(offset)), ("length", str(length))):
        tensor.external_data.add(key=key, value=value)


def read_chunks(path: Path, offset: int, length: int) -> Iterable[bytes]:
    """The bytes of a span, a few MiB at a time.

    Raises:
        ModelError: the file became shorter than it was.
    """
    with path.open("rb") as file:
        file.seek(offset)
        while length:
            chunk = file.read(min(CHUNK, length))
            if not chunk:
                raise ModelError("external data file became shorter while it was read", where=path.name)
            length -= len(chunk)
            yield chunk


def write_chunk(file: BinaryIO, chunk: bytes | memoryview) -> None:
    """Writes bytes; whole chunks of zeros become holes, so that sparse files stay sparse."""
    if len(chunk) == CHUNK and chunk == _ZEROS:
        file.seek(CHUNK, 1)
    else:
        file.write(chunk)
