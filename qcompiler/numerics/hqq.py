"""Data-free grids for weights with outliers: the error is measured by |e|^p, p < 1, which forgives a few large ones.

    minimise  sum |W - Q|^p,   Q = s (C - z)
    codes    C = nearest to W
    errors   E = shrink(W - Q)        the generalised soft threshold: sign(e) max(|e| - |e|^(p-1) / beta, 0)
    grid     s, z = the line that fits W - E to C best in each block; z in whole codes, as targets store it

Half-quadratic: each step solves one part with the others fixed, and beta grows. The grid of the least sum |W - Q|^p on
the way is kept, the one that it started from included. Where the zero point is fixed, only s is fitted. W is in units
of the largest value of its block.

Source: Badri and Shaji, "Half-Quadratic Quantization of Large Machine Learning Models" (2023), which keeps s fixed and
z a float.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from qcompiler.numerics.block_range import BlockGrid, by_pieces, safe
from qcompiler.numerics.levels import Levels
from qcompiler.numerics.scale_forms import FREE, Held

F32 = npt.NDArray[np.float32]
I32 = npt.NDArray[np.int32]

P, BETA, GROWTH, ROUNDS = 0.7, 10.0, 1.2, 6
TINY = np.float32(1e-12)
"""Errors under it count as this: 0^(p - 1) is infinite."""


def hqq(weight: F32, grid: BlockGrid, held: Held = FREE) -> BlockGrid:
    """A grid that loses less by |e|^p than the given one, or that one."""
    done = 0

    def find(blocks: F32, matters: F32 | None) -> tuple[F32, I32]:
        nonlocal done
        del matters
        part = slice(done, done := done + blocks.shape[1])
        return _improved(blocks, grid.levels, grid.scale.reshape(-1)[part], grid.zero_point.reshape(-1)[part], held)

    return by_pieces(weight, grid.levels, grid.size, find)


def _improved(blocks: F32, levels: Levels, scale: F32, zero: I32, held: Held) -> tuple[F32, I32]:
    """The best scale and zero point of each column."""
    norm = np.abs(blocks).max(0)
    norm[norm == 0] = 1.0
    w, scale = blocks / norm, scale / norm
    least, best, best_zero = np.full(scale.shape, np.inf, np.float32), scale.copy(), zero.copy()
    beta = BETA
    for _ in range(ROUNDS):
        near = levels.nearest(w, scale, zero)
        error = w - near
        size = np.maximum(np.abs(error), TINY)
        bent = size ** np.float32(P - 1)
        cost = (bent * size).sum(0)
        better = cost < least
        for kept, new in ((least, cost), (best, scale), (best_zero, zero)):
            np.copyto(kept, new, where=better)
        bent /= np.float32(beta)
        size = np.maximum(size - bent, 0, out=size)
        scale, zero = _fit(w - np.copysign(size, error, out=size), near, levels, scale, zero)
        scale = scale if held.form == "f32" else held.nearest(scale * norm) / norm
        beta *= GROWTH
    return held.nearest(best * norm), best_zero


def _fit(wanted: F32, near: F32, levels: Levels, scale: F32, zero: I32) -> tuple[F32, I32]:
    """Scale and zero point of the line through what codes stand for and wanted values; the old ones without a line."""
    if levels.symmetric:
        above, below = (wanted * near).sum(0), (near * near).sum(0)
        fitted = scale * np.divide(above, below, out=np.ones_like(above), where=below > 0)
        return safe(np.where(fitted > 0, fitted, scale) if levels.positive else fitted), zero
    mean, mean_wanted = near.mean(0), wanted.mean(0)
    off = near - mean
    above, below = (off * wanted).sum(0), (off * off).sum(0)
    slope = np.divide(above, below, out=np.ones_like(above), where=below > 0)
    fitted = safe(np.where(slope > 0, scale * slope, scale))
    start = np.rint(zero + mean / scale - mean_wanted / fitted)
    return fitted, np.clip(start, levels.low, levels.high).astype(np.int32)
