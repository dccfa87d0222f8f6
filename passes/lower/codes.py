"""What is stored of a constant, by its encoding: codes of any type and granularity, and the values they stand for.

integer types     `numerics.affine`
float types       `numerics.float_grid`
codebooks         an entry of the book: a value of a palette, or one in units of a block's scale
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import helper

from qcompiler import ir
from qcompiler.errors import InternalError
from qcompiler.numerics.affine import dequantize, quantize
from qcompiler.numerics.float_grid import dequantize_float, quantize_float
from qcompiler.quant import Encoding, PerAxis, PerBlock, PerGroup


def codes_of(tensor: ir.Constant, encoding: Encoding) -> npt.NDArray[Any]:
    """Codes of a constant."""
    if encoding.codes is not None:
        return encoding.codes.astype(np_dtype(encoding), copy=False)
    return nearest(ir.array(tensor), encoding)


def nearest(values: npt.NDArray[np.floating[Any]], encoding: Encoding) -> npt.NDArray[Any]:
    """Codes of values, each the nearest one."""
    spec, dtype = encoding.spec, np_dtype(encoding)
    axis, block = axis_of(encoding), block_of(encoding)
    if spec.qtype.kind == "float":
        high = spec.qtype.high
        return quantize_float(values, encoding.scale, high=high, dtype=dtype, axis=axis, block_size=block)
    return quantize(
        values, encoding.scale, encoding.zero_point,
        qmin=spec.low, qmax=spec.high, dtype=dtype, axis=axis, block_size=block,
    )  # fmt: skip


def values_of(codes: npt.NDArray[Any], encoding: Encoding) -> npt.NDArray[np.float32]:
    """The values that codes stand for."""
    axis, block = axis_of(encoding), block_of(encoding)
    if encoding.codebook is not None:
        codes = look_up(codes, encoding, encoding.codebook)
    if encoding.spec.qtype.kind != "int":
        return dequantize_float(codes, encoding.scale, axis=axis, block_size=block)
    return dequantize(codes, encoding.scale, encoding.zero_point, axis=axis, block_size=block)


def look_up(codes: npt.NDArray[Any], encoding: Encoding, table: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Entries of codebooks, one for each group of indices of an axis."""
    shared, codes = encoding.spec.granularity, codes.astype(np.intp)  # NumPy does not index by types of four bits
    if not isinstance(shared, PerGroup):
        return np.asarray(table[0][codes], np.float32)
    form = [-1 if i == shared.axis else 1 for i in range(codes.ndim)]
    groups = np.repeat(np.arange(len(table)), shared.size).reshape(form)
    return np.asarray(table[groups, codes], np.float32)


def axis_of(encoding: Encoding) -> int | None:
    """The axis along which scales differ; None where there is one scale in all."""
    granularity = encoding.spec.granularity
    return granularity.axis if isinstance(granularity, PerAxis | PerBlock) and encoding.scale.ndim else None


def block_of(encoding: Encoding) -> int | None:
    """How many values along the axis share a scale; None where there is no block."""
    granularity = encoding.spec.granularity
    return granularity.size if isinstance(granularity, PerBlock) and encoding.scale.ndim else None


def book_of(encoding: Encoding) -> npt.NDArray[Any] | None:
    """What codes in blocks are looked up in: whole numbers, in units of the scale; None where they are the numbers.

    Integers that lie in a wider type have a book, too: its length says how many bits they take.
    """
    if block_of(encoding) is None:
        return None
    if encoding.codebook is not None:
        return np.asarray(encoding.codebook[0], np.int8)
    bits = encoding.spec.qtype.bits
    lies_in_wider = encoding.spec.qtype.kind == "int" and bits & (bits - 1)  # types have powers of two
    return np.arange(1 << bits, dtype=np.uint8) if lies_in_wider else None


def np_dtype(encoding: Encoding) -> np.dtype[Any]:
    """NumPy type of the codes.

    Raises:
        InternalError: ONNX has no such type.
    """
    if not encoding.spec.qtype.onnx:
        raise InternalError(f"ONNX has no type {encoding.spec.qtype}")
    return helper.tensor_dtype_to_np_dtype(encoding.spec.qtype.onnx)
