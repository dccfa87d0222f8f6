"""Metrics of values: squared error, signal to noise, cosine, and F1 of thresholded masks.

What is right is the label, an array of as many values as the output has; without labels it is the float model's output.
Where an output has not the right size, or holds NaN, its score is as bad as can be.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from qcompiler.analysis.measures import F64, Measure, Unit
from qcompiler.analysis.metrics import Array
from qcompiler.data import Sample
from qcompiler.errors import DataError
from qcompiler.numerics import SqnrMeter


@dataclass(frozen=True)
class OfValues(Measure):
    """One output beside what is right."""

    labelled: bool = False
    name: ClassVar[str]

    @property
    def title(self) -> str:
        return self.name if self.labelled else f"{self.name} against float"

    def scores(self, outputs: dict[str, Array], wanted: dict[str, Array], sample: Sample) -> Array:
        expected = wanted[self.output]
        right = self.label_of(sample, expected) if self.labelled else expected
        found = outputs[self.output]
        if found.size != right.size:
            found = np.full(right.size, math.nan)
        return np.asarray([self.compare(right.reshape(-1).astype(np.float64), found.reshape(-1).astype(np.float64))])

    def label_of(self, sample: Sample, expected: Array) -> Array:
        """The label as an array of the output's size."""
        label = np.asarray(sample.label)
        if label.size != expected.size or label.dtype.kind not in "fiub":
            raise DataError(
                f"the label has shape {list(label.shape)} and type {label.dtype}, but output {self.output!r} has shape"
                f" {list(expected.shape)}",
                where=sample.name,
                hint=f"metric {self.name} compares arrays of the same size",
            )
        return label

    def compare(self, right: F64, found: F64) -> list[float]:
        """The figures of one sample."""
        raise NotImplementedError


@dataclass(frozen=True)
class SquaredError(OfValues):
    """Mean squared error over all values."""

    name: ClassVar[str] = "mse"
    higher: ClassVar[bool] = False
    unit: ClassVar[Unit] = "number"

    def compare(self, right: F64, found: F64) -> list[float]:
        return [float(np.square(right - found).sum()), right.size]

    def value(self, rows: Array) -> F64:
        total = rows.sum(-2)
        return np.asarray(total[..., 0] / total[..., 1])


@dataclass(frozen=True)
class SignalToNoise(OfValues):
    """Signal to noise against labels, in decibels."""

    name: ClassVar[str] = "sqnr"
    unit: ClassVar[Unit] = "dB"

    def compare(self, right: F64, found: F64) -> list[float]:
        meter = SqnrMeter().update(right, found)
        return [meter.signal, meter.noise]

    def value(self, rows: Array) -> F64:
        total = rows.sum(-2)
        with np.errstate(divide="ignore"):
            return np.asarray(10 * (np.log10(total[..., 0]) - np.log10(total[..., 1])))


@dataclass(frozen=True)
class Cosine(OfValues):
    """Mean over samples of the cosine between what is found and what is right."""

    name: ClassVar[str] = "cosine"

    def compare(self, right: F64, found: F64) -> list[float]:
        length = float(np.linalg.norm(right) * np.linalg.norm(found))
        if length == 0:
            return [float(np.array_equal(right, found))]
        cosine = float(right @ found) / length
        return [-1.0 if math.isnan(cosine) else min(cosine, 1.0)]


@dataclass(frozen=True)
class MaskF1(OfValues):
    """F1 over all values of all samples of the mask: where the output is over a threshold."""

    threshold: float = 0.5
    name: ClassVar[str] = "f1"

    @property
    def title(self) -> str:
        return f"f1:{self.threshold:g}" + ("" if self.labelled else " against float")

    def compare(self, right: F64, found: F64) -> list[float]:
        mask, wanted = found > self.threshold, right > self.threshold
        return [2 * float(np.count_nonzero(mask & wanted)), float(np.count_nonzero(mask) + np.count_nonzero(wanted))]

    def value(self, rows: Array) -> F64:
        total = rows.sum(-2)
        return np.asarray(np.where(total[..., 1] == 0, 1.0, total[..., 0] / np.maximum(total[..., 1], 1.0)))
