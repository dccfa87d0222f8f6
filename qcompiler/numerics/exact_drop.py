"""Exact one-sided bounds on the drop of a hit rate, from the discordant pairs.

With b samples that only the float model gets right, c that only the quantized one does, and n in all, (b, c) is a draw
of the trinomial (n; p, q), and the drop is D = p - q. How often they differ, w = p + q, is a nuisance: the drop must be
covered whatever it is. A drop of D0 or more is refuted at level alpha if

    P(D0) = max over w in [|D0|, w_max] of Prob(score(B, C; D0) >= score(b, c; D0)) + beta  <=  alpha

    score(b, c; D) = (n D - b + c) / sqrt(n (2 q + D (1 - D)))          q most likely under D (Tango 1998)
    w_max          upper bound of w by Clopper and Pearson, at level beta = alpha / 50

and the upper bound is the least D above the estimate that is refuted. The probability is a finite sum over the
trinomial and nothing is approximated, so the bound covers the true drop with 1 - alpha at least, for every n, p and q.

The test: Hsueh, Liu, Chen, "Unconditional exact tests for equivalence or noninferiority for paired binary endpoints",
Biometrics 57, 2001. Limits from it: Lloyd, Moldovan, "Exact one-sided confidence limits for the difference between two
correlated proportions", Statistics in Medicine 26, 2007. The bounded nuisance: Berger, Boos, "P values maximized over a
confidence set for the nuisance parameter", JASA 89, 1994. The score: Tango, Statistics in Medicine 17, 1998.

Agreement with float has no c: its bound is that of one share (Clopper, Pearson, Biometrika 26, 1934).
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from qcompiler.errors import DataError, InternalError

F64 = npt.NDArray[np.float64]
Numbers = npt.NDArray[np.int64]

SPENT_ON_NUISANCE = 1 / 50
REACH = 7.5
STEPS = 40
TOLERANCE = 1e-7


def share_bounds(count: int, total: int, alpha: float) -> tuple[float, float]:
    """Lower and upper bound of a share, each wrong with probability `alpha` at most (Clopper and Pearson)."""
    from scipy.special import betaincinv

    check(count, 0, total, alpha)
    low = 0.0 if count == 0 else float(betaincinv(count, total - count + 1, alpha))
    high = 1.0 if count == total else float(betaincinv(count + 1, total - count, 1 - alpha))
    return low, high


def drop_bounds(lost: int, gained: int, total: int, alpha: float) -> tuple[float, float]:
    """Lower and upper bound of the drop, each wrong with probability `alpha` at most."""
    return -upper_bound(gained, lost, total, alpha), upper_bound(lost, gained, total, alpha)


@lru_cache(maxsize=4096)
def upper_bound(lost: int, gained: int, total: int, alpha: float) -> float:
    """Least drop such that it and greater ones are refuted, rounded up to `TOLERANCE`."""
    check(lost, gained, total, alpha)
    low, high = (lost - gained) / total, 1.0
    while high - low > TOLERANCE:
        middle = (low + high) / 2
        low, high = (low, middle) if refuted(lost, gained, total, middle, alpha) else (middle, high)
    return high


def refuted(lost: int, gained: int, total: int, drop: float, alpha: float) -> bool:
    """Whether a true drop of `drop` or more is refuted at level `alpha`."""
    return tail(lost, gained, total, drop, alpha * SPENT_ON_NUISANCE) <= alpha


def tail(lost: int, gained: int, total: int, drop: float, beta: float) -> float:
    """Largest probability, under `drop`, of evidence against it as strong as was seen; plus `beta`."""
    from scipy.special import bdtrc

    most = share_bounds(lost + gained, total, beta)[1]
    if most <= abs(drop) or drop >= 1:
        return beta
    mean = total * most
    largest = min(total, math.ceil(mean + REACH * math.sqrt(mean + REACH)))
    pairs = np.arange(largest + 1)
    limits = most_lost(pairs, total, drop, float(score(lost, gained, total, drop)))
    step = (most - abs(drop)) / STEPS
    coarse = np.minimum(abs(drop) + step * np.arange(STEPS + 1), most)
    found = probabilities(pairs, limits, total, drop, coarse)
    near = float(coarse[int(found.argmax())])
    fine = np.clip(near + step * np.linspace(-1, 1, STEPS // 2), abs(drop), most)
    worst = max(float(found.max()), float(probabilities(pairs, limits, total, drop, fine).max()))
    beyond = float(bdtrc(largest, total, most)) if largest < total else 0.0
    return worst + beyond + beta


def probabilities(pairs: Numbers, limits: Numbers, total: int, drop: float, rates: F64) -> F64:
    """For each rate w of discordant pairs, the probability of evidence at or beyond the limits."""
    from scipy.special import bdtr, gammaln, xlog1py, xlogy

    ways = gammaln(total + 1) - gammaln(pairs + 1) - gammaln(total - pairs + 1)
    rate = rates[:, None]
    mass = np.exp(ways + xlogy(pairs, rate) + xlog1py(total - pairs, -rate))
    lost = np.clip((rate + drop) / (2 * np.maximum(rate, 1e-300)), 0.0, 1.0)
    inside = np.where(limits >= pairs, 1.0, np.where(limits < 0, 0.0, bdtr(np.clip(limits, 0, pairs), pairs, lost)))
    return np.asarray((mass * inside).sum(1))


def most_lost(pairs: Numbers, total: int, drop: float, seen: float) -> Numbers:
    """For each number of discordant pairs, the most lost ones whose score still reaches `seen`; -1 where none does."""
    low, high = np.full(pairs.size, -1), pairs.copy()
    while (low < high).any():
        middle = (low + high + 1) // 2
        reached = score(middle, pairs - middle, total, drop) >= seen - 1e-9 * max(1.0, abs(seen))
        low, high = np.where(reached, middle, low), np.where(reached, high, middle - 1)
    return low


def score(lost: npt.ArrayLike, gained: npt.ArrayLike, total: int, drop: float) -> F64:
    """Evidence that the drop is less than `drop`, in standard deviations; falls with `lost`, grows with `gained`."""
    x, y = np.asarray(lost, np.float64), np.asarray(gained, np.float64)
    b = -x - y + (2 * total - x + y) * drop
    root = np.sqrt(np.maximum(0.0, b * b + 8 * total * y * drop * (1 - drop)))
    q = (root - b) / (4 * total)
    variance = total * np.maximum(2 * q + drop * (1 - drop), 0.0)
    distance = total * drop - x + y
    with np.errstate(divide="ignore", invalid="ignore"):
        sure = np.where(distance == 0, 0.0, np.copysign(math.inf, distance))
        return np.where(variance > 0, distance / np.sqrt(variance), sure)


def check(lost: int, gained: int, total: int, alpha: float) -> None:
    if total < 1:
        raise DataError("no samples to compare")
    if not (lost >= 0 and gained >= 0 and lost + gained <= total and 0 < alpha < 1):
        raise InternalError(f"{lost} lost and {gained} gained of {total} at level {alpha}")
