"""Observers: immutable values that gather one statistic of the arrays they see.

    empty().update(a).update(b) = empty().update(b).update(a) = empty().update(a).merge(empty().update(b))

Every observer is exact and independent of order, so shards, threads and machines give the same result bit for bit.
`Histogram` is the observer for activations; those here keep one number per channel.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Protocol, Self

import numpy as np
import numpy.typing as npt

from qcompiler.errors import DataError

F32 = npt.NDArray[np.float32]


class Observer(Protocol):
    """What calibration asks of a statistic; a fresh instance is the neutral element of `merge`."""

    def update(self, x: npt.ArrayLike, /) -> Self:
        """This statistic with the values of `x` added."""

    def merge(self, other: Self, /) -> Self:
        """The statistic of both sets of values."""


def _frozen(values: F32) -> F32:
    values.flags.writeable = False
    return values


def _nothing() -> F32:
    return _frozen(np.zeros(0, np.float32))


@dataclass(frozen=True, eq=False, slots=True)
class ChannelRange:
    """Exact minimum and maximum of each index of one axis, or of each combination of indices of several.

    Attributes:
        axis: the channel axis, or several in ascending order; negative counts from the end.
        minimum, maximum: float32, one per channel, read-only; of size 0 before the first update. NaN is kept: a channel
            that saw one has NaN for both.
    """

    axis: int | tuple[int, ...]
    minimum: F32 = field(default_factory=_nothing)
    maximum: F32 = field(default_factory=_nothing)

    @property
    def absmax(self) -> F32:
        """Exact maximum of |x| of each channel."""
        return _frozen(np.maximum(np.abs(self.minimum), np.abs(self.maximum)))

    def update(self, x: npt.ArrayLike, /) -> Self:
        """Add an array; values of any real dtype are converted to float32.

        Raises:
            DataError: the array has no such axis, or another number of channels than before.
        """
        array = np.asarray(x, np.float32)
        axes = self.axis if isinstance(self.axis, tuple) else (self.axis,)
        if not all(-array.ndim <= axis < array.ndim for axis in axes):
            raise DataError(f"no axis {self.axis} in an array of shape {array.shape}")
        if array.size == 0:
            return self
        others = tuple(i for i in range(array.ndim) if i not in [axis % array.ndim for axis in axes])
        # Adding 0 makes -0.0 positive: which of two equal zeros a reduction returns depends on order.
        low, high = (ends.reshape(-1) + np.float32(0) for ends in (array.min(others), array.max(others)))
        return self.merge(replace(self, minimum=_frozen(low), maximum=_frozen(high)))

    def merge(self, other: Self, /) -> Self:
        """Elementwise extremes of both.

        Raises:
            DataError: the two observed different axes or numbers of channels.
        """
        if self.axis != other.axis:
            raise DataError(f"statistics of axis {self.axis} and of axis {other.axis} cannot be merged")
        if not (self.minimum.size and other.minimum.size):
            return self if self.minimum.size else other
        if self.minimum.shape != other.minimum.shape:
            raise DataError(
                f"{other.minimum.size} channels along axis {self.axis}, {self.minimum.size} before",
                hint="per-channel statistics need a channel axis of fixed size",
            )
        low, high = np.minimum(self.minimum, other.minimum), np.maximum(self.maximum, other.maximum)
        return replace(self, minimum=_frozen(low), maximum=_frozen(high))


@dataclass(frozen=True, eq=False, slots=True)
class ChannelAbsMax:
    """Exact maximum of |x| of each index of one axis.

    Attributes:
        axis: the channel axis; negative counts from the end.
        absmax: float32, one per channel; of size 0 before the first update. NaN is kept.
    """

    axis: int
    absmax: F32 = field(default_factory=_nothing)

    def update(self, x: npt.ArrayLike, /) -> Self:
        """Add an array; errors as in `ChannelRange.update`."""
        return self.merge(replace(self, absmax=ChannelRange(self.axis).update(x).absmax))

    def merge(self, other: Self, /) -> Self:
        """Elementwise maximum of both; errors as in `ChannelRange.merge`."""
        mine, theirs = (ChannelRange(part.axis, -part.absmax, part.absmax) for part in (self, other))
        return replace(self, absmax=mine.merge(theirs).absmax)
