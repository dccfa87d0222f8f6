"""Scale and zero point of each block of a weight matrix: from its extremes, or with the least squared error.

A block is a run of `size` values of one row; the last one of a row may be short. With levels l and weights h >= 0
(the importance of each input, 1 without data), a candidate (s, z) costs

    sum_i h_i (w_i - s l(w_i / s + z))**2,

and the least of a fixed list of candidates is taken, then s is refitted to the codes it gave, s = <w, l> / <l, l>,
where that costs less. Candidates shrink the extremes by up to `SHRINK`; symmetric grids of integers are not symmetric
(-8 to 7), so each sign of the scale is tried, where it may be negative: the longer side goes to the longer half.

Sources: Nagel et al., "A White Paper on Neural Network Quantization" (2021), section 3.1 (MSE ranges); ONNX Runtime's
quantize_blockwise for the sign; the refit is one step of Lloyd's algorithm.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from qcompiler.numerics.levels import Levels

F32 = npt.NDArray[np.float32]
I32 = npt.NDArray[np.int32]

SHRINK = tuple(np.linspace(1.0, 0.6, 21).tolist())
COARSE = (1.0, 0.9, 0.8)
"""For comparing weights with each other, where the last percent of an error does not matter."""
TINY = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True, eq=False)
class BlockGrid:
    """Scales and zero points of a matrix (rows, K), one for each block.

    Attributes:
        levels: what codes stand for.
        size: values in a block.
        scale: float32 (rows, blocks).
        zero_point: int32 (rows, blocks).
    """

    levels: Levels
    size: int
    scale: F32
    zero_point: I32

    def spread(self, columns: int | slice | npt.NDArray[np.integer], k: int) -> tuple[F32, I32]:
        """Scale and zero point of each value in some columns of a matrix with k columns."""
        index = np.arange(k)[columns] // self.size
        return self.scale[:, index], self.zero_point[:, index]

    def column(self, x: F32, place: int) -> tuple[I32, F32]:
        """The nearest codes of values that stand in column `place`, and what they stand for."""
        scale, zero = self.scale[:, place // self.size], self.zero_point[:, place // self.size]
        codes = self.levels.codes(x, scale, zero)
        return codes, self.levels.values(codes, scale, zero)

    def codes(self, weight: F32) -> I32:
        """The nearest code of each value."""
        return self.levels.codes(weight, *self.spread(slice(None), weight.shape[1]))

    def values(self, codes: I32) -> F32:
        """What codes stand for."""
        return self.levels.values(codes, *self.spread(slice(None), codes.shape[1]))

    def nearest(self, weight: F32) -> F32:
        """The weights as the grid has them."""
        return self.levels.nearest(weight, *self.spread(slice(None), weight.shape[1]))


def extremes(weight: F32, levels: Levels, size: int) -> BlockGrid:
    """The grid that just covers each block and zero."""
    scale, zero = next(_candidates(in_blocks(weight, size), levels, (1.0,)))
    return BlockGrid(levels, size, scale, zero)


def least_squares(
    weight: F32,
    levels: Levels,
    size: int,
    importance: npt.NDArray[np.floating] | None = None,
    shrink: tuple[float, ...] = SHRINK,
) -> BlockGrid:
    """The grid with the least weighted squared error.

    Args:
        weight: (rows, K).
        levels: what codes stand for.
        size: values in a block.
        importance: (K,), not negative; where it is None or all zero, all inputs count alike.
        shrink: the factors on the extremes to try.
    """
    blocks = in_blocks(weight, size)
    if importance is None or not np.any(importance):
        importance = np.ones(weight.shape[1], np.float32)
    mean = float(np.mean(importance))
    matters = in_blocks(np.asarray(importance / mean, np.float32)[None], size)
    matters = matters + np.float32(1e-6)  # inputs that were never seen still count for a little
    best: F32 | None = None
    for scale, zero in _candidates(blocks, levels, shrink):
        near = levels.nearest(blocks, scale[..., None], zero[..., None])
        cost = _cost(blocks, near, matters)
        for s, c in ((scale, cost), _refitted(blocks, near, matters, levels, scale, zero)):
            if best is None:
                best, found, zeros = c.copy(), s.copy(), zero.copy()
            else:
                better = c < best
                best[better], found[better], zeros[better] = c[better], s[better], zero[better]
    return BlockGrid(levels, size, found, zeros)


def in_blocks(weight: F32, size: int) -> F32:
    """(rows, blocks, size); a short last block is filled up with zeros, which every grid holds."""
    rows, k = weight.shape
    missing = -k % size
    padded = np.pad(weight, ((0, 0), (0, missing))) if missing else weight
    return np.ascontiguousarray(padded, np.float32).reshape(rows, -1, size)


def _cost(blocks: F32, near: F32, matters: F32) -> F32:
    error = blocks - near
    error *= error
    error *= matters
    return np.asarray(error.sum(-1))


def _refitted(blocks: F32, near: F32, matters: F32, levels: Levels, scale: F32, zero: I32) -> tuple[F32, F32]:
    """The scale that fits the codes best, and what it costs with them rounded anew."""
    weighted = near * matters
    above, below = (blocks * weighted).sum(-1), (near * weighted).sum(-1)
    ratio = np.divide(above, below, out=np.ones_like(above), where=below > 0)
    fitted = np.where((ratio > 0.5) & (ratio < 2.0), scale * ratio, scale).astype(np.float32)
    return fitted, _cost(blocks, levels.nearest(blocks, fitted[..., None], zero[..., None]), matters)


def _candidates(blocks: F32, levels: Levels, shrink: tuple[float, ...]) -> Iterator[tuple[F32, I32]]:
    """Scales and zero points to try, the one that just covers the block first."""
    low, high = np.minimum(blocks.min(-1), 0), np.maximum(blocks.max(-1), 0)
    if levels.symmetric:
        zero = np.full(low.shape, levels.middle, np.int32)
        up, down = (
            np.maximum(high / levels.top, low / levels.bottom),
            np.maximum(-low / levels.top, high / -levels.bottom),
        )
        turned = not (levels.book or levels.positive) and -levels.bottom != levels.top
        first = np.where(down < up, -down, up) if turned else up
        for factor in shrink:
            yield safe(first * np.float32(factor)), zero
        for factor in shrink if turned else ():
            yield safe(np.where(down < up, up, -down) * np.float32(factor)), zero
        return
    steps = levels.high - levels.low
    for factor in shrink:
        scale = safe((high - low) * np.float32(factor) / steps)
        # the range shrinks about its middle, so that both ends clip alike
        start = low + (high - low) * np.float32((1 - factor) / 2)
        zero = np.clip(np.rint(levels.low - np.minimum(start, 0) / scale), levels.low, levels.high).astype(np.int32)
        yield scale, zero
        if factor < 1.0:
            yield scale, np.clip(np.rint(levels.low - low / scale), levels.low, levels.high).astype(np.int32)
            end = np.rint(levels.high - high / scale)
            yield scale, np.clip(end, levels.low, levels.high).astype(np.int32)


def safe(scale: npt.NDArray[np.floating]) -> F32:
    """Scales as float32; blocks of zeros get 1, so that no scale is zero or subnormal."""
    return np.asarray(np.where(np.abs(scale) < TINY, 1.0, scale), np.float32)
