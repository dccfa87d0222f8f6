"""One-sided bounds of any statistic of paired samples, by drawing samples again with replacement: the bootstrap t.

    estimate    theta, the statistic of the n samples at hand
    influence   u_i = (n - 1) (mean of the jackknife values - theta without sample i),   error s = sd(u) / sqrt(n)
    draws       t_r = (theta_r - theta) / s_r of n samples drawn from the n at hand, s_r from their influence, r = 1..R;
                always the same draws (fixed seed)
    bounds      theta - s * (1 - alpha quantile of t)   and   theta - s * (alpha quantile of t)

A sample is drawn with both of its results, so that what float and quantized model have in common cancels. The draws
show how far an estimate is off in units of its own error, which is what makes the bounds fit skewed losses, too, as
those of quantization are: rarely large, mostly small. Where so few samples differ that a draw may well have none of
them, the bound is infinite: nothing can be said yet. Where none differ the bound is the estimate, and the caller must
know better.

Efron, "Nonparametric standard errors and confidence intervals", Canadian Journal of Statistics 9, 1981; that it is
right to second order: Hall, "Theoretical comparison of bootstrap confidence intervals", Annals of Statistics 16, 1988.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from qcompiler.errors import DataError, InternalError

F64 = npt.NDArray[np.float64]
Indices = npt.NDArray[Any]
Statistic = Callable[[Indices], F64]
"""Indices of samples, shape (draws, n), to the statistic of each draw, shape (draws,)."""

SEED = 20150
LEAST_DRAWS = 2000
DRAWS_BEYOND = 40
MOST_UNITS = 1000
CHUNK = 1 << 21


def bootstrap_bounds(statistic: Statistic, samples: int, alpha: float) -> tuple[float, float]:
    """Lower and upper bound of the statistic, each wrong with probability `alpha`, about.

    Args:
        statistic: of samples given by their indices.
        samples: how many there are; of more than `MOST_UNITS`, neighbours are drawn together.
        alpha: of each of the two bounds.

    Returns:
        The bounds; infinite ones where too little is known.

    Raises:
        DataError: no samples.
    """
    if samples < 1:
        raise DataError("no samples to compare")
    if not 0 < alpha < 0.5:
        raise InternalError(f"a bound at level {alpha}")
    together = math.ceil(samples / MOST_UNITS)
    units = np.arange(samples - samples % together).reshape(-1, together)
    if len(units) < 2:
        return -math.inf, math.inf
    estimate = float(statistic(units.reshape(1, -1))[0])
    influence = influences(statistic, units)
    error = float(influence.std(ddof=1)) / math.sqrt(len(units))
    if not math.isfinite(error):
        return -math.inf, math.inf
    if error <= 1e-12 * abs(estimate):
        return estimate, estimate
    away = drawn(statistic, units, influence, estimate, max(LEAST_DRAWS, math.ceil(DRAWS_BEYOND / alpha)))
    low, high = np.quantile(away, [alpha, 1 - alpha], method="inverted_cdf")
    return estimate - float(high) * error, estimate - float(low) * error


def drawn(statistic: Statistic, units: Indices, influence: F64, estimate: float, count: int) -> F64:
    """How many errors of its own each of `count` draws is away from the estimate."""
    random, rows = np.random.default_rng(SEED), max(1, CHUNK // units.size)
    parts = []
    for start in range(0, count, rows):
        chosen = random.integers(0, len(units), (min(rows, count - start), len(units)), dtype=np.int32)
        found = statistic(units[chosen].reshape(len(chosen), -1)) - estimate
        error = influence[chosen].std(1, ddof=1) / math.sqrt(len(units))
        sure = error <= 1e-12 * abs(estimate)
        away = np.where(sure, np.copysign(math.inf, found), found / np.where(sure, 1.0, error))
        parts.append(np.where(sure & (np.abs(found) <= 1e-12 * abs(estimate)), 0.0, away))
    return np.concatenate(parts)


def influences(statistic: Statistic, units: Indices) -> F64:
    """How much each unit moves the statistic, by leaving it out."""
    left = np.array([float(statistic(np.delete(units, i, 0).reshape(1, -1))[0]) for i in range(len(units))])
    return np.asarray((len(units) - 1) * (left.mean() - left))
