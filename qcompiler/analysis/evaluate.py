"""How good a model is on samples, beside the float model: both see the same sample, one after the other.

    a metric is given     its mean, for both
    labels                top-1 accuracy of both
    class scores          share of rows where both models choose the same class
    anything else         lowest SQNR of the outputs

`metrics` says which output holds class scores, and what a metric is.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from qcompiler.analysis.collect import Progress
from qcompiler.analysis.metrics import Array, Metric, class_output, decisions, labels_of, load_metric, measured
from qcompiler.analysis.run import Runner, is_float
from qcompiler.analysis.tap import known_count, no_samples
from qcompiler.data import Sample
from qcompiler.errors import DataError
from qcompiler.numerics import SqnrMeter


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What a model reaches on some samples.

    Attributes:
        metric: "top-1", "top-1 agreement with float", "lowest output SQNR [dB]", or the name of the user's metric.
        float_value, value: the metric of the float model and of this one; 1 and inf for a model beside itself.
        samples: number of samples.
        output: the output that class scores were read from, "" if none.
        float_scores, scores: what the values are means of: bool per row for top-1 and agreement, float64 per sample for
            a user's metric, empty for SQNR. Row i of both is the same row of the same sample.
        agreement: share of rows where both choose the same class; None without class scores.
        output_sqnr_db: SQNR of each float output over all samples.
    """

    metric: str
    float_value: float
    value: float
    samples: int
    output: str
    float_scores: Array
    scores: Array
    agreement: float | None
    output_sqnr_db: Mapping[str, float]


def evaluate(
    reference: Runner,
    candidates: Mapping[str, Runner],
    source: Iterable[Sample],
    *,
    metric: str | Metric | None = None,
    progress: Progress | None = None,
) -> dict[str, Evaluation]:
    """Runs the float model once and each candidate beside it.

    Args:
        reference: the float model.
        candidates: models with the same inputs and outputs, by any name.
        source: samples.
        metric: `package.module:name`, or a function; see above.
        progress: called after every sample.

    Returns:
        An evaluation for each candidate, under its name.

    Raises:
        DataError: no samples, labels that do not fit the class scores, a metric that fails, a model that cannot run.
        UsageError: `metric` names nothing that can be called.
    """
    measure, title = load_metric(metric)
    total = known_count(source)
    judge: _Judge | None = None
    base, tallies = _Tally(), {name: _Tally() for name in candidates}
    samples = 0
    for sample in source:
        wanted = reference.run(sample.feed, sample=sample.name)
        if judge is None:
            judge = _judge(measure, wanted, sample)
        base.add(judge, wanted, wanted, sample)
        for name, runner in candidates.items():
            outputs = runner.run(sample.feed, sample=sample.name)
            tallies[name].add(judge, outputs, wanted, sample)
            tallies[name].measure_noise(outputs, wanted)
        samples += 1
        if progress is not None:
            progress(samples, total)
    if judge is None:
        raise no_samples(source)
    if measure is None and judge.chosen:
        title = "top-1" if judge.labelled else "top-1 agreement with float"
    elif measure is None:
        title = "lowest output SQNR [dB]"
    return {name: tally.result(base, title, judge.chosen or "", samples) for name, tally in tallies.items()}


def _judge(measure: Metric | None, outputs: dict[str, Array], sample: Sample) -> _Judge:
    """What to ask, decided on the first sample."""
    if measure is not None:
        return _Judge(measure, None, False)
    chosen = class_output(outputs)
    if chosen is None and sample.label is not None:
        raise DataError(
            "no output of the model holds class scores to compare labels with",
            where=sample.name,
            hint="give --metric package.module:callable",
        )
    return _Judge(None, chosen, sample.label is not None)


@dataclass(frozen=True, eq=False)
class _Judge:
    """What is asked of the outputs of one sample."""

    measure: Metric | None
    chosen: str | None
    labelled: bool

    def scores(self, outputs: dict[str, Array], wanted: dict[str, Array], sample: Sample) -> tuple[Array, Array]:
        """What the metric is a mean of, and for each row whether the decision is that of the float model."""
        if self.measure is not None:
            return np.array([measured(self.measure, outputs, sample)]), np.zeros(0, np.bool_)
        if self.chosen is None:
            return np.zeros(0), np.zeros(0, np.bool_)
        float_choice, choice = decisions(wanted[self.chosen]), decisions(outputs[self.chosen])
        if choice.shape != float_choice.shape:
            choice = np.full(float_choice.shape, -1)
        same = (choice == float_choice) & (choice >= 0)
        return (choice == labels_of(sample, wanted[self.chosen]) if self.labelled else same), same


@dataclass(eq=False)
class _Tally:
    """One model's results so far."""

    scores: list[Array] = field(default_factory=list)
    same: list[Array] = field(default_factory=list)
    meters: dict[str, SqnrMeter] = field(default_factory=dict)

    def add(self, judge: _Judge, outputs: dict[str, Array], wanted: dict[str, Array], sample: Sample) -> None:
        scores, same = judge.scores(outputs, wanted, sample)
        self.scores.append(scores)
        self.same.append(same)

    def measure_noise(self, outputs: dict[str, Array], wanted: dict[str, Array]) -> None:
        for name, array in wanted.items():
            if is_float(array):
                got, meter = outputs.get(name), self.meters.get(name, SqnrMeter())
                if is_float(got) and got.shape == array.shape:
                    self.meters[name] = meter.update(array, got)
                else:
                    self.meters[name] = SqnrMeter(meter.signal, math.inf)

    def result(self, base: _Tally, metric: str, output: str, samples: int) -> Evaluation:
        sqnr = {name: meter.db for name, meter in self.meters.items()}
        scores, float_scores, same = (np.concatenate(part) for part in (self.scores, base.scores, self.same))
        value, float_value = min(sqnr.values(), default=math.inf), math.inf
        if scores.size:
            value, float_value = float(scores.mean()), float(float_scores.mean())
        agreement = float(same.mean()) if same.size else None
        return Evaluation(metric, float_value, value, samples, output, float_scores, scores, agreement, sqnr)
