"""The range that keeps most information: least Kullback-Leibler divergence between values and codes.

The method of TensorRT (Migacz, "8-bit inference with TensorRT", GTC 2017), also in ONNX Runtime. For a threshold T:

    P    counts of |x| in linear bins over [0, T]; what lies beyond is added to the last bin
    Q    the same without the outliers, each of the `levels` cells spread evenly over its non-empty bins
    T*   = argmin KL(P || Q);   range = [max(minimum, -T*), min(maximum, T*)]

`levels` is the number of codes that the longer side gets: on 8 bits 128 for a symmetric grid, 256 for one-sided data
on an asymmetric grid, and between them by share (HardSwish: 253). Differences from those implementations:
- the linear bins are drawn from the bfloat16 histogram, evenly within a bin, so no second pass over the data is needed;
- an empty last cell counts as 1e-4 values in Q (they smooth every empty bin), so a threshold in a gap is not forbidden;
- exact zeros are left out: every grid holds them exactly;
- all thresholds are judged at once from prefix sums of p, p log p and of the non-empty bins;
- a threshold cuts off at most 1 % of the values: as the outliers of P all fall in one bin, KL(P || Q) would be near 0
  for a threshold that hardly anything lies under (data far from zero);
- the bins span [0, min(max |x|, 2048 / levels * the 99.9 percentile of |x|)]: with far outliers, 2048 bins over
  everything would hold the bulk of the values in a handful of them.
Grids with more than 256 levels a side get min-max: 2048 bins cannot judge them. The divergence does not know how large
a value is, so on long tails this method clips far more than squared error would: it is here for comparison with other
tools, and `auto` does not use it.
"""

from __future__ import annotations

import numpy as np

from qcompiler.numerics.histogram import F64, Histogram

_BINS, _THRESHOLD_STEP, _MOST_CUT, _SMOOTH, _BULK = 2048, 4, 0.01, 1e-4, 0.999


def entropy(hist: Histogram, *, qmin: int, qmax: int, symmetric: bool) -> tuple[float, float]:
    """Range (low, high) of least KL divergence, within [minimum, maximum] extended to 0."""
    bottom, top = min(hist.minimum, 0.0), max(hist.maximum, 0.0)
    if hist.finite_count == 0 or bottom == top:
        return (0.0, 0.0)
    reach = max(-bottom, top)
    share = 0.5 if symmetric else reach / (top - bottom)
    levels = max(1, round((qmax - qmin + 1) * share))
    if levels > 256:
        return bottom, top
    edges, below = _distribution(hist)
    if edges.size == 0:
        return bottom, top
    bulk = float(np.interp(_BULK * below[-1], below, edges))
    reach = min(reach, bulk * _BINS / levels)
    counts = np.diff(np.interp(np.linspace(0.0, reach, _BINS + 1), edges, below))
    # Interpolation leaves rounding dust in empty bins.
    counts[counts < 1e-3] = 0.0
    kept = _best_threshold(counts, float(below[-1] - counts.sum()), levels)
    threshold = reach * kept / _BINS
    return max(bottom, -threshold), min(top, threshold)


def _distribution(hist: Histogram) -> tuple[F64, F64]:
    """Points of the cumulative count of |x|, zeros left out: ascending magnitudes, values at or below each."""
    low, high, counts = hist.bins()
    used = (low != 0) | (high != 0)
    low, high, counts = low[used], high[used], counts[used]
    near, far = np.minimum(np.abs(low), np.abs(high)), np.maximum(np.abs(low), np.abs(high))
    # A bin that is a point gets a width, so that magnitudes strictly increase within it.
    near = np.where(near == far, near * (1 - 2.0**-20), near)
    edges = np.unique(np.concatenate([near, far]))
    density = np.zeros(edges.size)
    np.add.at(density, np.searchsorted(edges, near), counts / (far - near))
    np.subtract.at(density, np.searchsorted(edges, far), counts / (far - near))
    mass = np.cumsum(density)[:-1] * np.diff(edges)
    return edges, np.append(0.0, np.cumsum(np.maximum(mass, 0.0)))


def _best_threshold(counts: F64, outliers: float, levels: int) -> int:
    """Number of leading bins to keep; the greatest of equally good ones."""
    kept = np.arange(counts.size, levels - 1, -_THRESHOLD_STEP)
    if kept[-1] != levels:
        kept = np.append(kept, levels)
    information = counts * np.log(np.maximum(counts, 1e-300))
    sums = [np.append(0.0, np.cumsum(part)) for part in (counts, information, (counts > 0).astype(np.float64))]
    mass, own, filled = sums
    cells = kept[:, None] * np.arange(levels + 1) // levels
    inside, spread = np.diff(mass[cells], axis=1), np.diff(filled[cells], axis=1)
    beyond = mass[-1] + outliers - mass[kept]
    last = counts[kept - 1]
    # The last bin takes the outliers in P; when it was empty, it joins the non-empty bins of its cell in Q.
    spread[:, -1] += (last == 0) & (beyond > 0)
    weight = inside.copy()
    weight[:, -1] += beyond
    inside[:, -1] = np.maximum(inside[:, -1], _SMOOTH)
    own_information = own[kept] - information[kept - 1] + _xlogx(last + beyond)
    with np.errstate(divide="ignore", invalid="ignore"):
        cross = np.where(weight > 0, weight * np.log(inside / spread), 0.0).sum(axis=1)
        total = mass[kept] + beyond
        divergence = (own_information - cross) / total + np.log(mass[kept] / total)
    divergence[np.isnan(divergence) | (beyond > _MOST_CUT * total)] = np.inf
    return int(kept[np.argmin(divergence)])


def _xlogx(x: F64) -> F64:
    return np.asarray(x * np.log(np.maximum(x, 1e-300)))
