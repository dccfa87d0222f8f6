"""Palettes: the few values that stand for all values of a weight, and which of them each one takes.

    minimise  sum over x of h (x - p[c(x)])^2,   c(x) = argmin |x - p|,   p of 2^n values

h is how much a value matters, 1 without data.

Lloyd's iteration on sorted values: the cluster of a palette value is a run between two midpoints, its mean follows from
cumulative sums, so an iteration costs 2^n binary searches, not a pass over the data. It starts from the quantiles and
from an even grid, and the better end is kept. Palettes are float16, as packages store them. A `PaletteGrid` is what
`gptq` rounds a matrix to.

Source: S. Lloyd, "Least squares quantization in PCM", IEEE Transactions on Information Theory 28 (1982).
"""

from __future__ import annotations

from dataclasses import dataclass

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


@dataclass(frozen=True, eq=False)
class PaletteGrid:
    """Palettes of a matrix (rows, K), one for each run of rows.

    Attributes:
        table: float32 (runs, count), ascending.
    """

    table: F32

    @staticmethod
    def of(weight: F32, count: int, run: int, importance: npt.NDArray[np.floating]) -> PaletteGrid:
        """The palettes of runs of `run` rows, where column j matters `importance[j]`, which may be 0."""
        matters = importance / (float(np.mean(importance)) or 1.0) + 1e-6
        parts = weight.reshape(-1, run, weight.shape[1])
        return PaletteGrid(np.stack([palette(part, count, np.broadcast_to(matters, part.shape)) for part in parts]))

    def column(self, x: F32, place: int) -> tuple[npt.NDArray[np.int32], F32]:
        """The nearest codes of a column, whichever it is, and what they stand for."""
        del place
        codes = self.codes(x[:, None])
        return codes[:, 0], self.values(codes)[:, 0]

    def codes(self, weight: F32) -> npt.NDArray[np.int32]:
        """The nearest code of each value."""
        parts = weight.reshape(len(self.table), -1)
        return np.stack([nearest(part, row) for part, row in zip(parts, self.table, strict=True)]).reshape(
            weight.shape
        ).astype(np.int32)  # fmt: skip

    def values(self, codes: npt.NDArray[np.integer]) -> F32:
        """What codes stand for."""
        parts = codes.reshape(len(self.table), -1)
        return np.take_along_axis(self.table, parts, axis=1).reshape(codes.shape)


def palette(values: F32, count: int, matters: npt.NDArray[np.floating] | None = None, *, zero: bool = False) -> F32:
    """The palette of some values, ascending, on the grid of float16; `matters` counts each, and is positive.

    With `zero` one of its values is zero, whatever that costs.
    """
    flat = values.astype(np.float64).reshape(-1)
    place = np.argsort(flat, kind="stable")
    order: F64 = flat[place]
    weights = np.ones(flat.size) if matters is None else matters.astype(np.float64).reshape(-1)[place]
    mass, sums = (np.concatenate([[0.0], np.cumsum(v)]) for v in (weights, weights * order))
    places = ((np.arange(count) + 0.5) / count * (order.size - 1)).astype(int)
    starts = [order[places], np.linspace(order[0], order[-1], count)]
    ends = [lloyd(order, mass, sums, start, zero=zero) for start in starts]
    best = min(ends, key=lambda p: spread(order, mass, sums, p))
    return np.asarray(np.sort(best).astype(np.float16), np.float32)


def lloyd(order: F64, mass: F64, sums: F64, start: F64, *, zero: bool = False) -> F64:
    """The fixed point that the iteration reaches from `start`, or where it stands in the end.

    With `zero` the value nearest to zero is moved there each time.
    """
    found = start.copy()
    if zero:
        found[np.argmin(np.abs(found))] = 0.0
    for _ in range(ITERATIONS):
        cuts = runs(order, found)
        sizes = np.diff(mass[cuts])
        means = np.divide(np.diff(sums[cuts]), sizes, out=found.copy(), where=sizes > 0)
        if zero:
            means[np.argmin(np.abs(means))] = 0.0
        if np.array_equal(means, found):
            break
        found = np.sort(means)
    return found


def runs(order: F64, found: F64) -> npt.NDArray[np.intp]:
    """Where the cluster of each palette value begins, and where the last one ends."""
    inner = np.searchsorted(order, (found[1:] + found[:-1]) / 2)
    return np.concatenate([[0], inner, [order.size]])


def spread(order: F64, mass: F64, sums: F64, found: F64) -> float:
    """The squared error, but for the sum of squares of the values, which all palettes share."""
    cuts = runs(order, found)
    return float((np.diff(mass[cuts]) * found * found - 2 * found * np.diff(sums[cuts])).sum())


def nearest(values: F32, found: F32) -> npt.NDArray[np.uint8]:
    """The index of the nearest palette value; the smaller one at a midpoint."""
    middles = (found[1:].astype(np.float64) + found[:-1]) / 2
    return np.searchsorted(middles, values.astype(np.float64)).astype(np.uint8)
