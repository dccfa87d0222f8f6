"""Spearman's rank correlation.

With labels, numbers, it is taken over the samples: of the labels and of what the model predicts, which is the one value
of its output, or the cosine between the two rows of its output, where each sample is a batch of two things to compare
(sentences, say). Without labels it is taken within each sample, of the output's values and the float model's, and the
mean counts.

    spearman(x, y) = Pearson's correlation of the ranks of x and of y; equal values share the mean of their ranks
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from qcompiler.analysis.measures import F64, Measure
from qcompiler.analysis.metrics import Array
from qcompiler.data import Sample
from qcompiler.errors import DataError


@dataclass(frozen=True)
class RanksInside(Measure):
    """Mean over samples of the rank correlation with float's output."""

    title: ClassVar[str] = "spearman against float"

    def scores(self, outputs: dict[str, Array], wanted: dict[str, Array], sample: Sample) -> Array:
        right, found = wanted[self.output].reshape(1, -1), outputs[self.output].reshape(1, -1)
        if right.size != found.size or np.isnan(found).any():
            return np.array([-1.0])
        return spearman(right.astype(np.float64), found.astype(np.float64))


@dataclass(frozen=True)
class RanksOver(Measure):
    """Rank correlation of predictions and labels over samples."""

    title: ClassVar[str] = "spearman"

    def scores(self, outputs: dict[str, Array], wanted: dict[str, Array], sample: Sample) -> Array:
        label = np.asarray(sample.label)
        if label.size != 1 or label.dtype.kind not in "fiu":
            raise DataError(
                f"the label has shape {list(label.shape)} and type {label.dtype}",
                where=sample.name,
                hint="metric spearman needs a number for each sample",
            )
        return np.array([[prediction(outputs[self.output], sample), float(label.reshape(-1)[0])]])

    def value(self, rows: Array) -> F64:
        return spearman(rows[..., 0], rows[..., 1])


def prediction(output: Array, sample: Sample) -> float:
    """The number that a sample's output stands for."""
    values = output.astype(np.float64)
    if values.size == 1:
        return float(values.reshape(-1)[0])
    if values.ndim < 2 or values.shape[0] != 2:
        raise DataError(
            f"the output has shape {list(output.shape)}: neither one value nor two rows to compare",
            where=sample.name,
            hint="metric spearman needs one of both; else give --metric package.module:callable",
        )
    first, second = values.reshape(2, -1)
    length = float(np.linalg.norm(first) * np.linalg.norm(second))
    return float(first @ second) / length if length > 0 else math.nan


def spearman(first: Array, second: Array) -> F64:
    """Along the last axis; 0 where all values are equal or one is NaN, since nothing is said about order."""
    from scipy.stats import rankdata

    x, y = (rankdata(values, axis=-1) for values in (first, second))
    x, y = (ranks - ranks.mean(-1, keepdims=True) for ranks in (x, y))
    spread = np.sqrt(np.square(x).sum(-1) * np.square(y).sum(-1))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.nan_to_num(np.where(spread > 0, (x * y).sum(-1) / spread, 0.0)))
