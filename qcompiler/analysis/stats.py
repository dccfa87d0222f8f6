"""Statistics of a model's tensors over a set of samples: collected once, merged, kept in a file, read by every target.

Everything is a count or an extreme, so merging is commutative and associative, and the file (`stats_file`) is the same
byte for byte however the samples were split, ordered or scheduled.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from qcompiler.analysis.kinds import HISTOGRAM, ChannelHistogramKind, ChannelRangeKind, Kind, Packed
from qcompiler.errors import DataError
from qcompiler.numerics.channel_histogram import ChannelHistogram
from qcompiler.numerics.histogram import Histogram
from qcompiler.numerics.observers import ChannelRange

HINT = "collect the statistics again"


@dataclass(frozen=True, eq=False)
class TensorStats:
    """The statistics of one tensor.

    Attributes:
        shape: the shape; None for a dimension that varies between samples, None as a whole where the rank does.
        elements: values in the largest sample.
        observers: what was observed, packed.
    """

    shape: tuple[int | None, ...] | None
    elements: int
    observers: Mapping[Kind, Packed]

    def value(self, kind: Kind) -> Any:
        """The observer of that kind.

        Raises:
            DataError: it was not collected.
        """
        if kind not in self.observers:
            raise DataError(f"statistic {kind} was not collected", hint=HINT)
        return kind.unpack(self.observers[kind])

    def merge(self, other: TensorStats) -> TensorStats:
        """The statistics of both sets of samples."""
        if self.observers.keys() != other.observers.keys():
            raise DataError("different statistics were collected", hint=HINT)
        merged = {kind: kind.pack(self.value(kind).merge(other.value(kind))) for kind in self.observers}
        return TensorStats(common_shape(self.shape, other.shape), max(self.elements, other.elements), merged)


def common_shape(
    one: tuple[int | None, ...] | None, other: tuple[int | None, ...] | None
) -> tuple[int | None, ...] | None:
    """What two shapes have in common."""
    if one is None or other is None or len(one) != len(other):
        return None
    return tuple(a if a == b else None for a, b in zip(one, other, strict=True))


@dataclass(frozen=True, eq=False)
class Stats(Mapping[str, TensorStats]):
    """Statistics by tensor name.

    Attributes:
        model: fingerprint of the model (`fingerprint`).
        samples: number of samples.
        tensors: by name, in the order of names.
        unseen: wanted tensors without statistics, and why.
    """

    model: str
    samples: int
    tensors: Mapping[str, TensorStats]
    unseen: Mapping[str, str] = field(default_factory=dict)

    def __getitem__(self, tensor: str) -> TensorStats:
        return self.tensors[tensor]

    def __iter__(self) -> Iterator[str]:
        return iter(self.tensors)

    def __len__(self) -> int:
        return len(self.tensors)

    def histogram(self, tensor: str) -> Histogram:
        """The histogram of a tensor.

        Raises:
            DataError: it has none; the message says why.
        """
        histogram: Histogram = self.value(tensor, HISTOGRAM)
        return histogram

    def channels(self, tensor: str, axis: int) -> ChannelHistogram | None:
        """Whose values the histogram of a tensor holds, by index of `axis`; None where that was not collected."""
        kind = ChannelHistogramKind(axis)
        found = self.tensors.get(tensor)
        if found is None or kind not in found.observers:
            return None
        observer: ChannelHistogram = found.value(kind)
        return observer

    def shape(self, tensor: str) -> tuple[int | None, ...] | None:
        """The shape on all samples; None for what varies or is not known."""
        found = self.tensors.get(tensor)
        return None if found is None else found.shape

    def channel_range(self, tensor: str, axis: int | tuple[int, ...] = 1) -> ChannelRange | None:
        """Extremes of a tensor by index of an axis; None where they were not collected."""
        found, kind = self.tensors.get(tensor), ChannelRangeKind(axis)
        if found is None or kind not in found.observers:
            return None
        observer: ChannelRange = found.value(kind)
        return observer

    def value(self, tensor: str, kind: Kind) -> Any:
        """The observer of that kind; errors as `histogram`."""
        if tensor not in self.tensors:
            why = self.unseen.get(tensor, "it was not among the tensors to observe")
            raise DataError(f"no statistics: {why}", where=tensor, hint=HINT)
        try:
            return self.tensors[tensor].value(kind)
        except DataError as error:
            raise DataError(error.what, where=tensor, hint=error.hint) from error

    def check(self, model: str) -> None:
        """Makes sure that the statistics belong to a model.

        Args:
            model: its fingerprint.

        Raises:
            DataError: they belong to another one.
        """
        if self.model != model:
            raise DataError(
                f"the statistics were collected for another model ({self.model[:12]}, not {model[:12]})",
                hint="statistics fit the same model, shapes and compiler version; " + HINT,
            )

    def merge(self, other: Stats) -> Stats:
        """The statistics of both sets of samples; `a.merge(b)` and `b.merge(a)` give the same file.

        Raises:
            DataError: they belong to different models or tensors.
        """
        other.check(self.model)
        wanted = self.tensors.keys() | self.unseen.keys()
        if wanted != other.tensors.keys() | other.unseen.keys():
            name = min(wanted ^ (other.tensors.keys() | other.unseen.keys()))
            raise DataError("only one of two statistics to merge covers this tensor", where=name, hint=HINT)
        merged: dict[str, TensorStats] = {}
        for name in sorted(self.tensors.keys() | other.tensors.keys()):
            parts = [part.tensors[name] for part in (self, other) if name in part.tensors]
            merged[name] = parts[0].merge(parts[1]) if len(parts) == 2 else parts[0]
        unseen = {name: self.unseen[name] for name in sorted(self.unseen.keys() & other.unseen.keys())}
        return Stats(self.model, self.samples + other.samples, merged, unseen)

    def save(self, path: Path) -> None:
        """Writes the statistics to a file, whole or not at all; errors as `stats_file.write`."""
        from qcompiler.analysis.stats_file import write

        write(self, path)

    @staticmethod
    def load(path: Path, model: str | None = None) -> Stats:
        """Reads what `save` wrote; errors as `stats_file.read`."""
        from qcompiler.analysis.stats_file import read

        return read(path, model)
