"""Ways to round a weight matrix in blocks, by name.

    rtn     the grid covers each block, nearest codes
    mse     the grid of least squared error, nearest codes; inputs count by their mean square where it is known
    hqq     the same, then by |e|^p (`hqq`)
    gptq    the grid of mse, codes that take back each other's errors (`gptq`), then codes and scales (`descent`)
    auto    gptq where the second moments of the inputs are known, else hqq, or mse under 4 bits

Under 4 bits |e|^p forgives too much: at 2 bits, blocks of 32, docs_llama has a KL of 0.328 by mse and of 0.354 by hqq;
at 4 bits both have 0.0142 (`docs/language-models.md`).
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, Final, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from qcompiler.errors import InternalError
from qcompiler.numerics.block_range import PIECE, BlockGrid, extremes, least_squares
from qcompiler.numerics.descent import descend
from qcompiler.numerics.gptq import Factored, gptq, proxy_loss
from qcompiler.numerics.hqq import hqq
from qcompiler.numerics.levels import Levels
from qcompiler.numerics.scale_forms import FREE, Held

F32 = npt.NDArray[np.float32]
Codes = npt.NDArray[np.integer[Any]]

ROUNDINGS: Final = ("auto", "rtn", "mse", "hqq", "gptq")
THREADS = 8
"""Pieces that are rounded at once, at most; what they give does not depend on it."""
COARSE = ("e8m0",)
"""Forms whose scales are so far apart that the grid is fitted with them; others are rounded to when it is."""
FITTED = 1 << 22
"""Values that are rounded at once by second moments: they take 300 MB."""
FINE = 15
"""Steps from the lowest to the highest code of a 4-bit grid."""


class Rows(Protocol):
    """A matrix (rows, K) that gives some of its rows as float32; an array of float32 is one."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Rows, K."""

    def __getitem__(self, part: slice, /) -> F32:
        """Some rows."""


class BlockCodes(NamedTuple):
    """A rounded matrix.

    Attributes:
        grid: scales and zero points.
        codes: (rows, K).
        method: what made them.
        loss: squared error of the outputs as a share of their squares; of the weights where no moments are known.
    """

    grid: BlockGrid
    codes: Codes
    method: str
    loss: float


def round_blocks(
    weight: Rows,
    levels: Levels,
    size: int,
    method: str,
    moments: npt.NDArray[np.floating] | None = None,
    *,
    form: str = "f32",
    out: Codes | None = None,
) -> BlockCodes:
    """Rounds a matrix (rows, K), some rows at a time; what GPTQ makes of one row does not depend on the others, but for
    whether it is taken and when its descent ends, which rows of a piece decide together.

    Args:
        weight: the matrix.
        levels: what codes stand for.
        size: values in a block.
        method: one of `ROUNDINGS`; `gptq` without moments is `mse`.
        moments: the sum of x x^T over its inputs.
        form: what scales are stored in: f32, half, e8m0 or e4m3 (`scale_forms`).
        out: (rows, K), where codes go; a new array if left out.
    """
    if method not in ROUNDINGS:
        raise InternalError(f"unknown rounding {method!r}")
    if method == "auto":
        coarse = levels.high - levels.low < FINE
        method = "gptq" if moments is not None else "mse" if coarse else "hqq"
    if method == "gptq" and moments is None:
        method = "mse"
    rows, k = weight.shape
    codes = np.empty((rows, k), np.int8 if levels.low < 0 else np.uint8) if out is None else out
    step = max(1, (PIECE if moments is None else FITTED) // max(k, 1))
    factored = Factored.of(moments) if moments is not None and method == "gptq" else None

    fitting = Held(form) if form in COARSE else FREE

    def grid_of(start: int) -> BlockGrid:
        return _grid(weight[start : start + step], levels, size, method, moments, fitting)

    starts = range(0, max(rows, 1), step)
    with ThreadPoolExecutor(min(THREADS, os.cpu_count() or 1) if moments is None else 1) as pool:
        grids = list(pool.map(grid_of, starts))
        scale, zero = (np.concatenate([getattr(grid, name) for grid in grids]) for name in ("scale", "zero_point"))
        held = Held.of(form, scale)
        whole = BlockGrid(levels, size, held.nearest(scale), zero)

        def codes_of(start: int) -> tuple[BlockGrid, float, float]:
            part = slice(start, start + step)
            grid = replace(whole, scale=whole.scale[part], zero_point=whole.zero_point[part])
            return _codes(weight[part], grid, method, moments, factored, held, codes[part])

        found = list(pool.map(codes_of, starts))
    whole = replace(whole, scale=np.concatenate([grid.scale for grid, *_ in found]))
    energy, lost = sum(energy for _, energy, _ in found), sum(lost for *_, lost in found)
    return BlockCodes(whole, codes, method, lost / energy if energy > 0 else 0.0)


def _grid(
    weight: F32,
    levels: Levels,
    size: int,
    method: str,
    moments: npt.NDArray[np.floating] | None,
    held: Held,
) -> BlockGrid:
    """The grid of some rows."""
    if method == "rtn":
        return extremes(weight, levels, size, held)
    matters = None if moments is None or method == "hqq" else np.diag(moments)
    grid = least_squares(weight, levels, size, matters, held=held)
    return hqq(weight, grid, held) if method == "hqq" else grid


def _codes(
    weight: F32,
    grid: BlockGrid,
    method: str,
    moments: npt.NDArray[np.floating] | None,
    factored: Factored | None,
    held: Held,
    out: Codes,
) -> tuple[BlockGrid, float, float]:
    """Some rows: their grid, the squares of their outputs, the squared error of these; the codes go to `out`."""
    if method == "gptq" and moments is not None:
        first = gptq(weight, moments, grid, factored=factored)
        grid, out[...], lost = descend(weight, moments, grid, first.codes, first.loss, held=held)
        return grid, proxy_loss(weight, moments), lost
    found = grid.codes(weight)
    out[...] = found
    error = weight - grid.values(found)
    if moments is None:
        return grid, float(np.vdot(weight, weight)), float(np.vdot(error, error))
    return grid, proxy_loss(weight, moments), proxy_loss(error, moments)
