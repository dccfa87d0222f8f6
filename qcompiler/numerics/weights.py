"""Ranges of constant weights on symmetric grids, one per channel.

    absmax      amax_c = max |w_c|
    mse clip    f_c = argmin over f in {1, 0.98, ..., 0.2}:  sum (w_c - fake_quantize(w_c; [-f amax_c, f amax_c]))**2

The error is the true one of the weights, not a model of it. On 8 bits f is close to 1 and the gain small; on 4 bits and
fewer it is what keeps a channel with one large weight usable.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from qcompiler.errors import InternalError
from qcompiler.numerics.affine import F32, choose_qparams, fake_quantize

# Widest first: of equal errors the wider range wins.
CLIP_FACTORS: F32 = np.linspace(1.0, 0.2, 41, dtype=np.float32)
# Weights held at once beside the tensor itself.
_BLOCK = 1 << 20


def channel_range(w: npt.NDArray[np.floating], axis: int | None) -> F32:
    """max |w|: rank 1, one per index of `axis`, or rank 0 for `axis=None`; 0 for an empty tensor."""
    others = None if axis is None else tuple(i for i in range(w.ndim) if i != axis % w.ndim)
    low, high = (extreme(w, axis=others, initial=0.0) for extreme in (np.min, np.max))
    return np.asarray(np.maximum(-low, high), np.float32)


def mse_clip(w: npt.NDArray[np.floating], axis: int, *, qmin: int, qmax: int) -> F32:
    """Factor on `channel_range(w, axis)` of least squared error for a symmetric grid with zero point 0.

    Args:
        w: the weights.
        axis: the channel axis.
        qmin, qmax: smallest and largest code, qmin < 0 < qmax.

    Returns:
        float32, one factor in [0.2, 1] per channel; 1 for a channel of zeros.
    """
    if not qmin < 0 < qmax:
        raise InternalError(f"weights need a grid on both sides of 0, not {qmin} to {qmax}")
    rows = np.moveaxis(w, axis, 0).reshape(w.shape[axis], -1)
    amax = channel_range(w, axis)
    factors = np.ones(amax.shape, np.float32)
    height = max(1, _BLOCK // max(1, rows.shape[1]))
    for start in range(0, rows.shape[0], height):
        part = slice(start, start + height)
        block = np.asarray(rows[part], np.float32)
        least = np.full(block.shape[0], np.inf)
        for factor in CLIP_FACTORS:
            clip = amax[part] * factor
            scale, zero_point = choose_qparams(-clip, clip, qmin=qmin, qmax=qmax, symmetric=True)
            miss = fake_quantize(block, scale, zero_point, qmin=qmin, qmax=qmax, axis=0)
            miss -= block
            error = np.square(miss, out=miss).sum(axis=1, dtype=np.float64)
            better = error < least
            least[better], factors[part][better] = error[better], factor
    return factors
