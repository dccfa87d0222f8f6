"""What can be observed of a tensor: kinds of statistics, each with its way into a file.

A kind says how to begin (`start`), and how the result (an observer of `qcompiler.numerics`) becomes small arrays and
back (`pack`, `unpack`). Its dataclass fields are its options; its text form, `channel-absmax(axis=1)`, names it in
files and messages. A subclass is known by its name as soon as its module is imported.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, Protocol

import numpy as np
import numpy.typing as npt

from qcompiler.analysis.counting import ChannelCounter, PatternCounter
from qcompiler.errors import DataError, InternalError
from qcompiler.numerics.channel_histogram import BINS_A_CHANNEL, ChannelHistogram
from qcompiler.numerics.histogram import Histogram
from qcompiler.numerics.observers import ChannelAbsMax, ChannelRange, Observer

F32 = npt.NDArray[np.float32]
Packed = Mapping[str, npt.NDArray[Any]]

# A file that claims more is damaged.
MOST_PLACES = BINS_A_CHANNEL << 20


class Accumulator(Protocol):
    """A statistic under way."""

    def add(self, values: F32, minimum: float, maximum: float) -> None:
        """Adds the tensor of one sample, all finite, with its extremes."""

    def finish(self) -> Any:
        """The observer."""


@dataclass(frozen=True)
class Kind(ABC):
    """A kind of statistic."""

    name: ClassVar[str]
    known: ClassVar[dict[str, type[Kind]]] = {}

    def __init_subclass__(cls) -> None:
        other = Kind.known.setdefault(cls.name, cls)
        if other.__module__ != cls.__module__:
            raise InternalError(f"{other.__module__} and {cls.__module__} both define a statistic {cls.name!r}")
        Kind.known[cls.name] = cls

    def __str__(self) -> str:
        options = ", ".join(f"{key}={value}" for key, value in self.options().items())
        return f"{self.name}({options})" if options else self.name

    def options(self) -> dict[str, Any]:
        """The fields by name."""
        return asdict(self)

    @abstractmethod
    def empty(self) -> Observer:
        """The observer that has seen nothing."""

    @abstractmethod
    def pack(self, value: Any) -> Packed:
        """Arrays that hold the observer; none of them of type object."""

    @abstractmethod
    def unpack(self, arrays: Packed) -> Any:
        """Inverse of `pack`; DataError, KeyError or ValueError where the arrays make no sense."""

    def start(self) -> Accumulator:
        """A statistic under way; by default it calls `update` of the observer for each sample."""
        return _Folded(self.empty())


@dataclass
class _Folded:
    value: Observer

    def add(self, values: F32, minimum: float, maximum: float) -> None:
        self.value = self.value.update(values)

    def finish(self) -> Observer:
        return self.value


@dataclass
class _Counted:
    counter: PatternCounter = field(default_factory=PatternCounter)

    def add(self, values: F32, minimum: float, maximum: float) -> None:
        self.counter.add(values.reshape(-1), minimum, maximum)

    def finish(self) -> Histogram:
        return self.counter.finish()


@dataclass(frozen=True)
class HistogramKind(Kind):
    """Counts of bfloat16 patterns, exact minimum and maximum: what every range method reads."""

    name: ClassVar[str] = "histogram"

    def empty(self) -> Observer:
        """The empty histogram."""
        return Histogram.empty()

    def start(self) -> Accumulator:
        """A fast counter."""
        return _Counted()

    def pack(self, value: Histogram) -> Packed:
        """Bins in use (uint16), their counts (narrowest unsigned type), extremes (float64[2])."""
        bins, counts = value.to_sparse()
        width = np.min_scalar_type(int(counts.max(initial=0)))
        return {"bins": bins, "counts": counts.astype(width), "range": np.array([value.minimum, value.maximum])}

    def unpack(self, arrays: Packed) -> Histogram:
        """A histogram; the arrays are checked as far as they can be."""
        bins, counts, extremes = arrays["bins"], arrays["counts"], arrays["range"]
        ascending = bins.dtype == np.uint16 and bins.ndim == 1 and bool((bins[1:] > bins[:-1]).all())
        counted = counts.dtype.kind == "u" and counts.shape == bins.shape and bool((counts != 0).all())
        if not (ascending and counted and extremes.shape == (2,) and extremes.dtype == np.float64):
            raise DataError("is no histogram")
        low, high = (float(value) for value in extremes)
        if bins.size and not -np.inf < low <= high < np.inf:
            raise DataError("holds a histogram without a range")
        return Histogram.from_sparse(bins, counts.astype(np.int64), minimum=low, maximum=high)


@dataclass(frozen=True)
class ChannelAbsMaxKind(Kind):
    """Exact maximum of |x| for each index of `axis`."""

    name: ClassVar[str] = "channel-absmax"
    axis: int = 1

    def empty(self) -> Observer:
        """No channels yet."""
        return ChannelAbsMax(self.axis)

    def pack(self, value: ChannelAbsMax) -> Packed:
        """float32, one per channel."""
        return {"absmax": value.absmax}

    def unpack(self, arrays: Packed) -> ChannelAbsMax:
        """Inverse of `pack`."""
        absmax = arrays["absmax"]
        if absmax.dtype != np.float32 or absmax.ndim != 1 or not bool((absmax >= 0).all()):
            raise DataError("is no channel maximum")
        return ChannelAbsMax(self.axis, absmax)


@dataclass(frozen=True)
class ChannelRangeKind(Kind):
    """Exact extremes for each index of `axis`, or of several."""

    name: ClassVar[str] = "channel-range"
    axis: int | tuple[int, ...] = 1

    def __post_init__(self) -> None:
        if not isinstance(self.axis, int):  # a file has a list
            object.__setattr__(self, "axis", tuple(map(int, self.axis)))

    def empty(self) -> Observer:
        """No channels yet."""
        return ChannelRange(self.axis)

    def pack(self, value: ChannelRange) -> Packed:
        """float32, one per channel."""
        return {"minimum": value.minimum, "maximum": value.maximum}

    def unpack(self, arrays: Packed) -> ChannelRange:
        """Inverse of `pack`."""
        low, high = arrays["minimum"], arrays["maximum"]
        sound = low.dtype == high.dtype == np.float32 and low.ndim == 1 and low.shape == high.shape
        if not sound or not bool((low <= high).all()):
            raise DataError("is no range of channels")
        return ChannelRange(self.axis, low, high)


@dataclass(frozen=True)
class ChannelHistogramKind(Kind):
    """How often each index of `axis` takes values of each sign and octave: whose values a histogram holds."""

    name: ClassVar[str] = "channel-histogram"
    axis: int = 1

    def empty(self) -> Observer:
        """No channels yet."""
        return ChannelHistogram(self.axis)

    def start(self) -> Accumulator:
        """One table that is added to."""
        return ChannelCounter(self.axis)

    def pack(self, value: ChannelHistogram) -> Packed:
        """Number of channels; places in use (uint32), ascending, and their counts (narrowest unsigned type)."""
        flat = value.counts.reshape(-1)
        used = np.flatnonzero(flat)
        counts = flat[used]
        width = np.min_scalar_type(int(counts.max(initial=0)))
        return {
            "channels": np.array([value.counts.shape[0]], np.uint32),
            "places": used.astype(np.uint32),
            "counts": counts.astype(width),
        }

    def unpack(self, arrays: Packed) -> ChannelHistogram:
        """Inverse of `pack`; the arrays are checked as far as they can be."""
        size, places, counts = arrays["channels"], arrays["places"], arrays["counts"]
        ascending = places.dtype == np.uint32 and places.ndim == 1 and bool((places[1:] > places[:-1]).all())
        counted = counts.dtype.kind == "u" and counts.shape == places.shape and bool((counts != 0).all())
        length = int(size[0]) * BINS_A_CHANNEL if size.shape == (1,) and size.dtype == np.uint32 else -1
        if not (ascending and counted and length <= MOST_PLACES) or int(places.max(initial=0)) >= max(length, 1):
            raise DataError("is no histogram of channels")
        dense = np.zeros(length, np.int64)
        dense[places] = counts
        return ChannelHistogram(self.axis, dense.reshape(-1, BINS_A_CHANNEL))


HISTOGRAM = HistogramKind()
CHANNEL_RANGE = ChannelRangeKind(1)


def kind(name: str, options: Mapping[str, Any]) -> Kind:
    """The kind of that name with these options.

    Raises:
        DataError: no kind of that name has been imported, or it has other options.
    """
    if name not in Kind.known:
        known = ", ".join(sorted(Kind.known))
        raise DataError(
            f"unknown kind of statistic {name!r}", hint=f"known: {known}; import the module that defines it"
        )
    try:
        return Kind.known[name](**options)
    except TypeError as error:
        raise DataError(f"statistic {name!r} does not take the options {dict(options)}") from error
