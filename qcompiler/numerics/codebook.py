"""The book of a matrix in blocks: few whole numbers that its weights, each in units of its block's scale, lie near.

    minimise  sum over i of h_i s_i^2 (w_i / s_i - q(c_i))^2,   q of 2^n whole numbers from -127 to 127, zero among them

s_i is 1/127 of the largest weight of the block, h_i says how much an input matters. It is `palette`'s k-means on what
is left of the weights without their scales, with one level held at zero. Kernels multiply numbers of 8 bits.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from qcompiler.numerics.block_range import F32, as_columns, safe
from qcompiler.numerics.block_rounding import Rows
from qcompiler.numerics.palette import palette

TOP = 127
ENOUGH = 1 << 18
"""Weights that a book is found from, at least, where there are more; of rows every n-th counts."""


def learned(rows: Rows, count: int, size: int, importance: npt.NDArray[np.floating] | None = None) -> tuple[float, ...]:
    """A book of `count` entries, ascending, with numbers of both signs.

    Args:
        rows: the matrix (rows, K).
        count: at most 255.
        size: values in a block.
        importance: (K,), not negative; where it is None or all zero, all inputs count alike.
    """
    number, k = rows.shape
    step = max(1, number * k // ENOUGH)
    weight = np.concatenate([rows[row : row + 1] for row in range(0, number, step)]) if step > 1 else rows[:]
    blocks = as_columns(weight, size)
    scale = safe(np.abs(blocks).max(0) / TOP)
    matters = np.ones(k) if importance is None or not np.any(importance) else importance / np.mean(importance) + 1e-6
    counts = as_columns(np.asarray(matters, np.float32)[None], size)  # zero where a short last block was filled up
    weights = np.tile(counts, len(weight)) * scale * scale
    inside = weights > 0
    levels = palette((blocks / scale)[inside], count, weights[inside], zero=True)
    widest = int(np.argmax(np.abs(levels)))
    levels[widest] = np.copysign(TOP, levels[widest])  # scales cover blocks as those did that it was learned with
    return whole(levels, count)


def whole(levels: F32, count: int) -> tuple[float, ...]:
    """The nearest whole numbers to levels with zero among them: both signs, and others in place of equal ones."""
    found = set(np.clip(np.rint(levels), -TOP, TOP).astype(int).tolist())
    for sign in (-1, 1):
        if not any(n * sign > 0 for n in found):
            found = found - {min(found - {0}, key=abs, default=0)} | {0, sign}
    spare = (n * sign for n in range(TOP, 0, -1) for sign in (1, -1))
    while len(found) < count:
        found.add(next(spare))
    return tuple(map(float, sorted(found)))
