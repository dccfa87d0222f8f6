"""Streams the values of intermediate tensors, sample by sample, within a memory budget.

The tensors are taken in topological order, as many as fit; the rest follow in further readings of the samples. Where
shapes vary, a sample that may exceed the budget is first asked for its shapes alone; if the group would outgrow the
budget, its last tensors are given back (`Shed`) and wait for the next reading. So memory is bounded by the budget,
whatever the number of samples, and the values are the same for every budget (see `observe`: witnesses).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from qcompiler import ir
from qcompiler.analysis.observe import observable, observed
from qcompiler.analysis.run import Runner, SessionConfig
from qcompiler.data import Sample
from qcompiler.errors import DataError

Array = npt.NDArray[Any]

# For a session that runs once.
_QUICK = SessionConfig("off", entries=(("session.disable_prepacking", "1"),))


@dataclass(frozen=True, eq=False)
class Seen:
    """The tensors of one sample: those of the present group, in topological order."""

    sample: Sample
    index: int
    values: Mapping[str, Array]


@dataclass(frozen=True)
class Shed:
    """These tensors no longer fit; what was seen of them so far is void, and they come again later."""

    names: tuple[str, ...]


@dataclass(frozen=True)
class Complete:
    """All samples have been seen of these tensors."""

    names: tuple[str, ...]
    samples: int


@dataclass(eq=False)
class Tap:
    """Reads tensors of a model over a source.

    Attributes:
        model: left alone.
        source: samples; read once per group.
        names: tensors to read.
        budget: bytes that the observed tensors of a sample may take.
        overhead: bytes that the caller keeps per tensor.
        config: session settings.
        refused: after construction, the tensors that cannot be observed, and why.
        whole: while iterating, whether the present group holds every tensor.
    """

    model: ir.Model
    source: Iterable[Sample]
    names: Iterable[str]
    budget: int = 512 << 20
    overhead: int = 0
    config: SessionConfig = field(default_factory=SessionConfig)
    refused: dict[str, str] = field(init=False)
    whole: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        self._all, self.refused = observable(self.model, self.names)
        self._inputs = {tensor.name for tensor in self.model.inputs}
        self._known: dict[tuple[tuple[str, tuple[int, ...]], ...], dict[str, int]] = {}

    def __iter__(self) -> Iterator[Seen | Shed | Complete]:
        """Raises DataError where there are no samples or the model cannot run on one."""
        waiting = self._all
        while True:
            group: tuple[str, ...] = ()
            for event in self._reading(waiting):
                yield event
                if isinstance(event, Complete):
                    group = event.names
            waiting = waiting[len(group) :]
            if not waiting:
                return

    def _reading(self, waiting: tuple[str, ...]) -> Iterator[Seen | Shed | Complete]:
        group, runner, outputs = waiting, None, dict[str, str]()
        measured: Sample | None = None
        total = count = 0
        for sample in self.source:
            if measured is None or total * _growth(measured, sample) > self.budget:
                fitting, total = self._fitting(group, sample)
                if measured is None or len(fitting) < len(group):
                    if measured is not None:
                        yield Shed(group[len(fitting) :])
                    group = fitting
                    runner = None
                    runner, outputs = self._open(group)
                measured = sample
            yield Seen(sample, count, self._values(runner, outputs, group, sample))
            count += 1
        if not count:
            raise no_samples(self.source)
        yield Complete(group, count)

    def _open(self, group: Sequence[str]) -> tuple[Runner | None, dict[str, str]]:
        seen = observed(self.model, group, witnesses=self._all)
        outputs = {name: output for name, output in seen.outputs.items() if name not in self._inputs}
        runner = Runner(seen.payload, self.config, outputs=list(outputs.values())) if outputs else None
        self.whole = len(group) == len(self._all)
        return runner, outputs

    def _values(
        self, runner: Runner | None, outputs: Mapping[str, str], group: Sequence[str], sample: Sample
    ) -> dict[str, Array]:
        results = runner.run(sample.feed, sample=sample.name) if runner is not None else {}
        return {name: results[outputs[name]] if name in outputs else sample.feed[name] for name in group}

    def _fitting(self, group: tuple[str, ...], sample: Sample) -> tuple[tuple[str, ...], int]:
        """As many of the group's first tensors as the budget allows on this sample, at least one; and their bytes."""
        sizes = self._sizes(sample)
        total = 0
        for count, name in enumerate(group):
            more = self.overhead + sizes.get(name, 0)
            if total + more > self.budget and count:
                return group[:count], total
            total += more
        return group, total

    def _sizes(self, sample: Sample) -> dict[str, int]:
        """Bytes of each tensor on a sample; inputs take none.

        Shapes come from the model, with symbolic dimensions as they are in the feed; where that does not tell, the
        model is run once for each set of input shapes, with shapes as its only outputs.
        """
        shapes = tuple((name, array.shape) for name, array in sample.feed.items())
        if shapes not in self._known:
            sizes = _declared_sizes(self.model, sample)
            unknown = [name for name in self._all if name not in sizes and name not in self._inputs]
            if unknown:
                seen = observed(self.model, unknown, show="shape")
                runner = Runner(seen.payload, _QUICK, outputs=list(seen.outputs.values()))
                found = runner.run(sample.feed, sample=sample.name)
                sizes |= {name: 4 * math.prod(map(int, found[output])) for name, output in seen.outputs.items()}
            self._known[shapes] = sizes
        return self._known[shapes]


def known_count(source: Iterable[Sample]) -> int | None:
    """Number of samples where the source knows it: `count` of a `Source`, the length of a list."""
    count = getattr(source, "count", None)
    if isinstance(count, int):
        return count
    return len(source) if isinstance(source, Sized) else None


def no_samples(source: Iterable[Sample]) -> DataError:
    """What to raise where there is nothing to run on."""
    return DataError("holds no samples", where=str(getattr(source, "description", "") or "data"))


def _growth(before: Sample, now: Sample) -> float:
    """By how much the tensors of a model may have grown: with the square of its inputs, as in attention."""
    ratios = (array.size / max(before.feed[name].size, 1) for name, array in now.feed.items() if name in before.feed)
    return max(1.0, *ratios, 1.0) ** 2


def _declared_sizes(model: ir.Model, sample: Sample) -> dict[str, int]:
    """Bytes of each computed tensor whose declared dimensions are numbers, or symbols that the inputs bind."""
    symbols: dict[Any, int] = {}
    for tensor in model.inputs:
        array = sample.feed.get(tensor.name)
        if array is not None and tensor.shape is not None and len(tensor.shape) == array.ndim:
            symbols |= {dim: size for dim, size in zip(tensor.shape, array.shape, strict=True) if isinstance(dim, str)}
    sizes: dict[str, int] = {}
    for node in model.all_nodes():
        for tensor in node.outputs:
            dims: list[Any] | None = tensor.shape and [symbols.get(dim, dim) for dim in tensor.shape]
            if dims is not None and all(isinstance(dim, int) for dim in dims):
                sizes[tensor.name] = math.prod(dims) * (np.dtype(tensor.dtype).itemsize if tensor.dtype else 4)
    return sizes
