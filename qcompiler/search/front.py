"""The Pareto front of what was measured: no other candidate is as accurate, as fast and as small, and better in one.

Accuracy is the loss of the metric and the SQNR of the worst output, each of its own; figures that were not measured
compare as equal. Nothing is estimated: every point is a whole model that was evaluated.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Point:
    """One candidate: smaller is better everywhere.

    Attributes:
        loss: of the metric.
        noise: minus the SQNR of the worst output, dB.
        time: relative to the model as given.
        size: bytes of the weights.
    """

    loss: float | None
    noise: float | None
    time: float | None
    size: int

    @property
    def axes(self) -> tuple[float | None, ...]:
        """All figures."""
        return self.loss, self.noise, self.time, self.size


def front(points: Sequence[Point]) -> tuple[int, ...]:
    """Indices of the points that no other dominates, in order; of equal ones the first."""
    return tuple(
        i
        for i, point in enumerate(points)
        if not any(j != i and dominates(other, point, first=j < i) for j, other in enumerate(points))
    )


def dominates(one: Point, other: Point, *, first: bool = False) -> bool:
    """Whether `one` is nowhere worse than `other`, and better somewhere, or equal and `first`."""
    pairs = [(a, b) for a, b in zip(one.axes, other.axes, strict=True) if a is not None and b is not None]
    if any(math.isnan(a) or a > b for a, b in pairs):
        return False
    return first or any(a < b for a, b in pairs)
