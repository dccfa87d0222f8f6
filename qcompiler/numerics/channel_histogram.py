"""How often each channel of a tensor takes values of each order of magnitude.

    count[c, 64 * (x < 0) + octave(x)],   octave(x) = min(max(floor(log2 |x|) + 31, 0), 63)

Zero and everything under 2**-30 is in octave 0. Beside a `Histogram` of the whole tensor, this says whose values are in
a bin: `weighted` counts each value as often as its channel matters, and so turns every range method into one that
minimises a weighted error. Within an octave the channels are taken to be distributed alike.

Only some values are looked at, `SAMPLE` of each array at evenly spaced places, since shares are all that is asked for.
Counts are exact and independent of order, so shards and machines give the same observer.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from qcompiler.errors import DataError
from qcompiler.numerics.histogram import BINS, F64, I64, Histogram

I32 = npt.NDArray[np.int32]

OCTAVES = 64
BINS_A_CHANNEL = 2 * OCTAVES
SAMPLE = 2048

_LOWEST_EXPONENT = 127 - 31
_RESOLUTION = 1 << 20
# Parts of one value that a count of a stretched histogram is made of.
_FINER = 16
_EXPONENT = 0x7F80


def _nothing() -> I64:
    return np.zeros((0, BINS_A_CHANNEL), np.int64)


@dataclass(frozen=True, eq=False, slots=True)
class ChannelHistogram:
    """Counts by channel, sign and octave.

    Attributes:
        axis: the channel axis; negative counts from the end.
        counts: int64[channels, 128], read-only; no channels before the first update.
    """

    axis: int
    counts: I64 = field(default_factory=_nothing)

    def update(self, x: npt.ArrayLike, /) -> ChannelHistogram:
        """This with the values of `x` added, finite and of any real dtype.

        Raises:
            DataError: the array has no such axis, or another number of channels than before.
        """
        array = np.ascontiguousarray(x, np.float32)
        if not -array.ndim <= self.axis < array.ndim:
            raise DataError(f"no axis {self.axis} in an array of shape {array.shape}")
        if array.size == 0:
            return self
        channels = array.shape[self.axis]
        bins = np.bincount(sampled_bins(array, self.axis), minlength=channels * BINS_A_CHANNEL)
        return self.merge(replace(self, counts=bins.reshape(channels, -1).astype(np.int64)))

    def merge(self, other: ChannelHistogram, /) -> ChannelHistogram:
        """The counts of both.

        Raises:
            DataError: the two observed different axes or numbers of channels.
        """
        if self.axis != other.axis:
            raise DataError(f"statistics of axis {self.axis} and of axis {other.axis} cannot be merged")
        if not (self.counts.size and other.counts.size):
            return self if self.counts.size else other
        if self.counts.shape != other.counts.shape:
            raise DataError(
                f"{other.counts.shape[0]} channels along axis {self.axis}, {self.counts.shape[0]} before",
                hint="per-channel statistics need a channel axis of fixed size",
            )
        counts = self.counts + other.counts
        counts.flags.writeable = False
        return replace(self, counts=counts)

    def weighted(self, histogram: Histogram, importance: F64) -> Histogram:
        """`histogram` with each value counted as often as its channel matters.

        Args:
            histogram: of the same tensor.
            importance: weight of each channel, >= 0; only ratios matter. All zero: everything counts the same.

        Returns:
            Counts in units of 2**-20 of the most important octave's; the extremes are those of `histogram`.
        """
        peak = float(importance.max(initial=0.0))
        if not 0 < peak < math.inf or importance.shape != self.counts.shape[:1] or histogram.finite_count == 0:
            return histogram
        # Sums of NumPy, not of a matrix product, whose order depends on threads.
        total = self.counts.sum(axis=0)
        share = (self.counts * (importance / peak)[:, None]).sum(axis=0) / np.maximum(total, 1)
        sides = (slice(OCTAVES), slice(OCTAVES, None))
        factor = np.concatenate([_inward(share[side], total[side] > 0) for side in sides])
        factor[0] = factor[OCTAVES] = share[[0, OCTAVES]].max()
        top = float(factor.max())
        if top <= 0:
            return histogram
        # A bin that holds values must not become empty.
        counts = np.maximum(np.rint(histogram.counts * (factor / top * _RESOLUTION)[_octave_of_pattern()]), 1)
        counts = np.where(histogram.counts > 0, counts, 0).astype(np.int64)
        used = np.flatnonzero(counts)
        return Histogram.from_sparse(
            used.astype(np.uint16), counts[used], minimum=histogram.minimum, maximum=histogram.maximum
        )

    def stretched(
        self, histogram: Histogram, octaves: I64, minimum: float, maximum: float
    ) -> tuple[ChannelHistogram, Histogram]:
        """Both histograms of the same tensor with channel c times 2^octaves[c].

        Args:
            histogram: of the tensor; exact where all channels are stretched alike, else what the channels hold of each
                octave is taken to be distributed alike.
            octaves: one for each channel, >= 0.
            minimum, maximum: exact extremes of the stretched tensor.
        """
        seen, octave = self.counts.sum(axis=0), _octave_of_pattern()
        counts, whole, patterns = np.zeros_like(self.counts), np.zeros(BINS), np.arange(BINS)
        for k in map(int, np.unique(octaves)):
            mine = octaves == k
            for side in (slice(OCTAVES), slice(OCTAVES, None)):
                counts[mine, side] = _shifted(self.counts[mine, side], k)
            # What was not looked at moves least.
            share = np.where(seen > 0, self.counts[mine].sum(axis=0) / np.maximum(seen, 1), float(k == octaves.min()))
            target = patterns + np.where(octave % OCTAVES > 0, k << 7, 0)
            finite = (patterns & _EXPONENT) + (k << 7) < _EXPONENT
            np.add.at(whole, target[finite], (histogram.counts * share[octave])[finite])
        found = np.asarray(np.rint(whole * _FINER), np.int64)
        used = np.flatnonzero(found)
        moved = Histogram.from_sparse(used.astype(np.uint16), found[used], minimum=minimum, maximum=maximum)
        counts.flags.writeable = False
        return replace(self, counts=counts), moved

    def means(self, histogram: Histogram) -> F64:
        """Mean of each channel, from the mean of the whole tensor's values in each octave; 0 without values.

        Args:
            histogram: of the same tensor.
        """
        return self._average(*histogram.values_and_counts())

    def mean_squares(self, histogram: Histogram) -> F64:
        """Mean square of each channel, in the same way."""
        values, counts = histogram.values_and_counts()
        return self._average(values, counts, 2)

    def _average(self, values: npt.NDArray[Any], counts: npt.NDArray[Any], power: int = 1) -> F64:
        order = np.zeros(BINS_A_CHANNEL)
        held = np.zeros(BINS_A_CHANNEL)
        bins = _octave_of_exponent()[values.astype(np.float32).view(np.uint32) >> np.uint32(23)]
        np.add.at(order, bins, values.astype(np.float64) ** power * counts)
        np.add.at(held, bins, counts.astype(np.float64))
        sums = (self.counts * (order / np.maximum(held, 1))).sum(axis=1)
        return np.asarray(sums / np.maximum(self.counts.sum(axis=1), 1))


def sampled_bins(array: npt.NDArray[np.float32], axis: int) -> I32:
    """Channel * 128 + sign and octave of the values at evenly spaced places of a contiguous array."""
    step, channel = _places(array.shape, axis % array.ndim)
    bits = array.reshape(-1).view(np.uint32)[::step]
    return np.asarray(channel + _octave_of_exponent()[bits >> np.uint32(23)])


@functools.lru_cache(maxsize=1024)
def _places(shape: tuple[int, ...], axis: int) -> tuple[int, I32]:
    """Distance between the values to look at, which shares no factor with the size, and 128 * channel of each."""
    size, inner = math.prod(shape), math.prod(shape[axis + 1 :])
    step = max(1, size // SAMPLE)
    while math.gcd(step, size) > 1:
        step += 1
    places = np.arange(0, size, step)
    channel: I32 = np.asarray(places // inner % shape[axis] * BINS_A_CHANNEL, np.int32)
    channel.flags.writeable = False
    return step, channel


@functools.cache
def _octave_of_exponent() -> I32:
    """Bin of each pattern of sign and exponent."""
    pattern = np.arange(512, dtype=np.int32)
    octave = np.clip((pattern & 255) - _LOWEST_EXPONENT, 0, OCTAVES - 1)
    return np.asarray(octave + OCTAVES * (pattern >> 8), np.int32)


@functools.cache
def _octave_of_pattern() -> I32:
    """Bin of each bfloat16 pattern."""
    return np.asarray(_octave_of_exponent()[np.arange(BINS) >> 7])


def _shifted(counts: I64, octaves: int) -> I64:
    """Counts by channel and octave, so many octaves up; what is in octave 0, as good as zero, stays there."""
    moved = np.zeros_like(counts)
    moved[:, octaves + 1 :] = counts[:, 1 : OCTAVES - octaves]
    moved[:, -1] += counts[:, max(1, OCTAVES - octaves) :].sum(axis=1)
    moved[:, 0] += counts[:, 0]
    return moved


def _inward(share: F64, known: npt.NDArray[np.bool_]) -> F64:
    """Octaves in which nothing was looked at take the share of the next known one, smaller magnitudes first."""
    if not known.any():
        return np.zeros_like(share)
    places = np.arange(share.size)
    below = np.maximum.accumulate(np.where(known, places, -1))
    return np.asarray(share[np.where(below < 0, int(np.argmax(known)), below)])
