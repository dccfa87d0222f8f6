"""One-sided bounds of any statistic of paired samples, by drawing samples again with replacement.

    draws      theta*_r = statistic of n samples drawn from the n at hand, r = 1..R; always the same draws (fixed seed)
    bias       z0 = Phi^-1(share of draws below the estimate)
    skewness   a = sum d^3 / (6 (sum d^2)^1.5),   d = mean of the jackknife values less each of them
    level      alpha' = Phi(z0 + (z0 + z) / (1 - a (z0 + z))),   z = sqrt(n / (n - 1)) * Student's quantile of alpha
    bound      the alpha' quantile of the draws

A sample is drawn with both of its results, so that what float and quantized model have in common cancels.

BCa: Efron, "Better bootstrap confidence intervals", JASA 82, 1987; its widening for small n, by which the bound of a
mean is Student's: Hesterberg, "What teachers should know about the bootstrap", The American Statistician 69, 2015.
Where no draw differs from the estimate nothing was learnt of how far it can be off: the bound is the estimate.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from qcompiler.errors import DataError, InternalError

F64 = npt.NDArray[np.float64]
Statistic = Callable[[npt.NDArray[Any]], F64]
"""Indices of samples, shape (draws, n), to the statistic of each draw, shape (draws,)."""

SEED = 20150
LEAST_DRAWS = 2000
DRAWS_BEYOND = 40
GROUPS = 400
CHUNK = 1 << 21


def bootstrap_bounds(statistic: Statistic, samples: int, alpha: float) -> tuple[float, float]:
    """Lower and upper bound of the statistic, each wrong with probability `alpha`, about.

    Args:
        statistic: of samples given by their indices.
        samples: how many there are.
        alpha: of each of the two bounds.

    Returns:
        The bounds; infinite ones for a single sample.

    Raises:
        DataError: no samples.
    """
    if samples < 1:
        raise DataError("no samples to compare")
    if not 0 < alpha < 0.5:
        raise InternalError(f"a bound at level {alpha}")
    if samples == 1:
        return -math.inf, math.inf
    from scipy.special import ndtr, ndtri, stdtrit

    estimate = float(statistic(np.arange(samples)[None])[0])
    draws = drawn(statistic, samples, max(LEAST_DRAWS, math.ceil(DRAWS_BEYOND / alpha)))
    if not np.isfinite(draws).all():
        return -math.inf, math.inf
    slack = 1e-12 * max(1.0, abs(estimate))
    below = np.count_nonzero(draws < estimate - slack) + np.count_nonzero(np.abs(draws - estimate) <= slack) / 2
    bias = float(ndtri(np.clip(below / draws.size, 1 / draws.size, 1 - 1 / draws.size)))
    skew = skewness(statistic, samples)
    reach = math.sqrt(samples / (samples - 1)) * float(stdtrit(samples - 1, 1 - alpha))

    def level(z: float) -> float:
        shrink = 1 - skew * (bias + z)
        return float(ndtr(bias + (bias + z) / shrink)) if shrink > 0 else float(z > 0)

    low, high = np.quantile(draws, [level(-reach), level(reach)])
    return min(float(low), estimate), max(float(high), estimate)


def drawn(statistic: Statistic, samples: int, count: int) -> F64:
    """The statistic of `count` draws with replacement; always the same ones for the same number of samples."""
    random, rows = np.random.default_rng(SEED), max(1, CHUNK // samples)
    parts = []
    for start in range(0, count, rows):
        indices = random.integers(0, samples, (min(rows, count - start), samples), dtype=np.int32)
        parts.append(statistic(indices))
    return np.concatenate(parts)


def skewness(statistic: Statistic, samples: int) -> float:
    """The acceleration a, by leaving out each sample, or each of `GROUPS` groups of them, in turn."""
    groups = np.array_split(np.arange(samples), min(samples, GROUPS))
    left = np.array([float(statistic(np.delete(np.arange(samples), group)[None])[0]) for group in groups])
    if not np.isfinite(left).all():
        return 0.0
    away = left.mean() - left
    spread = float(np.square(away).sum())
    return float((away**3).sum()) / (6 * spread**1.5) if spread > 0 else 0.0
