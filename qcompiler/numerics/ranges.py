"""Ranges of activations, all computed from one histogram.

    method(hist, qmin=, qmax=, symmetric=) -> (low, high)

| method     | range                                                                   |
|------------|-------------------------------------------------------------------------|
| minmax     | everything that was seen                                                |
| percentile | the middle 99.99 %                                                      |
| entropy    | least Kullback-Leibler divergence (`entropy_range.py`)                  |
| mse        | least expected squared error (`mse_range.py`)                           |
| auto       | minmax where the best clip gains less than 5 %, else mse; clipping      |
|            | counts twice                                                            |

Every result holds 0 and lies within [minimum, maximum] extended to 0; an empty histogram gives (0, 0). With `symmetric`
the grid spans [-T, T], T = max(-low, high). `choose_qparams` turns a range into scale and zero point.
"""

# Every method has the one signature of METHODS, whether it looks at the grid or not.
# ruff: noqa: ARG001

from __future__ import annotations

import hashlib
from typing import Protocol

import numpy as np

from qcompiler.numerics.affine import choose_qparams
from qcompiler.numerics.entropy_range import entropy
from qcompiler.numerics.histogram import F64, I64, Histogram
from qcompiler.numerics.mse_range import mse
from qcompiler.numerics.noise import GridNoise, expected_error

__all__ = ["METHODS", "RangeMethod", "auto", "entropy", "expected_error", "minmax", "mse", "percentile", "range_of"]

_WIDE_ENOUGH = 1.05
# Weight of errors of clipping.
_CLIPPING = 2.0
# Ranges that are remembered.
_MANY = 1 << 16


class RangeMethod(Protocol):
    """Signature of every range method."""

    def __call__(self, hist: Histogram, *, qmin: int, qmax: int, symmetric: bool) -> tuple[float, float]: ...


def minmax(hist: Histogram, *, qmin: int, qmax: int, symmetric: bool) -> tuple[float, float]:
    """The exact extremes."""
    if hist.finite_count == 0:
        return (0.0, 0.0)
    return min(hist.minimum, 0.0), max(hist.maximum, 0.0)


def percentile(
    hist: Histogram, *, qmin: int, qmax: int, symmetric: bool, percent: float = 99.99
) -> tuple[float, float]:
    """The middle `percent` of the values: half of the rest is cut on each side, or all of it from |x| if symmetric."""
    if hist.finite_count == 0:
        return (0.0, 0.0)
    low, high, counts = hist.bins()
    cut = 1 - percent / 100
    if symmetric:
        near, far = np.minimum(np.abs(low), np.abs(high)), np.maximum(np.abs(low), np.abs(high))
        order = np.argsort(near, kind="stable")
        bound = _quantile(near[order], far[order], counts[order], 1 - cut)
        return max(min(hist.minimum, 0.0), -bound), min(max(hist.maximum, 0.0), bound)
    return min(_quantile(low, high, counts, cut / 2), 0.0), max(_quantile(low, high, counts, 1 - cut / 2), 0.0)


def _quantile(low: F64, high: F64, counts: I64, fraction: float) -> float:
    """The value below which `fraction` of the counts lie, linear within a bin."""
    below = np.cumsum(counts)
    target = fraction * below[-1]
    at = min(int(np.searchsorted(below, target)), below.size - 1)
    inside = 1 - (below[at] - target) / counts[at]
    return float(low[at] + (high[at] - low[at]) * inside)


def auto(hist: Histogram, *, qmin: int, qmax: int, symmetric: bool) -> tuple[float, float]:
    """Least expected squared error, unless min-max is within 5 % of it.

    Long tails are clipped where that pays. Bounded data (Clip, Sigmoid, HardSwish at its lower end) holds many values
    at its bound, so clipping cannot pay and the whole range stays; and a gain too small to matter is not bought with
    values cut off.

    An error of clipping counts twice. Rounding errs up as often as down and averages out where values are summed;
    clipping errs in one direction, at neighbouring places alike, and more on data that was not seen. Weights from 1 to
    64 were tried on whole networks (two classifiers with squeeze-excite and depthwise layers, two without, two
    detectors), judged on samples that ranges did not come from: 1 is best where ranges come from many samples and
    channels differ much, 8 for a detector calibrated on ten images; 2 is within 0.5 dB of the best on most.
    """
    wide = minmax(hist, qmin=qmin, qmax=qmax, symmetric=symmetric)
    tight = mse(hist, qmin=qmin, qmax=qmax, symmetric=symmetric, clipping=_CLIPPING)
    lows, highs = np.array([wide, tight]).T
    scale, zero_point = choose_qparams(lows, highs, qmin=qmin, qmax=qmax, symmetric=symmetric)
    widely, tightly = GridNoise.of(hist)(scale, zero_point, qmin=qmin, qmax=qmax, clipping=_CLIPPING)
    return wide if widely <= _WIDE_ENOUGH * tightly else tight


METHODS: dict[str, RangeMethod] = {
    "minmax": minmax,
    "percentile": percentile,
    "entropy": entropy,
    "mse": mse,
    "auto": auto,
}


_KNOWN: dict[tuple[object, ...], tuple[float, float]] = {}


def range_of(method: str, hist: Histogram, *, qmin: int, qmax: int, symmetric: bool) -> tuple[float, float]:
    """The range by a method, searched once for each content of a histogram: candidates ask for the same ones again."""
    used = np.flatnonzero(hist.counts)
    content = hashlib.blake2b(used.tobytes() + hist.counts[used].tobytes(), digest_size=16).digest()
    key = (method, qmin, qmax, symmetric, content, hist.minimum, hist.maximum, hist.total)
    if key not in _KNOWN:
        found = METHODS[method](hist, qmin=qmin, qmax=qmax, symmetric=symmetric)
        if len(_KNOWN) >= _MANY:
            _KNOWN.clear()
        _KNOWN[key] = found
    return _KNOWN[key]
