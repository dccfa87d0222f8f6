"""Candidates beside the float model, sample by sample, until the verdict on each is clear.

All candidates see the same samples. At each look (`numerics.looks`) those whose verdict is clear stop running; the rest
go on. A candidate's figures are those of the samples that it has seen.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any

from qcompiler.analysis import Evaluation, Measure, Record
from qcompiler.analysis.loss import Loss, loss_of, samples_needed, settled
from qcompiler.numerics.looks import Looks
from qcompiler.search.limit import Limit

Round = tuple[Measure, Mapping[str, Sequence[Record]]]


@dataclass(frozen=True)
class Contract:
    """What is promised.

    Attributes:
        limit: largest accepted loss.
        confidence: of each bound of the loss.
        tries: plans that the same samples judge, of which one is picked. The bounds hold for all of them at once
            (Bonferroni), so that the luckiest of many does not pass for a good one.
    """

    limit: Limit
    confidence: float
    tries: int = 1

    @property
    def alpha(self) -> float:
        """How often a bound may be wrong."""
        return (1 - self.confidence) / self.tries

    def max_drop(self, evaluation: Evaluation) -> float | None:
        """The limit in the unit of the evaluation's loss; relative ones refer to the float model on these samples.

        Raises:
            UsageError: the limit does not fit the metric.
        """
        return self.limit.in_units_of(evaluation.measure, evaluation.base)


@dataclass(frozen=True, eq=False)
class Result:
    """One candidate.

    Attributes:
        evaluation: on the samples that it saw.
        loss: with bounds that hold however early it stopped.
        max_drop: the limit in the unit of the loss; None without.
        needed: how many samples would settle it; None where it is settled, or no number would.
        early: it stopped before the last sample.
    """

    evaluation: Evaluation
    loss: Loss
    max_drop: float | None
    needed: int | None
    early: bool


def contest(
    rounds: Iterable[Round],
    running: MutableMapping[str, Any],
    contract: Contract,
    *,
    total: int | None = None,
    keep: Iterable[str] = (),
) -> dict[str, Result]:
    """Follows the candidates until all samples are seen or all verdicts are clear.

    Args:
        rounds: what was asked, and what the next samples, one or more, said of each candidate that still runs.
        running: the candidates by name, any values; one whose verdict is clear is taken out, and `rounds` must run it
            no more (as `analysis.sweep` and `Evaluations.sweep` do with their mapping).
        contract: what is promised.
        total: number of samples, where it is known.
        keep: candidates that run as long as any other does, and end no contest by going on.

    Returns:
        A result for each candidate, under its name; nothing where there was no round.

    Raises:
        UsageError: the limit means nothing for the metric.
    """
    looks = Looks(total, contract.alpha)
    names, kept, alpha, seen = tuple(running), set(keep), looks.last, 0
    found: dict[str, list[Record]] = {name: [] for name in names}
    ended: dict[str, Result] = {}
    measure: Measure | None = None
    for asked, said in rounds:
        measure, before = asked, seen
        for name, records in said.items():
            found[name] += records
            seen = max(seen, len(found[name]))
        due = [spent for at, spent in looks.early.items() if before < at <= seen]
        if not due or contract.limit.unit == "none":
            continue
        for name in [name for name in running if name not in kept]:
            result = at_a_look(measure, found[name], contract, due[-1])
            if result is not None:
                ended[name] = result
                del running[name]
        if ended and set(running) <= kept:
            alpha = due[-1]
            break
    if measure is not None:
        for name in running:
            ended[name] = judged(measure, found[name], contract, alpha, early=alpha != looks.last)
    return {name: ended[name] for name in names if name in ended}


def judged(measure: Measure, records: Iterable[Record], contract: Contract, alpha: float, *, early: bool) -> Result:
    """What some records say of a candidate."""
    evaluation = Evaluation.of(measure, records)
    loss, limit = loss_of(evaluation, alpha), contract.max_drop(evaluation)
    result = Result(evaluation, loss, limit, None, early)
    if limit is None or clear(result) or early:
        return result
    return Result(evaluation, loss, limit, samples_needed(evaluation, loss, limit), early)


def at_a_look(measure: Measure, records: Iterable[Record], contract: Contract, alpha: float) -> Result | None:
    """The result of a candidate whose verdict is clear before all samples are seen; None where it is not."""
    evaluation = Evaluation.of(measure, records)
    limit = contract.max_drop(evaluation)
    if limit is None or not settled(evaluation, limit, alpha):
        return None
    result = judged(measure, evaluation.records, contract, alpha, early=True)
    return result if clear(result) else None


def clear(result: Result) -> bool:
    """Whether the bounds settle the verdict."""
    limit = result.max_drop
    return limit is not None and (result.loss.ci_high <= limit or result.loss.ci_low > limit)
