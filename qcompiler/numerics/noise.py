"""The squared error that an integer grid makes on the values of a histogram.

Values are taken as spread evenly over their bin (bins that are a point, such as 0 and a saturated extreme, as a point).
With t = x / scale, the grid picks k = clip(round(t), qmin - zero_point, qmax - zero_point), and

    integral of (t - k(t))**2 dt = F(t) = k / 12 + (t - k)**3 / 3,

which holds inside the grid and, as k stands still there, beyond it. So the error of a bin [a, b] is exactly
scale**3 * (F(b/scale) - F(a/scale)) / (b - a) per value: rounding and clipping in one formula, with no noise model and
no aliasing between bins and steps. Sums are NumPy's own (fixed order, no BLAS threads).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from qcompiler.numerics.histogram import Histogram

F64 = npt.NDArray[np.float64]

# Float64 numbers held per block of candidate grids.
_BLOCK = 1 << 17


@dataclass(frozen=True, eq=False, slots=True)
class GridNoise:
    """The error of many candidate grids on one histogram.

    Attributes:
        edges, weights: sum of weights * 12 F(edges / scale) * scale**3 is the error of the bins with a width.
        points, point_counts: bins that are a point.
        tiny: summed squares of the values that every candidate rounds to 0.
        count: number of finite values.
    """

    edges: F64
    weights: F64
    points: F64
    point_counts: F64
    tiny: float
    count: int

    @classmethod
    def of(cls, hist: Histogram, smallest_scale: float = 0.0, thin: int = 1) -> GridNoise:
        """Prepare a histogram.

        Args:
            hist: the values.
            smallest_scale: no candidate will be finer; values under half of it are folded into one number.
            thin: neighbouring bins taken as one, for a cheaper estimate.
        """
        low, high, counts = hist.bins()
        folded = np.maximum(-low, high) < smallest_scale / 2
        tiny = float((counts * (low * low + low * high + high * high))[folded].sum()) / 3
        width = high - low
        wide, point = ~folded & (width > 0), ~folded & (width == 0)
        points, point_counts = low[point], counts[point].astype(np.float64)
        low, high, inside = low[wide], high[wide], counts[wide]
        if thin > 1 and inside.size:
            start = np.arange(0, inside.size, thin)
            low, high, inside = low[start], high[np.append(start[1:], inside.size) - 1], np.add.reduceat(inside, start)
        density = inside / (12 * (high - low))
        edges = np.stack([low, high], axis=1).reshape(-1)
        weights = np.stack([-density, density], axis=1).reshape(-1)
        if edges.size:
            # Neighbouring bins share an edge.
            first = np.flatnonzero(np.append(True, edges[1:] != edges[:-1]))
            edges, weights = edges[first], np.add.reduceat(weights, first)
        return cls(edges, weights, points, point_counts, tiny, hist.finite_count)

    def __call__(
        self, scale: npt.ArrayLike, zero_point: npt.ArrayLike, *, qmin: int, qmax: int, clipping: float = 1.0
    ) -> F64:
        """Mean squared error of each grid; `scale` and `zero_point` are vectors of candidates.

        `clipping` is the weight of errors of more than half a step: of values that lie beyond the grid.
        """
        step = np.asarray(scale, np.float64)
        first = qmin - np.asarray(zero_point, np.float64)
        noise = np.empty(step.shape)
        block = max(1, _BLOCK // max(1, self.edges.size + self.points.size))
        for start in range(0, step.size, block):
            part = slice(start, start + block)
            noise[part] = self._block(step[part, None], first[part, None], qmax - qmin, clipping - 1.0)
        return (noise + self.tiny) / max(self.count, 1)

    def _block(self, step: F64, first: F64, steps: int, more: float) -> F64:
        cell, rest = _nearest(self.edges / step, first, steps)
        cubes = rest * rest
        cubes *= rest
        _, miss = _nearest(self.points / step, first, steps)
        squares = miss * miss
        if more:
            # What an integral has beyond half a step from the last grid point counts once more.
            cubes += more * (np.maximum(cubes, 0.125) + np.minimum(cubes, -0.125))
            squares += np.where(squares > 0.25, more * squares, 0.0)
        cubes *= 4
        cubes += cell
        cubes *= self.weights
        return np.asarray(
            cubes.sum(axis=1) * step[:, 0] ** 3 + (squares * self.point_counts).sum(axis=1) * step[:, 0] ** 2
        )


def _nearest(t: F64, first: F64, steps: int) -> tuple[F64, F64]:
    """The grid point of each t, and t minus it; overwrites t."""
    cell = np.rint(t)
    np.maximum(cell, first, out=cell)
    np.minimum(cell, first + steps, out=cell)
    t -= cell
    return cell, t


def expected_error(
    hist: Histogram, scale: npt.ArrayLike, zero_point: npt.ArrayLike, *, qmin: int, qmax: int
) -> tuple[float, float]:
    """Mean square of the values and mean squared error of one grid on them; 0 and 0 for an empty histogram.

    10 * log10(signal / noise) is the SQNR in dB that this grid gives this tensor.
    """
    noise = GridNoise.of(hist)(np.reshape(scale, 1), np.reshape(zero_point, 1), qmin=qmin, qmax=qmax)
    return hist.mean_square(), float(noise[0])
