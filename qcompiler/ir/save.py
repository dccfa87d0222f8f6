"""A `Model` becomes files, or bytes and arrays for a session; the same model gives the same bytes.

Weights go into one file beside the model where they came from such a file, or where the model would come near the 2 GiB
that protobuf can hold. They are copied in pieces of a few MiB, never held as a whole. The model file itself is written
field by field, so that weights inside it are not copied twice more.
"""

from __future__ import annotations

import copy
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import onnx_graphsurgeon as gs
from onnx import GraphProto, ModelProto, TensorProto, numpy_helper

from qcompiler.errors import ModelError, OutputError
from qcompiler.ir.exporter import declared, export_graph
from qcompiler.ir.external import ALIGNMENT, CHUNK, read_chunks, refer, write_chunk
from qcompiler.ir.model import Model
from qcompiler.ir.weights import (
    BITS,
    Deferred,
    Held,
    Lazy,
    array,
    describe,
    element_type,
    inline,
    is_external,
    nbytes,
    on_disk,
    raw,
)

# Weights up to this size stay in the model file in any case, so that shape inference can read them.
SMALL = 1024
EXTERNAL_ABOVE = 3 << 29

Span = tuple[int, int]


def save(model: Model, path: str | os.PathLike[str], *, external_above: int = EXTERNAL_ABOVE) -> list[Path]:
    """Writes the model, and its large weights to `<name>.data` beside it where they need a file of their own.

    Existing files of these names are replaced once the new ones are complete.

    Args:
        model: left as it is.
        path: the model file; its folder must exist.
        external_above: total size of the weights in bytes from which they leave the model file.

    Returns:
        The files written, the model first.

    Raises:
        OutputError: the files cannot be written, or the model itself is too large for one.
        ModelError: external data of the model is no longer there.
    """
    target = Path(path)
    data = target.with_name(target.name + ".data")
    leaving = [c for c in model.tensors() if _leaves(c)] if _needs_file(model, external_above) else []
    if any(_same_file(c._values.span()[0], data) for c in leaving if is_external(c)):
        raise OutputError("the model still reads its weights from this file", where=str(data), hint="write elsewhere")
    parts = [file.with_name(f".{file.name}.partial") for file in (target, data)]
    try:
        spans: dict[int, Span] = {}
        if leaving:
            with parts[1].open("wb") as stream:
                spans = _write_data(leaving, stream)
        with parts[0].open("wb") as stream:
            write_model(model, stream, lambda c: _stored(c, data.name, spans))
        written = [target, data] if leaving else [target]
        for part, file in zip(reversed(parts[: len(written)]), reversed(written), strict=True):
            part.replace(file)
    except OSError as error:
        raise OutputError(f"cannot be written: {error.strerror or error}", where=str(target)) from error
    finally:
        for part in parts:
            _remove(part)
    return written


def serialized(model: Model, *, external_above: int = EXTERNAL_ABOVE) -> tuple[bytes, dict[str, npt.NDArray[Any]]]:
    """The model for ONNX Runtime without files: its bytes, and the weights that are not in them, by name.

    Weights on disk come as memory maps, and so do not count as memory until read. Give each to the session options:

        value = OrtValue.ortvalue_from_numpy_with_onnx_type(a.view(f"u{a.itemsize}"), np_dtype_to_tensor_dtype(a.dtype))
        options.add_external_initializers([name, ...], [value, ...])

    ONNX Runtime copies them (seen with 1.31: 200 MB of weights raise the process by 209 MB) and afterwards needs
    neither the arrays nor the options. Only initializers of the main graph can be given so; others, strings, and types
    below 8 bits are in the bytes.

    Args:
        model: left as it is.
        external_above: total size of the weights in memory, in bytes, from which the large ones leave the bytes too.

    Raises:
        ModelError: what must be in the bytes is more than protobuf can hold.
    """
    crowded = sum(nbytes(c) for c in model.tensors() if not on_disk(c)) > external_above
    main = set(map(id, declared(model.graph)))
    arrays: dict[str, npt.NDArray[Any]] = {}

    def store(constant: gs.Constant) -> TensorProto:
        apart = _leaves(constant) and element_type(constant) not in BITS and id(constant) in main
        if not apart or not (crowded or on_disk(constant)):
            return inline(constant)
        arrays[constant.name] = array(constant)
        return _stored(constant, "weights", {id(constant): (0, nbytes(constant))})

    try:
        return model.to_proto(store).SerializeToString(deterministic=True), arrays
    except Exception as error:  # protobuf's own EncodeError, which differs between its implementations
        if isinstance(error, ModelError):
            raise
        raise ModelError("model without its large weights is more than protobuf can hold") from error


def _leaves(constant: gs.Constant) -> bool:
    return nbytes(constant) > SMALL and element_type(constant) != TensorProto.STRING


def _needs_file(model: Model, limit: int) -> bool:
    tensors = list(model.tensors())
    return any(map(on_disk, tensors)) or sum(map(nbytes, tensors)) > limit


def _stored(constant: gs.Constant, location: str, spans: dict[int, Span]) -> TensorProto:
    """The constant as a reference where it has a span, else with its values inside."""
    span = spans.get(id(constant))
    if span is None:
        return inline(constant)
    tensor = TensorProto()
    describe(constant, tensor)
    refer(tensor, location, *span)
    return tensor


def _write_data(constants: list[gs.Constant], stream: BinaryIO) -> dict[int, Span]:
    """Writes the values of each constant from the start of a page on; where each one lies."""
    spans: dict[int, Span] = {}
    end = 0
    for constant in constants:
        start = -(-end // ALIGNMENT) * ALIGNMENT
        stream.seek(start)
        for piece in pieces(constant):
            write_chunk(stream, piece)
        end = start + nbytes(constant)
        spans[id(constant)] = (start, end - start)
    stream.truncate(end)
    return spans


def pieces(constant: gs.Constant) -> Iterator[bytes | memoryview]:
    """The values in raw form, a few MiB at a time where they lie on disk or were computed."""
    values = constant._values
    if isinstance(values, Lazy) and values.external:
        yield from read_chunks(*values.span())
    elif isinstance(values, Deferred | Held) and values.dtype != object and sys.byteorder == "little":
        flat, packed = values.load().reshape(-1), element_type(constant) in BITS
        step = CHUNK if packed else max(1, CHUNK // flat.itemsize)  # what is packed fills whole bytes
        for start in range(0, flat.size, step):
            piece = flat[start : start + step]
            yield numpy_helper.from_array(piece).raw_data if packed else piece.view(np.uint8).data
    else:
        yield raw(constant)


def write_model(model: Model, stream: BinaryIO, store: Callable[[gs.Constant], TensorProto]) -> None:
    """Writes what `model.to_proto(store).SerializeToString()` would give, with one initializer in memory at a time.

    Source: Protocol Buffers encoding. A message is a sequence of (tag, length, payload), here in order of field number.
    """
    own = declared(model.graph)
    graph = GraphProto()
    export_graph(model.graph, graph, store, initializers=False)
    tensor_field = GraphProto.DESCRIPTOR.fields_by_name["initializer"].number
    graph_field = ModelProto.DESCRIPTOR.fields_by_name["graph"].number
    before, after = _split(graph, tensor_field)
    header_before, header_after = _split(model.head(), graph_field)
    sizes = [store(constant).ByteSize() for constant in own]
    total = len(before) + len(after) + sum(len(_prefix(tensor_field, size)) + size for size in sizes)
    if total + len(header_before) + len(header_after) >= 1 << 31:
        raise OutputError("the model is larger than the 2 GiB that protobuf can hold")
    stream.writelines([header_before, _prefix(graph_field, total), before])
    for constant, size in zip(own, sizes, strict=True):
        stream.write(_prefix(tensor_field, size))
        stream.write(store(constant).SerializeToString(deterministic=True))
    stream.writelines([after, header_after])


def _split(message: Any, number: int) -> Iterator[bytes]:
    """The bytes of a message's fields before, and of those after, a field number."""
    for after in (False, True):
        part = copy.copy(message)
        for entry, _ in message.ListFields():
            if entry.number == number or (entry.number > number) != after:
                part.ClearField(entry.name)
        yield part.SerializeToString(deterministic=True)


def _prefix(number: int, length: int) -> bytes:
    """Tag and length of a field that holds a message."""
    return _varint(number << 3 | 2) + _varint(length)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def _same_file(a: Path, b: Path) -> bool:
    return b.exists() and a.samefile(b)


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError:
        return
