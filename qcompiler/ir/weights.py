"""Constant tensors: read when asked for, checked before memory is taken, never cached behind the caller's back.

A `Constant` of the graph holds either a NumPy array or a `Lazy`, which wraps the `TensorProto` as loaded. A `Lazy`
whose data is external reads it from the model's folder through a memory map, so that large weights stay on disk.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_graphsurgeon as gs
from onnx import TensorProto, helper, numpy_helper
from onnx_graphsurgeon.ir.tensor import LazyValues

from qcompiler.errors import ModelError

if TYPE_CHECKING:
    Array = npt.NDArray[Any]

BITS: dict[int, int] = {
    TensorProto.INT4: 4, TensorProto.UINT4: 4, TensorProto.FLOAT4E2M1: 4, TensorProto.INT2: 2, TensorProto.UINT2: 2,
}  # fmt: skip


def byte_size(data_type: int, shape: tuple[int, ...]) -> int:
    """Bytes that `shape` values of an ONNX type take in raw form; sub-byte types are packed."""
    count = int(np.prod(shape, dtype=object)) if shape else 1
    bits = BITS.get(data_type) or 8 * helper.tensor_dtype_to_np_dtype(data_type).itemsize
    return (count * bits + 7) // 8


class Lazy(LazyValues):  # type: ignore[misc]
    """A `TensorProto` that becomes an array when asked.

    Attributes:
        tensor: the proto as loaded; never changed.
        base_dir: the model's folder, where external data lies.
    """

    def __init__(self, tensor: TensorProto, base_dir: Path | None) -> None:
        self.tensor = tensor
        self.base_dir = base_dir
        self.shape = list(tensor.dims)
        self.dtype = helper.tensor_dtype_to_np_dtype(tensor.data_type)
        self.nbytes = 0 if tensor.data_type == TensorProto.STRING else byte_size(tensor.data_type, tuple(tensor.dims))

    @property
    def external(self) -> bool:
        """Whether the data lies in a file of its own."""
        return bool(self.tensor.data_location == TensorProto.EXTERNAL)

    def load(self) -> Array:
        """The values; external data is mapped, not copied, where its type needs no unpacking."""
        if not self.external:
            try:
                return np.asarray(numpy_helper.to_array(self.tensor))
            except Exception as error:  # onnx raises whatever the broken field leads to
                raise ModelError(f"initializer cannot be read: {error}", where=self.tensor.name) from error
        path, offset, length = external_span(self.tensor, self.base_dir)
        shape = tuple(self.tensor.dims)
        if 0 in shape or length == 0:
            return np.zeros(shape, self.dtype)
        if self.tensor.data_type in BITS:
            packed = TensorProto(data_type=self.tensor.data_type, dims=self.tensor.dims)
            packed.raw_data = np.memmap(path, np.uint8, "r", offset, (length,)).tobytes()
            return np.asarray(numpy_helper.to_array(packed))
        little = self.dtype.newbyteorder("<") if self.dtype.kind in "iufc" else self.dtype
        return np.memmap(path, np.uint8, "r", offset, (length,)).view(little).reshape(shape)


def external_span(tensor: TensorProto, base_dir: Path | None) -> tuple[Path, int, int]:
    """Where the data of an external tensor lies: file, offset and length in bytes.

    Raises:
        ModelError: no folder, a path that leaves it (also through a link), a missing or a short file.
    """
    fields = {entry.key: entry.value for entry in tensor.external_data}
    where = tensor.name
    if base_dir is None:
        raise ModelError("external data cannot be read from a model without a folder", where=where)
    location = fields.get("location", "")
    root = base_dir.resolve()
    if not location or Path(location).is_absolute() or not (root / location).resolve().is_relative_to(root):
        raise ModelError(
            f"external data path {location!r} leaves the model's folder",
            where=where,
            hint="put the data file beside the model",
        )
    path = (root / location).resolve()
    if not path.is_file():
        raise ModelError(f"external data file {location!r} is missing", where=where, hint=f"expected at {path}")
    size = byte_size(tensor.data_type, tuple(tensor.dims))
    try:
        offset, length = int(fields.get("offset") or 0), int(fields.get("length") or size)
    except ValueError as error:
        raise ModelError("external data offset or length is not a number", where=where) from error
    if length != size:
        raise ModelError(f"external data holds {length} bytes where its shape needs {size}", where=where)
    if offset < 0 or offset + length > path.stat().st_size:
        raise ModelError(
            f"external data file {location!r} is too short: {path.stat().st_size} bytes, needs {offset + length}",
            where=where,
        )
    return path, offset, length


def array(constant: gs.Constant) -> Array:
    """The values of a constant, without keeping them in the graph."""
    values = constant._values
    return np.asarray(values.load() if isinstance(values, LazyValues) else values)


def nbytes(constant: gs.Constant) -> int:
    """Size in bytes as stored, without reading the values."""
    values = constant._values
    if isinstance(values, Lazy):
        return int(values.nbytes)
    return byte_size(helper.np_dtype_to_tensor_dtype(values.dtype), values.shape) if values.dtype != object else 0


def to_proto(constant: gs.Constant) -> TensorProto:
    """The constant as a `TensorProto` under its present name; a lazy one is passed through untouched."""
    values = constant._values
    if not isinstance(values, Lazy):
        # from_array packs int4 and its kin; ascontiguousarray would turn rank 0 into rank 1
        return numpy_helper.from_array(np.asarray(values, order="C"), constant.name)
    tensor: TensorProto = values.tensor
    if tensor.name == constant.name:
        return tensor
    renamed = TensorProto()
    renamed.CopyFrom(tensor)
    renamed.name = constant.name
    return renamed


def dense(sparse: onnx.SparseTensorProto, limit: int = 2**31) -> TensorProto:
    """A sparse initializer as an ordinary one.

    Raises:
        ModelError: the dense form is larger than `limit` bytes, or an index lies outside the shape.
    """
    name, shape = sparse.values.name, tuple(sparse.dims)
    if byte_size(sparse.values.data_type, shape) > limit or any(d < 0 for d in shape):
        raise ModelError(f"sparse initializer of shape {list(shape)} is too large to expand", where=name)
    values, indices = numpy_helper.to_array(sparse.values), numpy_helper.to_array(sparse.indices)
    if indices.ndim == 2:
        indices = np.ravel_multi_index(tuple(indices.T), shape, mode="clip") if indices.size else indices.reshape(-1)
    flat = np.zeros(int(np.prod(shape)), values.dtype)
    if indices.size and (indices.min() < 0 or indices.max() >= flat.size):
        raise ModelError("sparse initializer has an index outside its shape", where=name)
    flat[indices] = values
    return numpy_helper.from_array(flat.reshape(shape), name)
