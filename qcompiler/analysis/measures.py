"""What is asked of a model's outputs, sample by sample, and what the answers add up to.

    scores(outputs, float outputs, sample)   what one sample says: a row for each decision, or one row of figures
    value(rows)                              the metric over all the rows of all the samples

Scores are made for the float model and for the quantized one from the same sample, so that their difference is paired.
A measure is a plain frozen value, made from the first sample alone, and can go to another process.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from qcompiler.analysis.metrics import Array, Metric, class_output, decisions, labels_of, load_metric, measured
from qcompiler.data import Sample
from qcompiler.errors import DataError


@dataclass(frozen=True)
class Measure:
    """One metric.

    Attributes:
        output: the output that is read, "" where it is all of them.
    """

    output: str = ""

    @property
    def title(self) -> str:
        """The metric's name, for people and for report.json."""
        raise NotImplementedError

    def scores(self, outputs: dict[str, Array], wanted: dict[str, Array], sample: Sample) -> Array:
        """What one sample says of a model with these outputs, where the float model gives the `wanted` ones.

        Raises:
            DataError: the label does not fit.
        """
        raise NotImplementedError

    def same(self, outputs: dict[str, Array], wanted: dict[str, Array]) -> Array:
        """For each decision whether it is the float model's; nothing where there are no decisions."""
        return np.zeros(0, np.bool_)

    def value(self, scores: Array) -> float:
        """The metric over all rows of scores."""
        return float(scores.mean())


@dataclass(frozen=True)
class Agreement(Measure):
    """Share of rows where the model decides as the float model does."""

    title: ClassVar[str] = "top-1 agreement with float"

    def scores(self, outputs: dict[str, Array], wanted: dict[str, Array], sample: Sample) -> Array:
        return self.same(outputs, wanted)

    def same(self, outputs: dict[str, Array], wanted: dict[str, Array]) -> Array:
        expected, found = decisions(wanted[self.output]), decisions(outputs[self.output])
        return fitted(found, expected) & (expected >= 0)


@dataclass(frozen=True)
class Hits(Agreement):
    """Share of rows whose decision is the label."""

    title: ClassVar[str] = "top-1"

    def scores(self, outputs: dict[str, Array], wanted: dict[str, Array], sample: Sample) -> Array:
        return fitted(decisions(outputs[self.output]), labels_of(sample, wanted[self.output]))


@dataclass(frozen=True)
class Own(Measure):
    """The mean of the user's function."""

    function: Metric | str = ""
    name: str = ""

    @property
    def title(self) -> str:
        return self.name

    def scores(self, outputs: dict[str, Array], wanted: dict[str, Array], sample: Sample) -> Array:
        function = load_metric(self.function)[0] if isinstance(self.function, str) else self.function
        assert function is not None
        return np.array([measured(function, outputs, sample)])


@dataclass(frozen=True)
class Fidelity(Measure):
    """Where nothing else can be asked: the signal-to-noise ratio, which every record holds anyway."""

    title: ClassVar[str] = "lowest output SQNR [dB]"

    def scores(self, outputs: dict[str, Array], wanted: dict[str, Array], sample: Sample) -> Array:
        return np.zeros(0)


def fitted(found: Array, expected: Array) -> Array:
    """Which decisions are the expected ones; none where there are more or fewer of them."""
    return found == expected if found.shape == expected.shape else np.zeros(expected.shape, np.bool_)


def measure_for(metric: str | Metric | None, outputs: dict[str, Array], sample: Sample) -> Measure:
    """What to ask, decided on the first sample and the float model's outputs for it.

    Raises:
        DataError: there are labels and nothing to compare them with.
        UsageError: `metric` names nothing that can be called.
    """
    function, title = load_metric(metric)
    if function is not None:
        return Own("", metric if isinstance(metric, str) else function, title)
    chosen = class_output(outputs)
    if chosen is not None:
        return Agreement(chosen) if sample.label is None else Hits(chosen)
    if sample.label is not None:
        raise DataError(
            "no output of the model holds class scores to compare labels with",
            where=sample.name,
            hint="give --metric package.module:callable",
        )
    return Fidelity()
