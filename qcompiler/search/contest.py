"""Candidates beside the float model, sample by sample, until the verdict on each is clear.

All candidates see the same samples. At each look (`numerics.looks`) those whose verdict is clear stop running; the rest
go on. A candidate's figures are those of the samples that it has seen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from qcompiler.analysis import Evaluation, Measure, Record, Runs, sweep
from qcompiler.analysis.loss import Loss, loss_of, samples_needed, settled
from qcompiler.analysis.metrics import Metric
from qcompiler.analysis.tap import known_count, no_samples
from qcompiler.data import Sample
from qcompiler.numerics.looks import Looks
from qcompiler.search.limit import Limit

Tell = Callable[[int, int | None], None]


@dataclass(frozen=True)
class Contract:
    """What is promised.

    Attributes:
        limit: largest accepted loss.
        confidence: of each bound of the loss.
    """

    limit: Limit
    confidence: float

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
    reference: Runs,
    candidates: Mapping[str, Runs],
    source: Iterable[Sample],
    contract: Contract,
    *,
    metric: str | Metric | None = None,
    keep: Iterable[str] = (),
    tell: Tell | None = None,
) -> dict[str, Result]:
    """Runs the candidates beside the float model until all samples are seen or all verdicts are clear.

    Args:
        reference: the float model.
        candidates: models with the same inputs and outputs, by any name.
        source: samples.
        contract: what is promised.
        metric: as in the recipe.
        keep: candidates that run as long as any other does, and end no contest by going on.
        tell: called after every sample.

    Returns:
        A result for each candidate, under its name.

    Raises:
        DataError: no samples, labels that do not fit, a metric that fails, a model that cannot run.
        UsageError: metric or limit mean nothing here.
    """
    total = known_count(source)
    looks = Looks(total, 1 - contract.confidence)
    running, kept, alpha = dict(candidates), set(keep), looks.last
    found: dict[str, list[Record]] = {name: [] for name in candidates}
    ended: dict[str, Result] = {}
    measure: Measure | None = None
    for seen, (asked, records) in enumerate(sweep(reference, running, source, metric), 1):
        measure = asked
        for name, record in records.items():
            found[name].append(record)
        if tell is not None:
            tell(seen, total)
        if seen in looks.early and contract.limit.unit != "none":
            for name in [name for name in running if name not in kept]:
                result = at_a_look(measure, found[name], contract, looks.early[seen])
                if result is not None:
                    ended[name] = result
                    del running[name]
            if ended and set(running) <= kept:
                alpha = looks.early[seen]
                break
    if measure is None:
        raise no_samples(source)
    for name in running:
        ended[name] = judged(measure, found[name], contract, alpha, early=alpha != looks.last)
    return {name: ended[name] for name in candidates}


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
