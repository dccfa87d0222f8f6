"""Improves codes and scales of a rounded matrix, one exact step after the other; the proxy loss never grows.

With E = W - Q and H = sum x x^T, the loss tr(E H E^T) is quadratic in each column of Q and in each block's scale:

    codes    the best q_j, all else fixed, is the level nearest to q_j + (E H)_j / H_jj
    scales   Q = s C for the block's levels C; the best s is s + <(E H)_B, C> / <C H_BB, C>, row by row

One sweep goes through all columns, then all blocks. It starts from any codes (`gptq`, or nearest) and costs about as
much as two products of W with H.

Source: coordinate descent on the layer-wise quadratic, as in Behdin et al., "QuantEase" (2023).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from qcompiler.numerics.block_range import BlockGrid
from qcompiler.numerics.gptq import proxy_loss
from qcompiler.numerics.scale_forms import FREE, Held

F32 = npt.NDArray[np.float32]
I32 = npt.NDArray[np.int32]
T = TypeVar("T", bound=np.generic)

SWEEPS = 4
PANEL = 64
ENOUGH = 0.01
"""Sweeps end where one gains less than this share of the loss."""


def descend(
    weight: F32,
    hessian: npt.NDArray[np.floating],
    grid: BlockGrid,
    codes: I32,
    loss: float,
    *,
    sweeps: int = SWEEPS,
    held: Held = FREE,
) -> tuple[BlockGrid, I32, float]:
    """Better scales and codes than those given with their proxy loss, and theirs."""
    h = np.asarray(hessian, np.float64)
    for _ in range(sweeps):
        moved = _columns(weight, h, grid, codes)
        fitted = _scales(weight, h, grid, moved, held)
        after = proxy_loss(weight - fitted.values(moved), h)
        if not after < loss:
            break
        gain, grid, codes, loss = loss - after, fitted, moved, after
        if gain < ENOUGH * loss:
            break
    return grid, codes, loss


def _columns(weight: F32, h: npt.NDArray[np.float64], grid: BlockGrid, codes: I32) -> I32:
    """Every column at its best, once, in order; E H is made anew for each panel, and what changed in it added."""
    k = weight.shape[1]
    scale, zero = map(turned, grid.spread(slice(None), k))
    values, codes = turned(grid.values(codes)).astype(np.float64), turned(codes)
    error = turned(weight) - values
    for start in range(0, k, PANEL):
        part = slice(start, min(start + PANEL, k))
        pull, within = h[part] @ error, h[part, part]
        changes = np.zeros(pull.shape)
        for j in range(part.start, part.stop):
            i = j - start
            if h[j, j] <= 0:
                continue
            wanted = values[j] + (pull[i] - within[i, :i] @ changes[:i]) / h[j, j]
            codes[j] = grid.levels.codes(wanted.astype(np.float32), scale[j], zero[j])
            value = grid.levels.values(codes[j], scale[j], zero[j])
            np.subtract(value, values[j], out=changes[i])
            values[j] = value
        error[part] -= changes
    return turned(codes)


def _scales(weight: F32, h: npt.NDArray[np.float64], grid: BlockGrid, codes: I32, held: Held) -> BlockGrid:
    """Every block's scale at its best, once, in order; the nearest one that can be held, where it is nearer."""
    k = weight.shape[1]
    spread, zero = grid.spread(slice(None), k)
    steps = grid.levels.values(codes, 1.0, zero).astype(np.float64)
    error = turned(weight - steps * spread)
    steps, scale = turned(steps), grid.scale.copy()
    for block in range(scale.shape[1]):
        part = slice(block * grid.size, min((block + 1) * grid.size, k))
        c = steps[part]
        above = np.einsum("kr,kr->r", h[part] @ error, c)
        below = np.einsum("kr,kr->r", h[part, part] @ c, c)
        change = np.divide(above, below, out=np.zeros_like(above), where=below > 0)
        fitted = (scale[:, block] + change).astype(np.float32)
        size = fitted if grid.levels.positive else np.abs(fitted)
        keep = ~np.isfinite(fitted) | (size < np.finfo(np.float32).tiny)
        fitted = held.moved(scale[:, block], np.where(keep, scale[:, block], fitted))
        error[part] -= c * (fitted - scale[:, block]).astype(np.float64)
        scale[:, block] = fitted
    return replace(grid, scale=scale)


def turned(values: npt.NDArray[T]) -> npt.NDArray[T]:
    """A copy of a matrix with its columns as rows, each of them in one piece."""
    return values.T.copy()
