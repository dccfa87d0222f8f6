"""Ranges of constant weights on symmetric grids, one per channel or per block of values along an axis.

    absmax      amax_c = max |w_c|
    mse clip    f_c = argmin over f in {1, 0.98, ..., 0.2}:  sum (w_c - grid(w_c; [-f amax_c, f amax_c]))**2

The error is the true one of the weights, not a model of it. On 8 bits f is close to 1 and the gain small; on 4 bits and
fewer it is what keeps a channel with one large weight usable.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from qcompiler.errors import InternalError
from qcompiler.numerics.affine import F32, choose_qparams, fake_quantize
from qcompiler.numerics.float_grid import choose_scale, dequantize_float, quantize_float

Grid = Callable[[F32, F32], F32]
"""Values of rows (R, n) on a symmetric grid that ends at `clip` (R,), one for each row."""

# Widest first: of equal errors the wider range wins.
CLIP_FACTORS: F32 = np.linspace(1.0, 0.2, 41, dtype=np.float32)
# Weights held at once beside the tensor itself.
_BLOCK = 1 << 20


def channel_range(w: npt.NDArray[np.floating], axis: int | None) -> F32:
    """max |w|: rank 1, one per index of `axis`, or rank 0 for `axis=None`; 0 for an empty tensor."""
    low, high = extremes(w, axis)
    return np.asarray(np.maximum(-low, high), np.float32)


def extremes(w: npt.NDArray[np.floating], axis: int | None, block_size: int | None = None) -> tuple[F32, F32]:
    """Smallest and largest value with 0: rank 0 for `axis=None`, one per index of `axis`, or one per block along it."""
    if block_size is not None and axis is not None and w.size:
        starts = np.arange(0, w.shape[axis], block_size)
        low, high = (extreme.reduceat(w, starts, axis=axis) for extreme in (np.minimum, np.maximum))
        return np.asarray(np.minimum(low, 0), np.float32), np.asarray(np.maximum(high, 0), np.float32)
    others = None if axis is None else tuple(i for i in range(w.ndim) if i != axis % w.ndim)
    low, high = (extreme(w, axis=others, initial=0.0) for extreme in (np.min, np.max))
    return np.asarray(low, np.float32), np.asarray(high, np.float32)


def integer_grid(qmin: int, qmax: int) -> Grid:
    """The symmetric grid of integers with zero point 0, qmin < 0 < qmax."""
    if not qmin < 0 < qmax:
        raise InternalError(f"weights need a grid on both sides of 0, not {qmin} to {qmax}")

    def grid(rows: F32, clip: F32) -> F32:
        scale, zero_point = choose_qparams(-clip, clip, qmin=qmin, qmax=qmax, symmetric=True)
        return fake_quantize(rows, scale, zero_point, qmin=qmin, qmax=qmax, axis=0)

    return grid


def float_grid(high: float, dtype: npt.DTypeLike) -> Grid:
    """The grid of a float type that ends at `high`."""

    def grid(rows: F32, clip: F32) -> F32:
        scale = choose_scale(clip, high=high)
        return dequantize_float(quantize_float(rows, scale, high=high, dtype=dtype, axis=0), scale, axis=0)

    return grid


def mse_clip(
    w: npt.NDArray[np.floating], axis: int, grid: Grid, block_size: int | None = None, factors: F32 = CLIP_FACTORS
) -> F32:
    """Factor on max |w| of least squared error.

    Args:
        w: the weights.
        axis: the channel axis, or the one that blocks run along.
        grid: what the weights are rounded to.
        block_size: values in a block; None takes whole channels. The last block may be short.
        factors: to choose from; of equal errors the first one wins.

    Returns:
        float32, one factor per channel or block, of the shape of `extremes`; 1 where all is zero.
    """
    if block_size is None:
        return _factors(np.moveaxis(w, axis, 0).reshape(w.shape[axis], -1), grid, factors)
    inner = np.moveaxis(w, axis, -1)
    short = -inner.shape[-1] % block_size
    inner = np.pad(inner, [(0, 0)] * (inner.ndim - 1) + [(0, short)])
    blocks = inner.reshape(*inner.shape[:-1], -1, block_size)
    found = _factors(blocks.reshape(-1, block_size), grid, factors).reshape(blocks.shape[:-1])
    return np.ascontiguousarray(np.moveaxis(found, -1, axis))


def _factors(rows: npt.NDArray[np.floating], grid: Grid, choices: F32) -> F32:
    """The factor of each row."""
    amax = np.asarray(np.abs(rows).max(axis=1, initial=0.0), np.float32)
    factors = np.ones(amax.shape, np.float32)
    height = max(1, _BLOCK // max(1, rows.shape[1]))
    for start in range(0, rows.shape[0], height):
        part = slice(start, start + height)
        block = np.asarray(rows[part], np.float32)
        least = np.full(block.shape[0], np.inf)
        for factor in choices:
            miss = grid(block, amax[part] * factor)
            miss -= block
            error = np.square(miss, out=miss).sum(axis=1, dtype=np.float64)
            better = error < least
            least[better], factors[part][better] = error[better], factor
    return factors
