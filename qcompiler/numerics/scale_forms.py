"""The forms that scales are stored in.

    f32     as they are
    f16     the nearest float16; as they are where one of them is no normal float16, which would cost digits
    half    the nearest float16, for targets that store no other; where one of them is a normal float16, smaller ones
            become the least normal one: steps then are finer than elsewhere in the tensor, if coarser than wished
    pow2    2^ceil(log2 s)
    e8m0    the same, from 2^-126 to 2^127 (OCP Microscaling Formats 1.0, scale type)
    e4m3    e4m3(s / g) * g, at least one step: FP8 numbers with one float32 factor g = max(s) / 448 for all
            (two-level scales of NVFP4)

Every form is a fixed point of itself, so a rounded scale gives back the numbers that are stored.
"""

from __future__ import annotations

import numpy as np

from qcompiler.errors import InternalError
from qcompiler.numerics.affine import F32

E4M3_HIGH = np.float32(448)
# Smallest FP8 number, 2^-9: a scale under it would be stored as 0.
_E4M3_STEP = np.float32(2.0**-9)
_F16_LEAST = np.float32(2.0**-24)
_F16_NORMAL, _F16_HIGH = np.float32(2.0**-14), np.float32(65504)


def rounded_scale(scale: F32, form: str) -> F32:
    """Scales in the form they are stored in; positive ones stay positive."""
    match form:
        case "f32":
            return scale
        case "f16":
            return np.asarray(scale.astype(np.float16), np.float32) if fits_half(scale) else scale
        case "half":
            least = _F16_NORMAL if np.max(scale, initial=0.0) >= _F16_NORMAL else _F16_LEAST
            held = np.clip(scale, least, _F16_HIGH).astype(np.float16)
            return np.asarray(held, np.float32)
        case "pow2" | "e8m0":
            mantissa, exponent = np.frexp(scale)
            power = np.where(mantissa == 0.5, exponent - 1, exponent)
            return np.asarray(np.ldexp(np.float32(1), np.clip(power, -126, 127)), np.float32)
        case "e4m3":
            codes, factor = two_levels(scale)
            return np.asarray(codes * factor, np.float32)
    raise InternalError(f"unknown form of scales {form!r}")


def fits_half(scale: F32) -> bool:
    """Whether all scales are normal float16 numbers, to rounding."""
    return bool(np.min(scale, initial=1.0) >= _F16_NORMAL and np.max(scale, initial=1.0) <= _F16_HIGH)


def two_levels(scale: F32) -> tuple[F32, F32]:
    """FP8 numbers of the shape of `scale`, as float32, and the factor of all, of rank 0."""
    from ml_dtypes import float8_e4m3fn

    factor = np.asarray(np.max(scale, initial=0.0) / E4M3_HIGH, np.float32)
    if factor < np.finfo(np.float32).tiny:
        factor = np.asarray(np.finfo(np.float32).tiny, np.float32)
    codes = np.clip(scale / factor, _E4M3_STEP, E4M3_HIGH).astype(float8_e4m3fn).astype(np.float32)
    return codes, factor
