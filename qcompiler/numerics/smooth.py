"""How much to stretch each channel of a value, by the error that its readers are measured to make.

    y = X W:   X with channel c times 2^k_c, W with row c times 2^-k_c, the same y
    2^k_c = peak_w_c^(1 - alpha) / peak_x_c^alpha, rounded to a power of two, 0 <= alpha <= 1
    error(k) = |Q(X 2^k) Q(W 2^-k) - X W|^2

on rows X that were seen, with X on one grid and W on one for each column, summed over the readers. Alpha is what leaves
the least. Unlike the noise that `migrate` expects, this knows that values of a channel go together, and that most of
them are small.

Source: Xiao, Lin, Seznec, Wu, Demouth, Han, "SmoothQuant" (ICML 2023), equation 4, with an alpha for each layer.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from qcompiler.numerics.migrate import MOST_OCTAVES

F64 = npt.NDArray[np.float64]
Floats = npt.NDArray[np.floating]
I64 = npt.NDArray[np.int64]

ALPHAS = tuple(step / 10 for step in range(11))


def smoothed(rows: Floats, low: F64, high: F64, weights: Sequence[Floats], worth: float, levels: int = 255) -> I64:
    """k_c of least error; zeros where none is better by enough.

    Args:
        rows: (n, channels).
        low, high: extremes of each channel over all data.
        weights: of each reader, (channels, columns).
        worth: what the error must fall to, as a share.
        levels: steps of the grid of X.
    """
    none = np.zeros(low.size, np.int64)
    peak = np.maximum(-low, high)
    heavy = np.max([np.abs(part).max(axis=1, initial=0.0) for part in weights], axis=0)
    alive = (peak > 0) & (heavy > 0)
    if not alive.any() or not rows.size:
        return none
    rows, weights = rows.astype(np.float32), [part.astype(np.float32) for part in weights]
    exact = [rows @ part for part in weights]
    least, best, seen = worth * error(none, rows, low, high, weights, exact, levels), none, {none.tobytes()}
    for alpha in ALPHAS:
        wish = np.zeros(low.size)
        wish[alive] = (1 - alpha) * np.log2(heavy[alive]) - alpha * np.log2(peak[alive])
        wish[alive] -= wish[alive].min()
        tried = np.where(alive, np.clip(np.rint(wish), 0, MOST_OCTAVES), 0).astype(np.int64)
        if tried.tobytes() in seen:
            continue
        seen.add(tried.tobytes())
        found = error(tried, rows, low, high, weights, exact, levels)
        if found < least:
            least, best = found, tried
    return best


def error(
    k: I64, rows: Floats, low: F64, high: F64, weights: Sequence[Floats], exact: Sequence[Floats], levels: int
) -> float:
    """Squared error of the results, summed over the readers."""
    scale = (2.0**k).astype(rows.dtype)
    first, last = min(float((low * scale).min()), 0.0), max(float((high * scale).max()), 0.0)
    step = (last - first) / levels or 1.0
    stored = np.rint(np.clip(rows * scale, first, last) / step) * step
    total = 0.0
    for part, wanted in zip(weights, exact, strict=True):
        shrunk = part / scale[:, None]
        steps = np.abs(shrunk).max(axis=0) / 127
        steps[steps == 0] = 1.0
        total += float(np.square(stored @ (np.rint(shrunk / steps) * steps) - wanted).sum(dtype=np.float64))
    return total
