"""The integer affine grid: `x ~ (code - zero_point) * scale`.

    code  = saturate(round_half_even(x / scale) + zero_point, qmin, qmax)
    value = float32(code - zero_point) * scale

All arithmetic is float32, division included, so that codes and values agree bit for bit with QuantizeLinear and
DequantizeLinear of ONNX (operator specification, opset 21) as ONNX Runtime computes them. NaN becomes the lowest code,
as in ONNX Runtime's x86 kernels; infinity saturates.

A scale is rank 0 (whole tensor), rank 1 with `axis` (one per index), or of the rank of the tensor with `axis` and
`block_size` (one per run of `block_size` values along `axis`; the last block may be short).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from qcompiler.errors import DataError, InternalError

F32 = npt.NDArray[np.float32]
I32 = npt.NDArray[np.int32]

SMALLEST_SCALE = float(np.finfo(np.float32).tiny)
LARGEST_SCALE = float(np.finfo(np.float32).max)
# Codes up to here are exact in float32; wider grids (int32 biases) are computed in float64.
_EXACT_IN_FLOAT32 = 2**24


def choose_qparams(
    low: npt.ArrayLike, high: npt.ArrayLike, *, qmin: int, qmax: int, symmetric: bool
) -> tuple[F32, I32]:
    """Scale and zero point of the grid qmin..qmax that covers [low, high] and 0.

    Asymmetric: scale = (high - low) / (qmax - qmin), zero point = round(qmin - low / scale), so that 0 is exact; the
    rounding shifts the covered range by at most half a step.
    Symmetric: the zero point is 0 if qmin < 0 and the middle (qmin + qmax + 1) // 2 otherwise, and
    scale = max(|low|, |high|) / (qmax - zero point): amax / 127 for int8, narrow or not, and for uint8.

    A range whose scale would be under the smallest normal float32 (all zeros, or subnormal values) gets the scale of
    the range [0, 1]: every value is then rounded to 0, and products with other scales stay normal.

    Args:
        low, high: scalars or arrays of one shape, one entry per channel; extended to include 0.
        qmin, qmax: smallest and largest code, at most 16 bits.
        symmetric: fixes the zero point.

    Returns:
        scale (float32, positive, normal, finite) and zero point (int32), of the shape of `low`; rank 0 for scalars.

    Raises:
        DataError: `low` or `high` is NaN or infinite, or `low` exceeds `high`.
    """
    if not qmin < qmax:
        raise InternalError(f"a grid from {qmin} to {qmax} has no codes")
    bottom, top = np.broadcast_arrays(np.asarray(low, np.float64), np.asarray(high, np.float64))
    if not (np.isfinite(bottom).all() and np.isfinite(top).all()):
        raise DataError("a range to quantize is not finite", hint="look for NaN or infinity in the data")
    if (bottom > top).any():
        raise DataError("a range to quantize ends before it begins")
    bottom, top = np.minimum(bottom, 0.0), np.maximum(top, 0.0)

    middle = 0 if qmin < 0 else (qmin + qmax + 1) // 2
    span, steps = (np.maximum(-bottom, top), qmax - middle) if symmetric else (top - bottom, qmax - qmin)
    exact = np.minimum(span / steps, LARGEST_SCALE)
    degenerate = exact < SMALLEST_SCALE
    scale = np.where(degenerate, 1.0 / steps, exact).astype(np.float32)
    if symmetric:
        zero_point = np.full(scale.shape, middle)
    else:
        start = np.where(degenerate, 0.0, bottom)
        zero_point = np.clip(np.rint(qmin - start / scale), qmin, qmax)
        # a scale that was rounded up must not make infinity of the last code
        furthest = np.maximum(zero_point - qmin, qmax - zero_point)
        scale = np.minimum(scale, np.nextafter((LARGEST_SCALE / furthest).astype(np.float32), np.float32(0)))
    return np.asarray(scale, np.float32), np.asarray(zero_point, np.int32)


def quantize(
    x: npt.NDArray[np.floating],
    scale: F32,
    zero_point: npt.ArrayLike,
    *,
    qmin: int,
    qmax: int,
    dtype: npt.DTypeLike,
    axis: int | None = None,
    block_size: int | None = None,
) -> npt.NDArray[np.generic]:
    """Codes of `x`, of its shape and of `dtype`."""
    steps, zero = _steps(x, scale, zero_point, qmin, qmax, axis, block_size)
    steps += zero
    return steps.astype(np.int32).astype(dtype, copy=False)


def dequantize(
    codes: npt.NDArray[np.generic],
    scale: F32,
    zero_point: npt.ArrayLike,
    *,
    axis: int | None = None,
    block_size: int | None = None,
) -> F32:
    """Float32 values of integer `codes`."""
    spread_scale, zero = spread(codes.shape, scale, zero_point, axis, block_size)
    # int64 because int32 codes minus a zero point may leave int32.
    steps = codes.astype(np.int64) - zero
    return np.asarray(steps.astype(np.float32) * spread_scale, np.float32)


def fake_quantize(
    x: npt.NDArray[np.floating],
    scale: F32,
    zero_point: npt.ArrayLike,
    *,
    qmin: int,
    qmax: int,
    axis: int | None = None,
    block_size: int | None = None,
) -> F32:
    """`dequantize(quantize(x))` without the codes in between; bit for bit the same."""
    steps, _ = _steps(x, scale, zero_point, qmin, qmax, axis, block_size)
    spread_scale, _ = spread(x.shape, scale, zero_point, axis, block_size)
    # Adding 0 turns -0.0 into the 0.0 that integer codes give.
    return np.asarray((steps.astype(np.float32, copy=False) + np.float32(0)) * spread_scale, np.float32)


def _steps(
    x: npt.NDArray[np.floating],
    scale: F32,
    zero_point: npt.ArrayLike,
    qmin: int,
    qmax: int,
    axis: int | None,
    block_size: int | None,
) -> tuple[npt.NDArray[np.floating], npt.NDArray[np.int64]]:
    """Saturated whole numbers of steps from zero, in floats, and the zero point shaped to be added to them."""
    spread_scale, zero = spread(x.shape, scale, zero_point, axis, block_size)
    kind = np.float32 if qmax - qmin < _EXACT_IN_FLOAT32 else np.float64
    with np.errstate(over="ignore", invalid="ignore"):
        steps = np.array(np.divide(x.astype(np.float32, copy=False), spread_scale, dtype=kind))
    np.rint(steps, out=steps)
    np.fmax(steps, (qmin - zero).astype(kind), out=steps)
    np.minimum(steps, (qmax - zero).astype(kind), out=steps)
    return steps, zero


def spread(
    shape: tuple[int, ...], scale: F32, zero_point: npt.ArrayLike, axis: int | None, block_size: int | None
) -> tuple[F32, npt.NDArray[np.int64]]:
    """Scale and zero point reshaped so that they broadcast over a tensor of `shape`."""
    scale, zero = np.asarray(scale, np.float32), np.asarray(zero_point).astype(np.int64)
    if zero.shape not in ((), scale.shape):
        raise InternalError(f"zero point of shape {zero.shape} beside a scale of shape {scale.shape}")
    if scale.ndim == 0:
        return scale, zero
    if axis is None or not -len(shape) <= axis < len(shape):
        raise InternalError(f"axis {axis} for a scale of shape {scale.shape} on a tensor of shape {shape}")
    axis %= len(shape)
    zero = np.broadcast_to(zero, scale.shape)
    if block_size is None:
        if scale.shape != (shape[axis],):
            raise InternalError(f"scale of shape {scale.shape} along axis {axis} of a tensor of shape {shape}")
        form = [1] * len(shape)
        form[axis] = -1
        return scale.reshape(form), zero.reshape(form)
    blocks = list(shape)
    blocks[axis] = -(-shape[axis] // block_size)
    if scale.shape != tuple(blocks):
        raise InternalError(f"scale of shape {scale.shape} for blocks of {block_size}, expected {tuple(blocks)}")
    index = np.arange(shape[axis]) // block_size
    return scale.take(index, axis), zero.take(index, axis)
