"""What is asked of a model's outputs, sample by sample, and what the answers add up to.

    scores(outputs, float outputs, sample)   what one sample says: a row for each decision, or one row of figures
    value(rows)                              the metric over all the rows of all the samples
    loss(float rows, rows)                   how much worse the second are: positive where quantization costs something

Scores are made for the float model and for the quantized one from the same sample, so that their difference is paired.
A measure is a plain frozen value, made from the first sample alone, and can go to another process.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from qcompiler.analysis.metrics import Array, Metric, best_classes, decisions, labels_of, load_metric, measured
from qcompiler.data import Sample

F64 = npt.NDArray[np.float64]
Bound = Literal["pairs", "share", "draws"]
Unit = Literal["share", "dB", "number", "noise"]


@dataclass(frozen=True)
class Measure:
    """One metric.

    Attributes:
        output: the output that is read, "" where it is all of them.
        higher: a class's own: whether more is better.
        unit: likewise: values are shares of 1, decibels or plain numbers; "noise" for decibels whose loss is a share.
        bound: likewise: how the loss is bounded. "pairs": by the hits that only one of both models has; "share": by the
            hits that are missing; "draws": by drawing samples again.
    """

    output: str = ""
    higher: ClassVar[bool] = True
    unit: ClassVar[Unit] = "share"
    bound: ClassVar[Bound] = "draws"

    @property
    def title(self) -> str:
        """The metric's name, for people and for report.json."""
        raise NotImplementedError

    @property
    def against_float(self) -> bool:
        """Whether what is right is what the float model says."""
        return self.title.endswith(" float")

    def scores(self, outputs: dict[str, Array], wanted: dict[str, Array], sample: Sample) -> Array:
        """What one sample says of a model with these outputs, where the float model gives the `wanted` ones.

        Returns:
            Shape (rows,), or (rows, figures).

        Raises:
            DataError: the label does not fit.
        """
        raise NotImplementedError

    def same(self, outputs: dict[str, Array], wanted: dict[str, Array]) -> Array:
        """For each decision whether it is the float model's; nothing where there are no decisions."""
        return np.zeros(0, np.bool_)

    def value(self, rows: Array) -> F64:
        """The metric over rows of shape (..., rows, figures)."""
        return np.asarray(rows[..., 0].mean(-1), np.float64)

    def loss(self, before: Array, after: Array) -> F64:
        """How much worse `after` is than `before`; a fraction of 1 for shares and for noise."""
        first, second = self.value(before), self.value(after)
        return first - second if self.higher else second - first

    def base(self, before: Array) -> float:
        """What a relative loss is relative to."""
        return abs(float(self.value(before)))


@dataclass(frozen=True)
class Agreement(Measure):
    """Share of rows where the float model's decision is among the `best` of the model."""

    best: int = 1
    bound: ClassVar[Bound] = "share"

    @property
    def title(self) -> str:
        return f"top-{self.best} agreement with float"

    def scores(self, outputs: dict[str, Array], wanted: dict[str, Array], sample: Sample) -> Array:
        return self.among(outputs, decisions(wanted[self.output]))

    def same(self, outputs: dict[str, Array], wanted: dict[str, Array]) -> Array:
        expected, found = decisions(wanted[self.output]), decisions(outputs[self.output])
        return fitted(found, expected) & (expected >= 0)

    def among(self, outputs: dict[str, Array], classes: Array) -> Array:
        """For each row whether its class is among the best ones; False for -1, which is no class."""
        best = best_classes(outputs[self.output], self.best)
        if best.shape[0] != classes.size:
            return np.zeros(classes.shape, np.bool_)
        among: npt.NDArray[np.bool_] = np.equal(best, classes[:, None]).any(1) & (classes >= 0)
        return among


@dataclass(frozen=True)
class Hits(Agreement):
    """Share of rows whose label is among the `best` of the model."""

    bound: ClassVar[Bound] = "pairs"

    @property
    def title(self) -> str:
        return f"top-{self.best}"

    def scores(self, outputs: dict[str, Array], wanted: dict[str, Array], sample: Sample) -> Array:
        return self.among(outputs, labels_of(sample, wanted[self.output]))


@dataclass(frozen=True)
class Own(Measure):
    """The mean of the user's function."""

    function: Metric | str = ""
    name: str = ""
    unit: ClassVar[Unit] = "number"

    @property
    def title(self) -> str:
        return self.name

    def scores(self, outputs: dict[str, Array], wanted: dict[str, Array], sample: Sample) -> Array:
        return np.array([measured(load_metric(self.function), outputs, sample)])


@dataclass(frozen=True)
class Fidelity(Measure):
    """Signal to noise of the worst float output; the loss is the noise's share of the signal: 20 dB is 1 %.

    Its figures, the power of signal and noise of each output, are in every record, so it has no scores of its own.
    """

    unit: ClassVar[Unit] = "noise"
    title: ClassVar[str] = "lowest output SQNR [dB]"
    against_float: ClassVar[bool] = True

    def scores(self, outputs: dict[str, Array], wanted: dict[str, Array], sample: Sample) -> Array:
        return np.zeros(0)

    def value(self, rows: Array) -> F64:
        with np.errstate(divide="ignore"):
            return np.asarray(-10 * np.log10(noise_share(rows)))

    def loss(self, before: Array, after: Array) -> F64:
        return noise_share(after)

    def base(self, before: Array) -> float:
        return 1.0


def noise_share(powers: Array) -> F64:
    """Noise over signal of the worst output, from rows of (signal, noise, signal, noise, ...)."""
    total = powers.sum(-2)
    signal, noise = total[..., ::2], total[..., 1::2]
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.where(noise == 0, 0.0, noise / signal).max(-1, initial=0.0))


def fitted(found: Array, expected: Array) -> npt.NDArray[Any]:
    """Which decisions are the expected ones; none where there are more or fewer of them."""
    return found == expected if found.shape == expected.shape else np.zeros(expected.shape, np.bool_)
