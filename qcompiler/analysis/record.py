"""What one sample says of one candidate beside the float model: all that any figure of an evaluation is made from.

A record depends on its sample alone. So records may be made anywhere, in any order and in any number of processes; put
in the order of the samples, they give the same evaluation to the last bit.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

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
        {name: power(array, outputs.get(name)) for name, array in wanted.items() if is_float(array)},
    )


def power(wanted: Array, got: Array | None) -> tuple[float, float]:
    """Sum of squares of what is wanted, and of what is lost: infinite where shapes or kinds differ."""
    if is_float(got) and got.shape == wanted.shape:
        meter = SqnrMeter().update(wanted, got)
        return meter.signal, meter.noise
    return SqnrMeter().update(wanted, wanted).signal, math.inf
