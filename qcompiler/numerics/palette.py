"""Palettes: the few values that stand for all values of a weight, and which of them each one takes.

    minimise  sum over x of (x - p[c(x)])^2,   c(x) = argmin |x - p|,   p of 2^n values

Lloyd's iteration on sorted values: the cluster of a palette value is a run between two midpoints, its mean follows from
cumulative sums, so an iteration costs 2^n binary searches, not a pass over the data. It starts from the quantiles and
from an even grid, and the better end is kept. Palettes are float16, as packages store them.

Source: S. Lloyd, "Least squares quantization in PCM", IEEE Transactions on Information Theory 28 (1982).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]

ITERATIONS = 60


def palettes(
    w: npt.NDArray[np.floating], count: int, axis: int = 0, size: int = 0
) -> tuple[F32, npt.NDArray[np.uint8]]:
    """The palette of each group, and the index of each value into that of its group.

    Args:
        w: the weight.
        count: values of a palette, at most 256.
        axis: the groups are runs of indices of this axis.
        size: length of a run, a divisor of the length of the axis; 0 for one group.

    Returns:
        float32 (groups, count), ascending, and indices of the shape of `w`.
    """
    lines = np.moveaxis(np.asarray(w, np.float32), axis, 0)
    groups = lines.reshape(1 if not size else lines.shape[0] // size, -1)
    table = np.stack([palette(row, count) for row in groups])
    codes = np.stack([nearest(row, values) for row, values in zip(groups, table, strict=True)])
    return table, np.ascontiguousarray(np.moveaxis(codes.reshape(lines.shape), 0, axis))


def palette(values: F32, count: int) -> F32:
    """The palette of some values, ascending, on the grid of float16."""
    order: F64 = np.sort(values.astype(np.float64), axis=None)
    sums = np.concatenate([[0.0], np.cumsum(order)])
    places = ((np.arange(count) + 0.5) / count * (order.size - 1)).astype(int)
    starts = [order[places], np.linspace(order[0], order[-1], count)]
    ends = [lloyd(order, sums, start) for start in starts]
    best = min(ends, key=lambda p: spread(order, sums, p))
    return np.asarray(np.sort(best).astype(np.float16), np.float32)


def lloyd(order: F64, sums: F64, start: F64) -> F64:
    """The fixed point that the iteration reaches from `start`, or where it stands in the end."""
    found = start.copy()
    for _ in range(ITERATIONS):
        cuts = runs(order, found)
        sizes = np.diff(cuts)
        means = np.divide(np.diff(sums[cuts]), sizes, out=found.copy(), where=sizes > 0)
        if np.array_equal(means, found):
            break
        found = np.sort(means)
    return found


def runs(order: F64, found: F64) -> npt.NDArray[np.intp]:
    """Where the cluster of each palette value begins, and where the last one ends."""
    inner = np.searchsorted(order, (found[1:] + found[:-1]) / 2)
    return np.concatenate([[0], inner, [order.size]])


def spread(order: F64, sums: F64, found: F64) -> float:
    """The squared error, but for the sum of squares of the values, which all palettes share."""
    cuts = runs(order, found)
    return float((np.diff(cuts) * found * found - 2 * found * np.diff(sums[cuts])).sum())


def nearest(values: F32, found: F32) -> npt.NDArray[np.uint8]:
    """The index of the nearest palette value; the smaller one at a midpoint."""
    middles = (found[1:].astype(np.float64) + found[:-1]) / 2
    return np.searchsorted(middles, values.astype(np.float64)).astype(np.uint8)
