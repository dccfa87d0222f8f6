"""The forms that scales are stored in.

    f32     as they are
    f16     the nearest float16, under 2^-14 with fewer digits, which cost nothing: codes are chosen for what is stored.
            Ones under 2^-20 become that beside one of 2^-14 or more; else, and beyond float16, all stay as they are
    half    the nearest float16, for targets that store no other; where one of them is a normal float16, smaller ones
            become the least normal one: steps then are finer than elsewhere in the tensor, if coarser than wished
    pow2    2^ceil(log2 s)
    e8m0    the same, from 2^-126 to 2^127 (OCP Microscaling Formats 1.0, scale type)
    e4m3    e4m3(s / g) * g, at least one step: FP8 numbers with one float32 factor g = max(s) / 448 for all
            (two-level scales of NVFP4)

Every form is a fixed point of itself, so a rounded scale gives back the numbers that are stored. `Held` is what scales
that are fitted can become: e8m0 the nearest power of two, e4m3 with the factor that the largest scale gave it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from qcompiler.errors import InternalError
from qcompiler.numerics.affine import F32

E4M3_HIGH = np.float32(448)
# Smallest FP8 number, 2^-9: a scale under it would be stored as 0.
_E4M3_STEP = np.float32(2.0**-9)
_F16_LEAST, _F16_COARSE = np.float32(2.0**-24), np.float32(2.0**-20)
_F16_NORMAL, _F16_HIGH = np.float32(2.0**-14), np.float32(65504)


def rounded_scale(scale: F32, form: str) -> F32:
    """Scales in the form they are stored in; positive ones stay positive."""
    match form:
        case "f32":
            return scale
        case "f16":
            held = np.maximum(scale, _F16_COARSE) if np.max(scale, initial=0.0) >= _F16_NORMAL else scale
            there = np.min(held, initial=1.0) >= _F16_COARSE and np.max(held, initial=1.0) <= _F16_HIGH
            return np.asarray(held.astype(np.float16), np.float32) if there else scale
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


@dataclass(frozen=True)
class Held:
    """The scales that a form holds beside each other, some of either sign.

    Attributes:
        form: one of those above.
        factor: of e4m3.
    """

    form: str = "f32"
    factor: float = 1.0

    @staticmethod
    def of(form: str, scale: F32) -> Held:
        """Those of a form where one of `scale` is the largest."""
        return Held(form, float(two_levels(scale)[1]) if form == "e4m3" else 1.0)

    def nearest(self, scale: F32) -> F32:
        """The nearest ones."""
        match self.form:
            case "f32":
                return scale
            case "half":
                return _nearest_half(scale)
            case "e8m0":
                above = rounded_scale(np.abs(scale), "e8m0")
                return np.where(np.abs(scale) < above * np.float32(0.75), above / 2, above)
            case "e4m3":
                return np.asarray(_e4m3(np.abs(scale) / np.float32(self.factor)) * np.float32(self.factor), np.float32)
        raise InternalError(f"no scales are fitted in the form {self.form!r}")

    def moved(self, scale: F32, wanted: F32) -> F32:
        """`scale`, moved to the nearest of `wanted` where that brings it nearer; what the factor comes from stays."""
        found = self.nearest(wanted)
        nearer = np.abs(found - wanted) < np.abs(scale - wanted)
        if self.form == "e4m3":
            nearer &= scale < E4M3_HIGH * np.float32(self.factor)
        return np.where(nearer, found, scale)


FREE = Held()
"""As they are."""


def _nearest_half(scale: F32) -> F32:
    """float16, none of them zero or infinite."""
    info = np.finfo(np.float16)
    with np.errstate(over="ignore"):
        half = scale.astype(np.float16)
    half = np.where(half == 0, np.copysign(info.smallest_subnormal, scale).astype(np.float16), half)
    return np.asarray(np.clip(half, info.min, info.max), np.float32)


def fits_half(scale: F32) -> bool:
    """Whether all scales are float16 numbers, normal ones to rounding."""
    there = (scale >= _F16_NORMAL) & (scale <= _F16_HIGH)
    return bool((there | (scale == _nearest_half(scale))).all())


def two_levels(scale: F32) -> tuple[F32, F32]:
    """FP8 numbers of the shape of `scale`, as float32, and the factor of all, of rank 0."""
    factor = np.asarray(np.max(scale, initial=0.0) / E4M3_HIGH, np.float32)
    if factor < np.finfo(np.float32).tiny:
        factor = np.asarray(np.finfo(np.float32).tiny, np.float32)
    return _e4m3(scale / factor), factor


def _e4m3(scale: npt.NDArray[np.floating]) -> F32:
    from ml_dtypes import float8_e4m3fn

    return np.asarray(np.clip(scale, _E4M3_STEP, E4M3_HIGH).astype(float8_e4m3fn), np.float32)
