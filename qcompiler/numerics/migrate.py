"""How much to stretch each channel of a value, so that the layer that reads it has the least noise.

    y = W x:   x_c times 2^k_c, W[:, c] times 2^-k_c, the same y

One grid serves all channels of x, one each row of W. Stretching small channels of x makes their steps finer and their
weights smaller beside the others in the row. Between no stretch (alpha 0) and channels all alike (alpha 1) lie

    2^k_c = (peak_w_c^(1 - alpha) / peak_x_c^alpha), rounded to a power of two,   0 < alpha <= 1

and alpha is what leaves the least expected noise of y, errors of rounding being independent and uniform in a step:

    noise(k) = step_x^2 / 12 sum_oc W'[o, c]^2 + sum_o step_o^2 / 12 sum_c E[x'_c^2]

Powers of two move no digit, so the model computes the same to the bit.

Source: Xiao, Lin, Seznec, Wu, Demouth, Han, "SmoothQuant" (ICML 2023), equation 4, with an alpha for each layer; with
alpha 1/2 and between two convolutions it is the equalization of Nagel, van Baalen, Blankevoort, Welling (ICCV 2019),
equation 7, with measured ranges of activations in place of those of weights.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]

ALPHAS = (0.25, 0.375, 0.5, 0.625, 0.75, 0.875, 1.0)
MOST_OCTAVES = 16
# A smaller gain than this factor in noise is not worth another graph.
WORTH = 0.9


def octaves(low: F64, high: F64, squares: F64, weights: Sequence[F64], levels: int = 255) -> I64:
    """k_c of least noise; zeros where no stretch gains enough.

    Args:
        low, high: extremes of each channel.
        squares: E[x_c^2].
        weights: W of each reader by input channel: (channels, rows, taps).
        levels: steps of the grid of x.
    """
    none = np.zeros(low.size, np.int64)
    peak = np.maximum(-low, high)
    heavy = np.max([np.abs(part).max(axis=(1, 2), initial=0.0) for part in weights], axis=0)
    alive = (peak > 0) & (heavy > 0)
    if not alive.any():
        return none
    least, best = WORTH * noise(none, low, high, squares, weights, levels), none
    for alpha in ALPHAS:
        wish = np.zeros(low.size)
        wish[alive] = (1 - alpha) * np.log2(heavy[alive]) - alpha * np.log2(peak[alive])
        wish[alive] -= wish[alive].min()
        tried = np.where(alive, np.clip(np.rint(wish), 0, MOST_OCTAVES), 0).astype(np.int64)
        found = noise(tried, low, high, squares, weights, levels)
        if found < least:
            least, best = found, tried
    return best


def noise(k: I64, low: F64, high: F64, squares: F64, weights: Sequence[F64], levels: int) -> float:
    """Expected squared error of y, summed over the rows of all readers."""
    scale = 2.0**k
    step_x = (max((high * scale).max(), 0.0) - min((low * scale).min(), 0.0)) / levels
    power, total = float((squares * scale**2).sum()), 0.0
    for part in weights:
        shrunk = part / scale[:, None, None]
        steps = np.abs(shrunk).max(axis=(0, 2)) / 127
        total += float(step_x**2 * np.square(shrunk).sum() + np.square(steps).sum() * part.shape[2] * power)
    return total / 12
