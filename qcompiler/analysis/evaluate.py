"""How good a model is on samples, beside the float model: both see the same sample, one after the other.

`ask` says which metric is meant. `records` gives what each sample says, `Evaluation` what all of them say together.
Records can be made in shards anywhere (see `record`): joined in the order of the samples they give the same evaluation,
bit for bit.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np

from qcompiler.analysis.ask import check_metric, measure_for
from qcompiler.analysis.collect import Progress
from qcompiler.analysis.measures import Fidelity, Measure
from qcompiler.analysis.metrics import Array, Metric
from qcompiler.analysis.record import Record, record
from qcompiler.analysis.tap import known_count, no_samples
from qcompiler.data import Sample
from qcompiler.errors import InternalError
from qcompiler.numerics import SqnrMeter


class Runs(Protocol):
    """Anything that runs a model, `Runner` above all."""

    def run(self, feed: Mapping[str, Array], *, sample: str = "") -> dict[str, Array]:
        """The outputs of one feed."""


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What a model reaches on some samples.

    Attributes:
        measure: what was asked.
        records: what each sample said, in order.
    """

    measure: Measure
    records: tuple[Record, ...]

    @staticmethod
    def of(measure: Measure, records: Iterable[Record]) -> Evaluation:
        """The evaluation that some records make, given in the order of their samples."""
        return Evaluation(measure, tuple(records))

    def merge(self, other: Evaluation) -> Evaluation:
        """The evaluation on the samples of both, those of `self` first."""
        if self.measure != other.measure:
            raise InternalError(f"{self.metric!r} is merged with {other.metric!r}")
        return Evaluation(self.measure, self.records + other.records)

    @property
    def metric(self) -> str:
        """ "top-1", "top-1 agreement with float", "lowest output SQNR [dB]", or the name of the user's metric."""
        return self.measure.title

    @property
    def output(self) -> str:
        """The output that class scores were read from, "" if none."""
        return self.measure.output

    @property
    def samples(self) -> int:
        """Number of samples."""
        return len(self.records)

    @cached_property
    def float_scores(self) -> Array:
        """What the metric of the float model is made from; row i of `scores` is the same row of the same sample."""
        if isinstance(self.measure, Fidelity):
            return np.stack([self.scores[:, 0::2], np.zeros_like(self.scores[:, 1::2])], -1).reshape(self.scores.shape)
        return np.concatenate([one.float_scores for one in self.records])

    @cached_property
    def scores(self) -> Array:
        """What the metric of this model is made from: shape (rows,) or (rows, figures), bool for hits."""
        if isinstance(self.measure, Fidelity):
            return np.array([[power for pair in one.power.values() for power in pair] for one in self.records])
        return np.concatenate([one.scores for one in self.records])

    @property
    def float_value(self) -> float:
        """The metric of the float model: 1 or inf for a model beside itself."""
        return float(self.measure.value(figures(self.float_scores)))

    @property
    def value(self) -> float:
        """The metric of this model."""
        return float(self.measure.value(figures(self.scores)))

    @property
    def base(self) -> float:
        """What a relative loss is relative to: the size of the float model's metric."""
        return self.measure.base(figures(self.float_scores))

    @cached_property
    def agreement(self) -> float | None:
        """Share of rows where both choose the same class; None without class scores."""
        same = np.concatenate([one.same for one in self.records])
        return float(same.mean()) if same.size else None

    @cached_property
    def output_sqnr_db(self) -> Mapping[str, float]:
        """SQNR of each float output over all samples."""
        powers: dict[str, list[tuple[float, float]]] = {}
        for one in self.records:
            for name, power in one.power.items():
                powers.setdefault(name, []).append(power)
        return {
            name: SqnrMeter(total(signal for signal, _ in each), total(noise for _, noise in each)).db
            for name, each in powers.items()
        }


def figures(scores: Array) -> Array:
    """Scores as rows of figures."""
    return scores.reshape(len(scores), -1)


def total(powers: Iterable[float]) -> float:
    """The sum, rounded once, so that no order and no split shows; inf where it is too large for a number."""
    try:
        return math.fsum(powers)
    except OverflowError:
        return math.inf


def sweep(
    reference: Runs,
    candidates: Mapping[str, Runs],
    samples: Iterable[Sample],
    metric: str | Metric | None = None,
    measure: Measure | None = None,
) -> Iterator[tuple[Measure, dict[str, Record]]]:
    """Runs the float model once per sample and each candidate beside it, and gives what was asked and the records.

    Args:
        reference: the float model.
        candidates: models with the same inputs and outputs, by any name; read anew for each sample, so one that is
            taken out of the mapping runs no more.
        samples: the samples.
        metric: a name, `package.module:name`, or a function; see `ask`.
        measure: what to ask, where it is known; else the first sample decides.

    Raises:
        DataError: labels that do not fit the class scores, a metric that fails, a model that cannot run.
        UsageError: `metric` names nothing that can be called.
    """
    check_metric(metric)
    for sample in samples:
        wanted = reference.run(sample.feed, sample=sample.name)
        measure = measure or measure_for(metric, wanted, sample)
        float_scores = measure.scores(wanted, wanted, sample)
        found = {}
        for name, runs in candidates.items():
            outputs = runs.run(sample.feed, sample=sample.name)
            found[name] = record(measure, outputs, wanted, sample, float_scores)
        yield measure, found


def records(
    reference: Runs,
    candidate: Runs,
    samples: Iterable[Sample],
    metric: str | Metric | None = None,
    measure: Measure | None = None,
) -> list[Record]:
    """The records of one candidate; arguments and errors as for `sweep`.

    A shard of samples that is not the first takes the `measure` of the first.
    """
    return [each["it"] for _, each in sweep(reference, {"it": candidate}, samples, metric, measure)]


def evaluate(
    reference: Runs,
    candidates: Mapping[str, Runs],
    source: Iterable[Sample],
    *,
    metric: str | Metric | None = None,
    measure: Measure | None = None,
    progress: Progress | None = None,
) -> dict[str, Evaluation]:
    """Runs the float model once and each candidate beside it.

    Args:
        reference, candidates, metric, measure: as for `sweep`.
        source: samples.
        progress: called after every sample.

    Returns:
        An evaluation for each candidate, under its name.

    Raises:
        DataError: no samples, or as for `sweep`.
        UsageError: `metric` names nothing that can be called.
    """
    count, asked = known_count(source), None
    found: dict[str, list[Record]] = {name: [] for name in candidates}
    for done, (used, each) in enumerate(sweep(reference, candidates, source, metric, measure), 1):
        asked = used
        for name, one in each.items():
            found[name].append(one)
        if progress is not None:
            progress(done, count)
    if asked is None:
        raise no_samples(source)
    return {name: Evaluation.of(asked, of_one) for name, of_one in found.items()}
