"""What a mask pushes out of sight of Softmax, and how far it has to: seen from the values themselves.

    Softmax(x)    what lies `OUT_OF_SIGHT` below the largest value of a row gives less than 2e-7 of it

A model masks by adding a large negative number (-1e4, -3.4e38) to some scores, or by putting it in their place. On a
grid that holds that number the scores have few steps, or none. In the histogram such values stand apart: a gap wider
than everything above it, which is more than a few outliers. Every row that means something has a score above the gap,
so the values below may saturate `OUT_OF_SIGHT` under the lowest score.
"""

from __future__ import annotations

import math

import numpy as np

from qcompiler.numerics.histogram import Histogram

OUT_OF_SIGHT = 16.0
FEWEST = 1 / 64
"""The share of values that must lie above the gap."""


def lowest_in_sight(values: Histogram) -> float:
    """The value to which everything below the gap may saturate; -infinity where there is no gap."""
    lows, highs, counts = values.bins()
    lowest, above = lows[1:], counts[::-1].cumsum()[::-1][1:]
    gap = lowest - highs[:-1] > np.maximum(OUT_OF_SIGHT, values.maximum - lowest)
    found = np.flatnonzero(gap & (above >= FEWEST * values.finite_count))
    return float(lowest[found[-1]]) - OUT_OF_SIGHT if found.size else -math.inf
