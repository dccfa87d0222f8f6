"""What one sample says of one candidate beside the float model: all that any figure of an evaluation is made from.

A record depends on its sample alone. So records may be made anywhere, in any order and in any number of processes; put
in the order of the samples, they give the same evaluation to the last bit.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from qcompiler.analysis.measures import Measure
from qcompiler.analysis.metrics import Array
from qcompiler.analysis.run import is_float
from qcompiler.data import Sample
from qcompiler.numerics import SqnrMeter


@dataclass(frozen=True, eq=False)
class Record:
    """One sample.

    Attributes:
        sample: its name.
        float_scores, scores: what the measure says of the float model, and of the candidate.
        same: for each decision whether it is the float model's.
        power: by output, sum of squares of the float model's values, and of the differences.
    """

    sample: str
    float_scores: Array
    scores: Array
    same: Array
    power: Mapping[str, tuple[float, float]]


def record(
    measure: Measure, outputs: dict[str, Array], wanted: dict[str, Array], sample: Sample, float_scores: Array
) -> Record:
    """The record of a candidate with `outputs`, where the float model gives `wanted` and reaches `float_scores`."""
    return Record(
        sample.name,
        float_scores,
        measure.scores(outputs, wanted, sample),
        measure.same(outputs, wanted),
        {
            name: power(array, floats(outputs.get(name)))
            for name, value in wanted.items()
            if (array := floats(value)) is not None
        },
    )


def floats(value: object) -> Array | None:
    """An output's floating-point numbers: a tensor; of a sequence or a map all of them, in one row; None of none."""
    if is_float(value):
        return value
    parts = list(_tensors(value))
    return np.concatenate(parts) if parts else None


def _tensors(value: object) -> Iterator[Array]:
    if is_float(value) or isinstance(value, float):
        yield np.ravel(value)
    elif isinstance(value, dict):
        for key in sorted(value):
            yield from _tensors(value[key])
    elif isinstance(value, list):
        for item in value:
            yield from _tensors(item)


def power(wanted: Array, got: Array | None) -> tuple[float, float]:
    """Sum of squares of what is wanted, and of what is lost: infinite where shapes or kinds differ."""
    if is_float(got) and got.shape == wanted.shape:
        meter = SqnrMeter().update(wanted, got)
        return meter.signal, meter.noise
    return SqnrMeter().update(wanted, wanted).signal, math.inf
