"""The drop from a float to a quantized model on the same samples, with a confidence interval.

Top-1 accuracy: with b samples that only the float model got right, c that only the quantized one did, n in all,

    drop = (b - c) / n

and the interval holds every D that the score test does not reject (Tango, "Equivalence test and confidence interval for
the difference in proportions for the paired-sample design", Statistics in Medicine 17, 1998):

    |b - c - n D| <= z sqrt(n (2 q + D (1 - D))),   q = (sqrt(B**2 - 4 A C) - B) / (2 A),
    A = 2 n,  B = -b - c + (2 n - b + c) D,  C = -c D (1 - D)

It keeps its coverage when b and c are small or 0, as they are for a good quantized model, where the Wald interval
shrinks to a point (Newcombe, Statistics in Medicine 17, 1998, compares ten methods).

Any other per-sample score: mean difference with Student's t interval.

Pairing is what makes a small evaluation set enough: the noise of two accuracies on the same images mostly cancels.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from qcompiler.errors import DataError, InternalError


class Drop(NamedTuple):
    """A loss (positive: the quantized model is worse) and its confidence interval, in units of the metric."""

    drop: float
    ci_low: float
    ci_high: float


def paired_drop(float_hits: npt.ArrayLike, quantized_hits: npt.ArrayLike, confidence: float = 0.95) -> Drop:
    """Drop of top-1 accuracy from two boolean vectors over the same samples.

    Raises:
        DataError: no samples, or vectors of different lengths.
    """
    before, after = _pairs(float_hits, quantized_hits)
    wrong_to_right, right_to_wrong = (before == 0) & (after != 0), (before != 0) & (after == 0)
    return drop_interval(
        int(np.count_nonzero(right_to_wrong)), int(np.count_nonzero(wrong_to_right)), before.size, confidence
    )


def drop_interval(lost: int, gained: int, total: int, confidence: float = 0.95) -> Drop:
    """Drop of top-1 accuracy from the counts b = `lost`, c = `gained`, n = `total`."""
    _check_confidence(confidence)
    if total == 0:
        raise DataError("no samples to compare")
    z = NormalDist().inv_cdf(0.5 + confidence / 2)

    def statistic(drop: float) -> float:
        b = -lost - gained + (2 * total - lost + gained) * drop
        q = (math.sqrt(max(0.0, b * b + 8 * total * gained * drop * (1 - drop))) - b) / (4 * total)
        variance = total * (2 * q + drop * (1 - drop))
        distance = lost - gained - total * drop
        return distance / math.sqrt(variance) if variance > 0 else math.copysign(math.inf, distance)

    estimate = (lost - gained) / total
    return Drop(estimate, _crossing(statistic, z, -1.0, estimate), _crossing(statistic, -z, estimate, 1.0))


def paired_mean_drop(float_scores: npt.ArrayLike, quantized_scores: npt.ArrayLike, confidence: float = 0.95) -> Drop:
    """Drop of the mean of a per-sample score (greater is better), with Student's t interval.

    One sample gives an infinite interval; equal differences throughout give a point.

    Raises:
        DataError: no samples, vectors of different lengths, or NaN.
    """
    _check_confidence(confidence)
    before, after = _pairs(float_scores, quantized_scores)
    differences = before - after
    if np.isnan(differences).any():
        raise DataError("a per-sample score is NaN")
    mean = float(differences.mean())
    if differences.size == 1:
        return Drop(mean, -math.inf, math.inf)
    from scipy.special import stdtrit

    reach = float(stdtrit(differences.size - 1, 0.5 + confidence / 2))
    reach *= float(differences.std(ddof=1)) / math.sqrt(differences.size)
    return Drop(mean, mean - reach, mean + reach)


def _crossing(falling: Callable[[float], float], level: float, low: float, high: float) -> float:
    """Where a falling function meets `level`, by bisection to the last bit."""
    while low < (middle := (low + high) / 2) < high:
        low, high = (middle, high) if falling(middle) > level else (low, middle)
    return middle


def _pairs(before: npt.ArrayLike, after: npt.ArrayLike) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    first, second = np.asarray(before, np.float64).reshape(-1), np.asarray(after, np.float64).reshape(-1)
    if first.size != second.size:
        raise DataError(f"{first.size} samples of the float model beside {second.size} of the quantized one")
    if first.size == 0:
        raise DataError("no samples to compare")
    return first, second


def _check_confidence(confidence: float) -> None:
    if not 0 < confidence < 1:
        raise InternalError(f"a confidence of {confidence}")
