"""Constant tensors: read when asked for, checked before memory is taken, never cached behind the caller's back.

The values of a `Constant` are one of three immutable things, so that copies of a model may share them:

- `Lazy`: a `TensorProto` as loaded. External data is read from the model's folder through a memory map, so that
  large weights stay on disk.
- `Held`: a NumPy array that the compiler computed.
- `Deferred`: what will be computed, from weights on disk, whenever it is asked for, and not kept.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_graphsurgeon as gs
from onnx import TensorProto, helper, numpy_helper
from onnx_graphsurgeon.ir.tensor import LazyValues

from qcompiler.errors import ModelError
from qcompiler.ir.external import external_span

if TYPE_CHECKING:
    Array = npt.NDArray[Any]

# Types that are stored packed; older versions of the onnx package know fewer of them.
_PACKED = {"INT4": 4, "UINT4": 4, "FLOAT4E2M1": 4, "INT2": 2, "UINT2": 2, "FLOAT6E2M3": 6, "FLOAT6E3M2": 6}
BITS: dict[int, int] = {number: _PACKED[name] for name, number in TensorProto.DataType.items() if name in _PACKED}

# The largest dense form that the sparse initializers of a model are expanded to, in bytes.
DENSE_LIMIT = 1 << 28


def byte_size(data_type: int, shape: Sequence[int]) -> int:
    """Bytes that `shape` values of an ONNX type take in raw form; types below 8 bits are packed."""
    bits = BITS.get(data_type) or 8 * helper.tensor_dtype_to_np_dtype(data_type).itemsize
    return (math.prod(shape) * bits + 7) // 8


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

    @property
    def external(self) -> bool:
        """Whether the data lies in a file of its own."""
        return bool(self.tensor.data_location == TensorProto.EXTERNAL)

    @property
    def nbytes(self) -> int:
        """Size in raw form; for strings the sum of their lengths."""
        if self.tensor.data_type == TensorProto.STRING:
            return sum(map(len, self.tensor.string_data))
        return byte_size(self.tensor.data_type, self.shape)

    def span(self) -> tuple[Path, int, int]:
        """File, offset and length in bytes of external data; checked on each call, since files change."""
        return external_span(self.tensor, self.base_dir, self.nbytes)

    def load(self) -> Array:
        """The values, read-only; external data is mapped, not copied, where its type needs no unpacking."""
        if not self.external:
            try:
                return np.asarray(numpy_helper.to_array(self.tensor))
            except Exception as error:  # onnx raises whatever the broken field leads to
                raise ModelError(f"initializer cannot be read: {error}", where=self.tensor.name) from error
        path, offset, length = self.span()
        if length == 0:
            return np.zeros(self.shape, self.dtype)
        mapped = np.memmap(path, np.uint8, "r", offset, (length,))
        if self.tensor.data_type in BITS:
            packed = TensorProto(data_type=self.tensor.data_type, dims=self.shape, raw_data=mapped.tobytes())
            return np.asarray(numpy_helper.to_array(packed))
        little = self.dtype.newbyteorder("<") if self.dtype.kind in "iufc" else self.dtype
        return mapped.view(little).reshape(self.shape)


class Held(LazyValues):  # type: ignore[misc]
    """An array in memory, read-only from here on."""

    def __init__(self, values: Array) -> None:
        array = np.asarray(values, order="C")  # runtimes read the memory in this order
        if array.dtype.kind in "US":
            array = array.astype(object)
        elif not array.dtype.isnative:
            array = array.astype(array.dtype.newbyteorder("="))
        self.values = array.view()
        self.values.flags.writeable = False
        self.shape = array.shape
        self.dtype = array.dtype

    @property
    def nbytes(self) -> int:
        """Size in raw form; for strings the sum of their lengths."""
        if self.dtype == object:
            return sum(len(s if isinstance(s, bytes) else s.encode()) for s in self.values.ravel())
        return byte_size(helper.np_dtype_to_tensor_dtype(self.dtype), self.shape)

    def load(self) -> Array:
        """The array itself."""
        return self.values


class Deferred(LazyValues):  # type: ignore[misc]
    """An array that is computed anew each time it is asked for, so that it takes no memory in between.

    Attributes:
        compute: gives the array; must give the same one each time.
    """

    def __init__(self, shape: Sequence[int], dtype: Any, compute: Callable[[], Array]) -> None:
        self.shape, self.dtype, self.compute = list(shape), np.dtype(dtype), compute

    @property
    def nbytes(self) -> int:
        """Size in raw form."""
        return byte_size(helper.np_dtype_to_tensor_dtype(self.dtype), self.shape)

    def load(self) -> Array:
        """The values, read-only."""
        return Held(self.compute()).values


def array(constant: gs.Constant) -> Array:
    """The values of a constant, read-only, without keeping them in the graph.

    Raises:
        ModelError: the data is not what the model says, or its file is gone.
    """
    values = constant._values
    return np.asarray(values.load() if isinstance(values, LazyValues) else values)


def nbytes(constant: gs.Constant) -> int:
    """Size in bytes as stored, without reading the values; types below 8 bits count as packed."""
    values = constant._values
    return int((values if isinstance(values, Lazy | Held | Deferred) else Held(values)).nbytes)


def is_external(constant: gs.Constant) -> bool:
    """Whether the values lie in a file beside the model."""
    return isinstance(constant._values, Lazy) and constant._values.external


def on_disk(constant: gs.Constant) -> bool:
    """Whether the values take no memory until they are asked for."""
    return is_external(constant) or isinstance(constant._values, Deferred)


def element_type(constant: gs.Constant) -> int:
    """The number of the ONNX data type."""
    values = constant._values
    return int(values.tensor.data_type if isinstance(values, Lazy) else helper.np_dtype_to_tensor_dtype(values.dtype))


def to_proto(constant: gs.Constant) -> TensorProto:
    """The constant under its present name; external data stays external. Not to be changed: it may be shared."""
    values = constant._values
    if not isinstance(values, Lazy):
        return numpy_helper.from_array(array(constant), constant.name)
    if values.tensor.name == constant.name:
        return values.tensor
    renamed = TensorProto()
    renamed.CopyFrom(values.tensor)
    renamed.name = constant.name
    return renamed


def describe(constant: gs.Constant, target: TensorProto) -> None:
    """Writes everything but the values into `target`: name, type, shape, documentation."""
    if isinstance(constant._values, Lazy):
        source = constant._values.tensor
        if source.HasField("doc_string"):
            target.doc_string = source.doc_string
        target.metadata_props.extend(source.metadata_props)
    if constant.name:
        target.name = constant.name
    target.data_type = element_type(constant)
    target.dims.extend(constant._values.shape)


def inline(constant: gs.Constant) -> TensorProto:
    """The constant with its values inside, wherever they lie now."""
    if not is_external(constant):
        return to_proto(constant)
    target = TensorProto()
    describe(constant, target)
    target.raw_data = raw(constant)
    return target


def raw(constant: gs.Constant) -> bytes:
    """The values as ONNX stores them: little-endian, row by row, types below 8 bits packed. Not for strings."""
    values = constant._values
    if isinstance(values, Lazy) and values.external:
        path, offset, length = values.span()
        with path.open("rb") as file:
            file.seek(offset)
            return file.read(length)
    if isinstance(values, Lazy) and values.tensor.HasField("raw_data"):
        return bytes(values.tensor.raw_data)
    return bytes(numpy_helper.from_array(array(constant)).raw_data)


def dense(sparse: onnx.SparseTensorProto, limit: int = DENSE_LIMIT) -> TensorProto:
    """A sparse initializer as an ordinary one.

    Raises:
        ModelError: the dense form is larger than `limit` bytes, an index lies outside the shape, or the parts disagree.
    """
    name, shape = sparse.values.name, tuple(sparse.dims)
    if any(d < 0 for d in shape):
        raise ModelError(f"sparse initializer has a negative dimension in {list(shape)}", where=name)
    if byte_size(sparse.values.data_type, shape) > limit:
        raise ModelError(f"sparse initializer of shape {list(shape)} is too large to expand", where=name)
    values, indices = Lazy(sparse.values, None).load(), Lazy(sparse.indices, None).load()
    flat = np.zeros(math.prod(shape), values.dtype)
    if indices.ndim == 2 and indices.shape == (values.size, len(shape)):
        if indices.size and ((indices < 0).any() or (indices >= np.array(shape)).any()):
            raise ModelError("sparse initializer has an index outside its shape", where=name)
        indices = indices @ np.array([math.prod(shape[i + 1 :]) for i in range(len(shape))], np.int64)
    if values.ndim != 1 or indices.shape != values.shape or indices.dtype != np.int64:
        raise ModelError("sparse initializer has values and indices that do not fit each other", where=name)
    if indices.size and (indices.min() < 0 or indices.max() >= flat.size):
        raise ModelError("sparse initializer has an index outside its shape", where=name)
    flat[indices] = values
    return numpy_helper.from_array(flat.reshape(shape), name)
