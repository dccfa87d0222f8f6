"""The loss of an evaluation with its bounds, and how many samples would settle a promise.

    pairs     hits and misses against labels: exact, from the discordant pairs (`exact_drop`)
    share     agreement with float: exact, from the number of disagreements (`exact_drop`)
    draws     anything else: samples drawn again (`bootstrap`)

Both bounds are one-sided: each alone is wrong with probability alpha at most. Where k of n samples differ, and k is too
few for drawing them again to show anything, a share that is not made of hits is bounded by the number of samples that
may differ at all, each of which may lose all there is: by 1 - alpha^(1/n) where none was seen to.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from qcompiler.analysis.evaluate import Evaluation, figures
from qcompiler.analysis.metrics import Array
from qcompiler.numerics.bootstrap import bootstrap_bounds
from qcompiler.numerics.exact_drop import drop_bounds, refuted, share_bounds

MOST_NEEDED = 10**7
MOST_PAIRS = 20_000


class Loss(NamedTuple):
    """How much worse than float (positive is worse), in units of the metric.

    Attributes:
        drop: what was seen.
        ci_low, ci_high: one-sided bounds.
        alpha: of each of them.
    """

    drop: float
    ci_low: float
    ci_high: float
    alpha: float


def loss_of(evaluation: Evaluation, alpha: float) -> Loss:
    """The loss with bounds that are each wrong with probability `alpha` at most."""
    before, after = figures(evaluation.float_scores), figures(evaluation.scores)
    measure = evaluation.measure
    seen = float(measure.loss(before, after)) + 0.0  # no -0
    if measure.bound != "draws":
        lost, gained, rows = discordant(before, after)
        if measure.bound == "share":
            return Loss(seen, *share_bounds(lost, rows, alpha), alpha)
        return Loss(seen, *drop_bounds(lost, gained, rows, alpha), alpha)
    if not math.isfinite(seen):
        return Loss(seen, seen, seen, alpha)

    def statistic(indices: Array) -> Array:
        return measure.loss(before[indices], after[indices])

    low, high = bootstrap_bounds(statistic, len(before), alpha)
    if measure.unit == "share":
        different = int(np.count_nonzero((before != after).any(1)))
        most = share_bounds(different, len(before), alpha)[1]
        low = low if math.isfinite(low) else -most
        high = high if math.isfinite(high) and different else most
    return Loss(seen, low, high, alpha)


def settled(evaluation: Evaluation, limit: float, alpha: float) -> bool:
    """Whether bounds at `alpha` are both on one side of the limit; found without the bounds where that is cheaper."""
    before, after = figures(evaluation.float_scores), figures(evaluation.scores)
    if evaluation.measure.bound == "pairs":
        lost, gained, rows = discordant(before, after)
        return refuted(lost, gained, rows, limit, alpha) or refuted(gained, lost, rows, -limit, alpha)
    loss = loss_of(evaluation, alpha)
    return loss.ci_high <= limit or loss.ci_low > limit


def provable(evaluation: Evaluation, limit: float, alpha: float) -> bool:
    """Whether as many samples could show that a loss is within the limit: whether they do where nothing is lost."""
    rows = len(figures(evaluation.scores))
    match evaluation.measure.bound:
        case "pairs":
            return refuted(0, 0, rows, limit, alpha)
        case "share":
            return share_bounds(0, rows, alpha)[1] <= limit
        case _:
            return limit > 0


def discordant(before: Array, after: Array) -> tuple[int, int, int]:
    """Hits that only the float model has, hits that only the other one has, and all rows."""
    first, second = before[:, 0].astype(np.bool_), after[:, 0].astype(np.bool_)
    return int(np.count_nonzero(first & ~second)), int(np.count_nonzero(second & ~first)), len(first)


def samples_needed(evaluation: Evaluation, loss: Loss, limit: float) -> int | None:
    """How many samples, if they go on like those seen, would settle whether the loss is within `limit`.

    For hits the number is found with the exact test at the rates seen; for anything else it follows from bounds that
    close in by the root of the number. None where no number would do, or more than `MOST_NEEDED`.
    """
    if not math.isfinite(loss.drop) or loss.drop == limit:
        return None
    count = rows_needed if evaluation.measure.bound != "draws" else draws_needed
    needed = count(evaluation, loss, limit)
    return math.ceil(needed) if needed <= MOST_NEEDED else None


def draws_needed(evaluation: Evaluation, loss: Loss, limit: float) -> float:
    """The number where bounds come from drawing again."""
    if evaluation.measure.unit == "share" and loss.drop == loss.ci_low == 0:
        return math.log(loss.alpha) / math.log1p(-limit) if 0 < limit < 1 else math.inf
    reach = loss.ci_high - loss.drop if loss.drop < limit else loss.drop - loss.ci_low
    return float(evaluation.samples * (reach / (limit - loss.drop)) ** 2)


def rows_needed(evaluation: Evaluation, loss: Loss, limit: float) -> float:
    """The number where bounds are exact; a sample may hold several rows."""
    lost, gained, rows = discordant(figures(evaluation.float_scores), figures(evaluation.scores))
    within, share = loss.drop < limit, evaluation.measure.bound == "share"

    def settled(count: int) -> bool:
        b, c = round(lost / rows * count), round(gained / rows * count)
        if share:
            least, most = share_bounds(b, count, loss.alpha)
            return most <= limit if within else least > limit
        return refuted(b, c, count, limit, loss.alpha) if within else refuted(c, b, count, -limit, loss.alpha)

    low, high = rows, 2 * rows
    while not settled(high):
        low, high = high, 2 * high
        if high > MOST_NEEDED or (not share and (lost + gained) / rows * high > MOST_PAIRS):
            return math.inf
    while high - low > max(1, low // 200):
        middle = (low + high) // 2
        low, high = (low, middle) if settled(middle) else (middle, high)
    return high * evaluation.samples / rows
