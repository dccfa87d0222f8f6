"""Scale and zero point of each block of a weight matrix: from its extremes, or with the least squared error.

A block is a run of `size` values of one row; the last one of a row may be short. With levels l and weights h >= 0
(the importance of each input, 1 without data), a candidate (s, z) costs

    sum_i h_i (w_i - s l(w_i / s + z))**2,

and the least of a fixed list of candidates is taken, then s is refitted to the codes it gave, s = <w, l> / <l, l>,
`REFITS` times, where that costs less. Candidates shrink the extremes by `SHRINK`; symmetric grids of integers are not
symmetric (-8 to 7), so each sign of the scale is tried, where it may be negative: the longer side goes to the longer
half. Asymmetric ones are shifted as well, to both ends, and take every other factor.

Blocks stand as columns, `PIECE` values at a time: scales then run along what is contiguous, and all that a step makes
stays in the processor's cache.

Sources: Nagel et al., "A White Paper on Neural Network Quantization" (2021), section 3.1 (MSE ranges); ONNX Runtime's
quantize_blockwise for the sign; the refit is one step of Lloyd's algorithm.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain

import numpy as np
import numpy.typing as npt

from qcompiler.numerics.levels import Levels
from qcompiler.numerics.scale_forms import FREE, Held, rounded_scale

F32 = npt.NDArray[np.float32]
I32 = npt.NDArray[np.int32]

SHRINK = tuple(np.linspace(1.0, 0.6, 21).tolist())
REFITS = 3
PIECE = 1 << 16
"""Weights that are looked at at a time."""
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


def extremes(weight: F32, levels: Levels, size: int, held: Held = FREE) -> BlockGrid:
    """The grid that just covers each block and zero; of scales that are held as such, the smallest that does."""

    def cover(blocks: F32, matters: F32 | None) -> tuple[F32, I32]:
        del matters
        return _covering(*next(_candidates(blocks, levels, (1.0,))), held)

    return by_pieces(weight, levels, size, cover)


def least_squares(
    weight: F32,
    levels: Levels,
    size: int,
    importance: npt.NDArray[np.floating] | None = None,
    shrink: tuple[float, ...] = (),
    held: Held = FREE,
) -> BlockGrid:
    """The grid with the least weighted squared error.

    Args:
        weight: (rows, K).
        levels: what codes stand for.
        size: values in a block.
        importance: (K,), not negative; where it is None or all zero, all inputs count alike.
        shrink: the factors on the extremes to try; `SHRINK` if left out.
        held: what scales can be.
    """
    factors = shrink or (SHRINK if levels.symmetric else SHRINK[::2])

    def fit(blocks: F32, matters: F32 | None) -> tuple[F32, I32]:
        return _least(blocks, levels, matters, factors, held)

    return by_pieces(weight, levels, size, fit, importance)


def by_pieces(
    weight: F32,
    levels: Levels,
    size: int,
    find: Callable[[F32, F32 | None], tuple[F32, I32]],
    importance: npt.NDArray[np.floating] | None = None,
) -> BlockGrid:
    """The grid whose scales and zero points `find` gives for blocks as columns (size, n), a few rows at a time.

    Args:
        weight, levels, size, importance: see `least_squares`.
        find: also given how much each value matters, in the shape of the blocks, or None where all are alike.
    """
    rows, k = weight.shape
    scale = np.empty((rows, -(-k // size)), np.float32)
    zero = np.empty(scale.shape, np.int32)
    step = max(1, PIECE // max(k, 1))
    weights = None
    if importance is not None and np.any(importance):
        one = np.asarray(importance / float(np.mean(importance)), np.float32)[None] + np.float32(1e-6)
        weights = as_columns(one, size)  # inputs that were never seen still count for a little
    for start in range(0, rows, step):
        part = slice(start, start + step)
        count = len(scale[part])
        matters = None if weights is None else np.tile(weights, (1, count))
        found = find(as_columns(weight[part], size), matters)
        scale[part], zero[part] = (parameter.reshape(count, -1) for parameter in found)
    return BlockGrid(levels, size, scale, zero)


def as_columns(weight: F32, size: int) -> F32:
    """(size, rows * blocks), row after row; a short last block is filled up with zeros, which every grid holds."""
    k = weight.shape[1]
    missing = -k % size
    padded = np.pad(weight, ((0, 0), (0, missing))) if missing else weight
    return np.ascontiguousarray(padded.reshape(-1, size).T, np.float32)


def _covering(scale: F32, zero: I32, held: Held) -> tuple[F32, I32]:
    return (rounded_scale(scale, "e8m0") if held.form == "e8m0" else held.nearest(scale)), zero


def _least(blocks: F32, levels: Levels, matters: F32 | None, shrink: tuple[float, ...], held: Held) -> tuple[F32, I32]:
    """Scale and zero point of each column with the least error."""
    candidates = _candidates(blocks, levels, shrink)
    first, zero = next(candidates)
    scale, zero = _covering(first, zero, held)
    least = _cost(blocks, levels.nearest(blocks, scale, zero), matters)
    if held.form != "f32":
        candidates = ((held.nearest(s), z) for s, z in chain([(first, zero)], candidates))
    for s, z in candidates:
        cost = _cost(blocks, levels.nearest(blocks, s, z), matters)
        better = cost < least
        least, scale, zero = np.where(better, cost, least), np.where(better, s, scale), np.where(better, z, zero)
    fitted = scale
    for _ in range(REFITS):
        fitted = held.nearest(_refitted(blocks, levels.nearest(blocks, fitted, zero), matters, fitted))
        cost = _cost(blocks, levels.nearest(blocks, fitted, zero), matters)
        better = cost < least
        least, scale = np.where(better, cost, least), np.where(better, fitted, scale)
    return scale, zero


def _cost(blocks: F32, near: F32, matters: F32 | None) -> F32:
    error = blocks - near
    error *= error
    if matters is not None:
        error *= matters
    return np.asarray(error.sum(0))


def _refitted(blocks: F32, near: F32, matters: F32 | None, scale: F32) -> F32:
    """The scale that fits the codes best."""
    weighted = near if matters is None else near * matters
    above, below = (blocks * weighted).sum(0), (near * weighted).sum(0)
    ratio = np.divide(above, below, out=np.ones_like(above), where=below > 0)
    return np.asarray(np.where((ratio > 0.5) & (ratio < 2.0), scale * ratio, scale), np.float32)


def _candidates(blocks: F32, levels: Levels, shrink: tuple[float, ...]) -> Iterator[tuple[F32, I32]]:
    """Scales and zero points to try, the one that just covers the block first."""
    low, high = np.minimum(blocks.min(0), 0), np.maximum(blocks.max(0), 0)
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
