"""The float grids, FP8 and FP4: `x ~ code * scale`, code a small floating-point number.

    code  = round_half_even(saturate(x / scale, -high, high))      to the nearest number of the type
    value = float32(code) * scale
    scale = max |x| / high                                         high = 448 (E4M3), 57344 (E5M2), 6 (E2M1)

Steps are relative, so a larger scale costs little; where within an octave it lies decides which values fall where steps
are finest. `phase` looks for the place of least squared error.

Arithmetic is float32, so that codes and values agree bit for bit with QuantizeLinear (saturate = 1) and
DequantizeLinear of ONNX (operator specification, opset 23). Scales have the shapes of `affine.py`. Types: OCP 8-bit
Floating Point Specification 1.0, OCP Microscaling Formats 1.0.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from qcompiler.errors import DataError
from qcompiler.numerics.affine import F32, LARGEST_SCALE, SMALLEST_SCALE, spread
from qcompiler.numerics.histogram import Histogram

PHASES: F32 = np.asarray(2.0 ** (np.arange(8) / 8), np.float32)
"""Factors on max |x| / high within an octave."""


def phase(hist: Histogram, amax: float, *, high: float, dtype: npt.DTypeLike) -> float:
    """The factor on `amax` of least expected squared error."""
    low, top, counts = hist.bins()
    values = np.asarray((low + top) / 2, np.float32)
    errors = []
    for factor in PHASES:
        scale = choose_scale(amax * factor, high=high)
        stored = dequantize_float(quantize_float(values, scale, high=high, dtype=dtype), scale)
        errors.append(float((np.square(stored.astype(np.float64) - values) * counts).sum()))
    return float(PHASES[int(np.argmin(errors))])


def choose_scale(amax: npt.ArrayLike, *, high: float) -> F32:
    """The scale that puts `amax` on the largest number of the type; that of [0, 1] where there is nothing to scale.

    Raises:
        DataError: `amax` is NaN or infinite.
    """
    top = np.asarray(amax, np.float64)
    if not np.isfinite(top).all():
        raise DataError("a range to quantize is not finite", hint="look for NaN or infinity in the data")
    exact = np.minimum(top / high, LARGEST_SCALE)
    return np.asarray(np.where(exact < SMALLEST_SCALE, 1.0 / high, exact), np.float32)


def quantize_float(
    x: npt.NDArray[np.floating],
    scale: F32,
    *,
    high: float,
    dtype: npt.DTypeLike,
    axis: int | None = None,
    block_size: int | None = None,
) -> npt.NDArray[np.generic]:
    """Codes of `x`, of its shape and of `dtype`, one of the float types of `ml_dtypes`."""
    wide, _ = spread(x.shape, scale, 0, axis, block_size)
    with np.errstate(over="ignore", invalid="ignore"):
        steps = np.divide(x.astype(np.float32, copy=False), wide, dtype=np.float32)
    return np.asarray(np.clip(steps, np.float32(-high), np.float32(high)).astype(dtype))


def dequantize_float(
    codes: npt.NDArray[np.generic], scale: F32, *, axis: int | None = None, block_size: int | None = None
) -> F32:
    """Float32 values of `codes`."""
    wide, _ = spread(codes.shape, scale, 0, axis, block_size)
    return np.asarray(codes.astype(np.float32) * wide, np.float32)
