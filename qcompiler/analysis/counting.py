"""Counts bfloat16 bit patterns of many arrays, fast; the result equals `Histogram.of` on the same values, bit for bit.

Counting is one increment per value. SciPy's column selection (`csr_column_index1`, behind `sparse[:, columns]`) begins
with that loop in C, `offsets[columns[k]] += 1`, and with no columns to select it is all that is done. It counts in
place, so a small array costs no pass over the 65536 bins, takes 32-bit indices, and runs without the interpreter's
lock. Measured, extraction of the pattern included: 0.5 ns per value on normal data, 1.0 where half are zeros;
`numpy.bincount` takes 1.2 and 1.7. The function is private to SciPy: it is tried once on known data, and where it is
missing or gives anything else, `numpy.add.at` does the work.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from qcompiler.errors import DataError
from qcompiler.numerics.channel_histogram import BINS_A_CHANNEL, ChannelHistogram, sampled_bins
from qcompiler.numerics.histogram import BINS, Histogram

F32 = npt.NDArray[np.float32]
I32 = npt.NDArray[np.int32]

# Values and indices of a chunk, and the table, stay in a second-level cache of 1 MiB.
_CHUNK = 1 << 16
# Counts of a chunk are added to a 32-bit table, which is emptied before it can overflow.
_FULL = 1 << 30
_NEGATIVE_ZERO = 0x8000


class PatternCounter:
    """Counts, minimum and maximum of finite float32 values.

    Attributes:
        minimum, maximum: extremes so far; +inf and -inf before the first value.
    """

    __slots__ = ("_counts", "_recent", "_table", "maximum", "minimum")

    def __init__(self) -> None:
        self._table: I32 = np.zeros(BINS, np.int32)
        self._counts: npt.NDArray[np.int64] | None = None
        self._recent = 0
        self.minimum, self.maximum = math.inf, -math.inf

    def add(self, values: F32, minimum: float, maximum: float) -> None:
        """Counts a contiguous vector whose extremes, both finite, the caller knows."""
        if self._recent + values.size > _FULL:
            self._empty()
        self._recent += values.size
        bits, add = values.view(np.uint32), _adder()
        for start in range(0, bits.size, _CHUNK):
            add(self._table, (bits[start : start + _CHUNK] >> np.uint32(16)).view(np.int32))
        # Adding 0.0 makes -0.0 positive, so that the sign of a zero extreme does not depend on order.
        self.minimum, self.maximum = min(self.minimum, minimum) + 0.0, max(self.maximum, maximum) + 0.0

    def finish(self) -> Histogram:
        """The histogram."""
        counts = self._empty()
        counts[0] += counts[_NEGATIVE_ZERO]
        counts[_NEGATIVE_ZERO] = 0
        used = np.flatnonzero(counts != 0)
        return Histogram.from_sparse(used.astype(np.uint16), counts[used], minimum=self.minimum, maximum=self.maximum)

    def _empty(self) -> npt.NDArray[np.int64]:
        if self._counts is None:
            self._counts = np.zeros(BINS, np.int64)
        self._counts += self._table
        self._table.fill(0)
        self._recent = 0
        return self._counts


class ChannelCounter:
    """Counts as `ChannelHistogram.update` does, in place: a wide table costs nothing where little is added.

    Attributes:
        axis: the channel axis.
    """

    __slots__ = ("_counts", "_recent", "_table", "axis")

    def __init__(self, axis: int) -> None:
        self.axis = axis
        self._table: I32 = np.zeros(0, np.int32)
        self._counts: npt.NDArray[np.int64] = np.zeros(0, np.int64)
        self._recent = 0

    def add(self, values: F32, minimum: float, maximum: float) -> None:
        """Counts a contiguous array of finite values.

        Raises:
            DataError: the array has no such axis, or another number of channels than before.
        """
        if not -values.ndim <= self.axis < values.ndim:
            raise DataError(f"no axis {self.axis} in an array of shape {values.shape}")
        size = values.shape[self.axis] * BINS_A_CHANNEL
        if not self._table.size:
            self._table, self._counts = np.zeros(size, np.int32), np.zeros(size, np.int64)
        elif self._table.size != size:
            before = self._table.size // BINS_A_CHANNEL
            raise DataError(f"{size // BINS_A_CHANNEL} channels along axis {self.axis}, {before} before")
        bins = sampled_bins(values, self.axis)
        if self._recent + bins.size > _FULL:
            self._empty()
        self._recent += bins.size
        _adder()(self._table, bins)

    def finish(self) -> ChannelHistogram:
        """The observer."""
        self._empty()
        return ChannelHistogram(self.axis, self._counts.reshape(-1, BINS_A_CHANNEL))

    def _empty(self) -> None:
        self._counts += self._table
        self._table.fill(0)
        self._recent = 0


@functools.cache
def _adder() -> Callable[[I32, I32], None]:
    """`table[i] += 1` for each i."""
    try:
        from scipy.sparse import _sparsetools

        count: Any = _sparsetools.csr_column_index1
    except (ImportError, AttributeError):
        return _by_numpy
    none, zero = np.zeros(0, np.int32), np.zeros(1, np.int32)

    def by_scipy(table: I32, indices: I32) -> None:
        count(indices.size, indices, 0, 0, zero, none, table, zero)

    table = np.zeros(4, np.int32)
    try:
        by_scipy(table, np.array([2, 0, 2], np.int32))
    except (TypeError, ValueError):
        return _by_numpy
    return by_scipy if table.tolist() == [1, 0, 2, 0] else _by_numpy


def _by_numpy(table: I32, indices: I32) -> None:
    np.add.at(table, indices, 1)
