"""Quantize and dequantize, and the compile-time operations that expand weights."""

from __future__ import annotations

from typing import Any

import numpy as np

from qcompiler.backends.coreml.evaluate.table import Array, computes


def shaped(v: Any, x: Array, axis: Any) -> Array:
    """A scale or zero point that broadcasts over `x`."""
    found = np.asarray(v)
    if found.ndim == 0 or found.size == 1:
        return found.reshape(())
    form = [1] * x.ndim
    form[int(axis)] = -1
    return found.reshape(form)


@computes("quantize")
def quantize(input: Array, scale: Any, output_dtype: str, zero_point: Any = None, axis: Any = None) -> Array:
    """saturate(round(x / scale) + zero point); round half to even, as ONNX has it."""
    limit = np.iinfo(output_dtype)
    zero = 0 if zero_point is None else shaped(zero_point, input, axis).astype(np.int32)
    with np.errstate(invalid="ignore"):
        steps = np.rint(input / shaped(scale, input, axis).astype(np.float32)) + zero
    return np.clip(np.nan_to_num(steps), limit.min, limit.max).astype(output_dtype)


@computes("dequantize", "constexpr_affine_dequantize")
def dequantize(
    scale: Any, input: Any = None, quantized_data: Any = None, zero_point: Any = None, axis: Any = None
) -> Array:
    """(code - zero point) * scale"""
    codes = input if quantized_data is None else quantized_data
    zero = 0 if zero_point is None else shaped(zero_point, codes, axis).astype(np.int32)
    steps = (codes.astype(np.int32) - zero).astype(np.float32)
    return steps * shaped(scale, codes, axis).astype(np.float32)


def blocks(v: Array, shape: tuple[int, ...]) -> Array:
    """One value a block as one for each place."""
    for axis, (have, want) in enumerate(zip(v.shape, shape, strict=True)):
        if have != want:
            v = v.repeat(want // have, axis)
    return v


@computes("constexpr_blockwise_shift_scale")
def blockwise(data: Array, scale: Array, offset: Any = None) -> Array:
    """(code - offset) * scale by block"""
    codes = data.astype(np.int32)
    if offset is not None:
        codes = codes - blocks(np.asarray(offset).astype(np.int32), data.shape)
    return codes.astype(np.float32) * blocks(scale.astype(np.float32), data.shape)


@computes("constexpr_lut_to_dense")
def lut_to_dense(indices: Array, lut: Array, shape: Any = None) -> Array:
    """A table for each group, or from packed bits the one of iOS 16."""
    if shape is not None:
        wanted, bits = tuple(int(n) for n in shape), int(np.log2(lut.size))
        stream = np.unpackbits(indices.view(np.uint8).reshape(-1), bitorder="little")
        count = int(np.prod(wanted))
        codes = stream[: count * bits].reshape(count, bits) @ (1 << np.arange(bits))
        return lut.reshape(-1)[codes].reshape(wanted).astype(np.float32)
    if lut.shape[-1] != 1:
        raise ValueError("palettes of vectors")
    groups = np.indices(indices.shape)
    at = tuple(g // (n // m) for g, n, m in zip(groups, indices.shape, lut.shape[:-2], strict=True))
    return lut[(*at, indices.astype(np.int64))][..., 0].astype(np.float32)


@computes("constexpr_cast")
def constexpr_cast(source_val: Array) -> Array:
    """A type change."""
    return source_val


@computes("constexpr_sparse_to_dense")
def sparse_to_dense(nonzero_data: Array, mask: Array, shape: Any = None) -> Array:
    """Nonzero values at the places of a mask."""
    if shape is not None:
        wanted = tuple(int(n) for n in shape)
        count = int(np.prod(wanted))
        mask = np.unpackbits(mask.view(np.uint8).reshape(-1), bitorder="little")[:count].reshape(wanted)
    return placed(mask, np.asarray(nonzero_data, np.float32))


def placed(mask: Array, values: Array) -> Array:
    """Values at the places of a mask, 0 elsewhere."""
    found = np.zeros(mask.shape, values.dtype)
    found[mask.astype(bool)] = values
    return found


@computes("constexpr_sparse_blockwise_shift_scale")
def sparse_blockwise(data_mask: Array, nonzero_data: Array, scale: Array, offset: Any = None) -> list[Array]:
    """The mask, and (code - offset) * scale of what it lets through."""
    return [data_mask, blockwise(placed(data_mask, nonzero_data), scale, offset)[data_mask.astype(bool)]]


@computes("constexpr_lut_to_sparse")
def lut_to_sparse(indices_mask: Array, indices_nonzero_data: Array, lut: Array) -> list[Array]:
    """The mask, and the entries of tables at what it lets through."""
    found = lut_to_dense(placed(indices_mask, indices_nonzero_data), lut)
    return [indices_mask, found[indices_mask.astype(bool)]]
