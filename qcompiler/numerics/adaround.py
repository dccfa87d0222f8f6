"""Which way to round each weight so that the layer's results, not its weights, are least off.

    minimise over c_k in {floor(w_k), ceil(w_k)}:   (c - w)' H (c - w),   H = E[x x']

for one row of weights w in units of its step, x being what the row is multiplied with: a quadratic problem in bits.
Rounding to nearest ignores H, which is far from diagonal: what a layer reads is correlated (neighbouring pixels and
samples, channels that fire together), and errors that cancel cost nothing.

Solved from two starts, the better one per row: nearest, and rounding one weight after the other with the error so far
made good by those still open (H inverse by Cholesky). From each, the one bit whose change gains most is changed until
none gains. Every step lowers the error, so no row ends worse than nearest.

Source: Nagel, Amjad, van Baalen, Louizos, Blankevoort, "Up or down? Adaptive rounding for post-training quantization"
(ICML 2020), equation 20 for the problem; the second start is that of Frantar, Ashkboos, Hoefler, Alistarh, "GPTQ"
(ICLR 2023). The paper relaxes bits to sigmoids and trains them on samples; with H at hand the error of every change is
known exactly, so no learning rate and no number of iterations has to be chosen.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]

# Added to the diagonal, as a share of its mean: directions that samples do not show must not be free.
RIDGE = 0.01
# Gains are compared in this many parts of the largest, so that the last bits of sums decide nothing.
_PARTS = 2.0**30
# Weights that are gone through together, so that what is worked on stays near the processor.
CACHE = 1 << 16
# Columns whose errors are passed on to all behind them at once (GPTQ's lazy updates).
LAZY = 64


def adaround(steps: F64, moments: F64, *, low: int, high: int) -> npt.NDArray[np.int64]:
    """Codes of least error.

    Args:
        steps: weights in units of their steps, (groups, rows, K).
        moments: H of each group, (groups, K, K), symmetric and positive semidefinite.
        low, high: smallest and largest code.

    Returns:
        Codes of the shape of `steps`.
    """
    size = steps.shape[2]
    ridge = RIDGE * np.trace(moments, axis1=1, axis2=2)[:, None, None] / size
    h = moments + np.where(ridge > 0, ridge, 1.0) * np.eye(size)
    clipped = np.clip(steps, low, high)
    nearest = np.rint(clipped)
    starts = [descended(start, clipped, h, low, high) for start in (nearest, fed_back(clipped, h, low, high))]
    errors = [error(codes, clipped, h) for codes in (*starts, nearest)]
    best = np.where((errors[1] < errors[0])[..., None], starts[1], starts[0])
    kept = np.minimum(errors[0], errors[1]) < errors[2]
    return np.asarray(np.where(kept[..., None], best, nearest), np.int64)


def error(codes: npt.NDArray[np.int64] | F64, steps: F64, moments: F64) -> F64:
    """(c - w)' H (c - w) of each row."""
    off = codes - steps
    return np.asarray((np.matmul(off, moments) * off).sum(-1), np.float64)


def fed_back(steps: F64, h: F64, low: int, high: int) -> F64:
    """Codes by rounding the first weight, correcting the rest for its error, and so on."""
    size = steps.shape[2]
    # rows of the upper Cholesky factor of the inverse say how the rest makes good for each weight
    inverse = np.linalg.inv(h)
    factor = np.linalg.cholesky((inverse + inverse.transpose(0, 2, 1)) / 2).transpose(0, 2, 1)
    open_, codes = steps.copy(), np.empty_like(steps)
    floors, ceilings = np.maximum(np.floor(steps), low), np.minimum(np.ceil(steps), high)
    for first in range(0, size, LAZY):
        last = min(first + LAZY, size)
        miss = np.empty((*codes.shape[:2], last - first))
        for k in range(first, last):
            codes[..., k] = np.clip(np.rint(open_[..., k]), floors[..., k], ceilings[..., k])
            miss[..., k - first] = (open_[..., k] - codes[..., k]) / factor[:, k, k][:, None]
            open_[..., k + 1 : last] -= miss[..., k - first, None] * factor[:, None, k, k + 1 : last]
        open_[..., last:] -= np.matmul(miss, factor[:, first:last, last:])
    return codes


def descended(
    start: F64, steps: F64, h: F64, low: int, high: int, *, slope: F64 | None = None, toll: F64 | float = 0.0
) -> F64:
    """`start` with bits changed one at a time, in each row the one that gains most, until none gains.

    Args:
        start: codes.
        steps: weights in units of their steps.
        h: see the module.
        low, high: smallest and largest code.
        slope: half the gradient of the error at `start`; that of the module's error by default.
        toll: what a change must gain more than, of the shape of `steps`.
    """
    groups, rows, size = steps.shape
    if slope is None:
        slope = np.matmul(start - steps, h)
    tolls = np.broadcast_to(toll, steps.shape)
    codes = start.copy()
    together = max(1, CACHE // size)
    for group in range(groups):
        for row in range(0, rows, together):
            part = group, slice(row, row + together)
            codes[part] = _descended(codes[part], steps[part], h[group], slope[part].copy(), tolls[part], low, high)
    return codes


def _descended(start: F64, steps: F64, h: F64, slope: F64, toll: F64, low: int, high: int) -> F64:
    """The same for some rows of one group, all of (rows, K); `slope` is used up."""
    found, diagonal = start.copy(), np.diagonal(h)
    parts = _PARTS / max(float(diagonal.max(initial=0.0)), np.finfo(np.float64).tiny)
    here = np.arange(len(found))
    codes, off = start.copy(), start - steps
    move = np.where(off > 0, -1.0, 1.0)
    fixed = np.where((off == 0) | (codes + move < low) | (codes + move > high), np.inf, 0.0)
    charge = diagonal + toll
    for _ in range(4 * codes.shape[1]):
        gain = np.rint((-2 * move * slope - charge) * parts) - fixed
        place = gain.argmax(axis=1)
        at = np.arange(len(place))
        better = gain[at, place] > 0
        if not better.all():
            found[here[~better]] = codes[~better]
            here, place = here[better], place[better]
            if not here.size:
                return found
            codes, off, move, fixed, charge, slope = (
                array[better] for array in (codes, off, move, fixed, charge, slope)
            )
            at = np.arange(len(place))
        step = move[at, place]
        codes[at, place] += step
        off[at, place] += step
        slope += step[:, None] * h[place]
        move[at, place] = -step
        fixed[at, place] = np.where(off[at, place] == 0, np.inf, 0.0)
    found[here] = codes
    return found
