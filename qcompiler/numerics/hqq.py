"""Data-free grids for weights with outliers: the error is measured by |e|^p, p < 1, which forgives a few large ones.

    minimise  sum |W - Q|^p,   Q = s (C - z)
    codes    C = nearest to W
    errors   E = shrink(W - Q)        the generalised soft threshold: sign(e) max(|e| - |e|^(p-1) / beta, 0)
    grid     s, z = the line that fits W - E to C best in each block; z in whole codes, as targets store it

Half-quadratic: each step solves one part with the others fixed, and beta grows. The grid of the least sum |W - Q|^p on
the way is kept, the one that it started from included. Where the zero point is fixed, only s is fitted.

Source: Badri and Shaji, "Half-Quadratic Quantization of Large Machine Learning Models" (2023), which keeps s fixed and
z a float.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from qcompiler.numerics.block_range import BlockGrid, in_blocks, safe

F32 = npt.NDArray[np.float32]

P, BETA, GROWTH, ROUNDS = 0.7, 10.0, 1.05, 20


def hqq(weight: F32, grid: BlockGrid) -> BlockGrid:
    """A grid that loses less by |e|^p than the given one, or that one."""
    blocks, levels = in_blocks(weight, grid.size), grid.levels
    norm = np.abs(blocks).max(-1, keepdims=True)
    norm[norm == 0] = 1.0
    scale, zero = grid.scale, grid.zero_point
    best: tuple[F32, npt.NDArray[np.int32], F32] | None = None
    beta = BETA
    for _ in range(ROUNDS):
        codes = levels.codes(blocks, scale[..., None], zero[..., None])
        near = levels.values(codes, scale[..., None], zero[..., None])
        error = (blocks - near) / norm
        size = np.abs(error)
        cost = np.asarray((size**P).sum(-1))
        if best is None:
            best = scale.copy(), zero.copy(), cost
        else:
            better = cost < best[2]
            for kept, new in zip(best, (scale, zero, cost), strict=True):
                kept[better] = new[better]
        bent = np.where(size > 0, np.maximum(size, 1e-12) ** (P - 1), 0.0)
        wanted = blocks - norm * np.sign(error) * np.maximum(size - bent / beta, 0)
        scale, zero = _fit(wanted, codes, grid, scale, zero)
        beta *= GROWTH
    assert best is not None
    return replace(grid, scale=best[0], zero_point=best[1])


def _fit(
    wanted: F32, codes: npt.NDArray[np.int32], grid: BlockGrid, scale: F32, zero: npt.NDArray[np.int32]
) -> tuple[F32, npt.NDArray[np.int32]]:
    """Scale and zero point of the line through codes and wanted values; the old ones where there is no line."""
    levels = grid.levels
    if levels.symmetric:
        steps = levels.values(codes, 1.0, zero[..., None])
        above, below = (wanted * steps).sum(-1), (steps * steps).sum(-1)
        fitted = np.divide(above, below, out=scale.astype(np.float32), where=below > 0)
        return safe(np.where(fitted > 0, fitted, scale) if levels.positive else fitted), zero
    x = codes.astype(np.float32)
    mean_x, mean_y = x.mean(-1, keepdims=True), wanted.mean(-1, keepdims=True)
    above, below = ((x - mean_x) * (wanted - mean_y)).sum(-1), ((x - mean_x) ** 2).sum(-1)
    fitted = np.divide(above, below, out=scale.astype(np.float32), where=below > 0)
    fitted = np.where(fitted > 0, fitted, scale).astype(np.float32)
    start = np.rint((mean_x - mean_y / safe(fitted)[..., None])[..., 0])
    return safe(fitted), np.clip(start, levels.low, levels.high).astype(np.int32)
