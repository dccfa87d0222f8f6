"""Statistics of a graph in which channels of some values were stretched, from those of the graph before.

    histogram(x_equalized), channels(x_equalized) = those of x with channel c times 2^k_c

See `passes/condition/equalize_depthwise.py`. Nothing is collected again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from qcompiler.errors import InternalError
from qcompiler.numerics.channel_histogram import ChannelHistogram
from qcompiler.numerics.histogram import Histogram
from qcompiler.numerics.observers import ChannelRange
from qcompiler.passes.plan.encode import Ranges


@runtime_checkable
class Statistics(Ranges, Protocol):
    """What is known of the graph before."""

    def channel_range(self, tensor: str, axis: int | tuple[int, ...] = 1) -> ChannelRange | None:
        """Extremes by index of an axis, or of several."""


@dataclass(frozen=True, eq=False)
class Stretched:
    """Statistics under the new names.

    Attributes:
        stats: of the graph before.
        renamed: old name by new name.
        octaves: k_c by new name.
        axes: channel axis by new name, where it is not 1.
    """

    stats: Statistics
    renamed: Mapping[str, str]
    octaves: Mapping[str, npt.NDArray[np.int64]]
    axes: Mapping[str, int] = field(default_factory=dict)
    _known: dict[str, tuple[ChannelHistogram, Histogram]] = field(default_factory=dict)

    def histogram(self, tensor: str) -> Histogram:
        """See `Ranges`."""
        return self._both(tensor)[1] if tensor in self.renamed else self.stats.histogram(tensor)

    def channels(self, tensor: str, axis: int) -> ChannelHistogram | None:
        """See `Ranges`."""
        if tensor not in self.renamed:
            return self.stats.channels(tensor, axis)
        return self._both(tensor)[0] if axis == self.axes.get(tensor, 1) else None

    def shape(self, tensor: str) -> tuple[int | None, ...] | None:
        """See `Ranges`."""
        return self.stats.shape(self.renamed.get(tensor, tensor))

    def channel_range(self, tensor: str, axis: int | tuple[int, ...] = 1) -> ChannelRange | None:
        """See `Statistics`; None for what was stretched."""
        return None if tensor in self.renamed else self.stats.channel_range(tensor, axis)

    def _both(self, tensor: str) -> tuple[ChannelHistogram, Histogram]:
        if tensor not in self._known:
            self._known[tensor] = self._stretched(tensor)
        return self._known[tensor]

    def _stretched(self, tensor: str) -> tuple[ChannelHistogram, Histogram]:
        old, octaves, axis = self.renamed[tensor], self.octaves[tensor], self.axes.get(tensor, 1)
        channels, ends = self.stats.channels(old, axis), self.stats.channel_range(old, axis)
        if channels is None or ends is None:
            raise InternalError("a value was stretched without statistics", where=old)
        low, high = (np.ldexp(end, octaves.astype(np.int32)) for end in (ends.minimum, ends.maximum))
        return channels.stretched(self.stats.histogram(old), octaves, float(low.min()), float(high.max()))
