"""Runs a model over samples piece by piece: the weights of one piece are in memory, the values between pieces in files.

    nodes in order -> pieces -> for each piece: a session, all samples through it, what later pieces read to files

Only what somebody will ask for is computed (`targets`), and no sooner than it is asked for; a file goes as soon as
nothing will read it. With graph optimisation off each node computes the same bits wherever the model is cut. A lookup
in a table of constants is done here, so that a table on disk gives the rows that are read, and no more.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import helper

from qcompiler import ir
from qcompiler.analysis.run import Runner, SessionConfig
from qcompiler.analysis.tap import no_samples
from qcompiler.data import Sample
from qcompiler.errors import DataError, OutputError

Array = npt.NDArray[Any]
PIECE = 64 << 20
"""Bytes of weights from which a node is a piece of its own."""
EXACT = SessionConfig("off", entries=(("session.disable_prepacking", "1"),))
"""Node by node; packed weights would be a second copy, for a session that runs once for each sample."""


class Walk:
    """See the module.

    Args:
        model: must not change meanwhile, but for values of weights that no piece has read yet.
        source: samples; read once.
        targets: tensors that `values` will be asked for, computed ones or inputs.
        folder: for files; must be there as long as this is used.
        config: session settings.

    Attributes:
        samples: the names of the samples, and their labels.
    """

    def __init__(
        self,
        model: ir.Model,
        source: Iterable[Sample],
        targets: Collection[str],
        folder: Path,
        config: SessionConfig = EXACT,
    ) -> None:
        self._cutter, self._config, self._folder = ir.Cutter(model), config, folder
        self._constants = {constant.name: constant for constant in model.constants()}
        self._nodes = ir.topological(model.graph)
        self._maker = {name: place for place, names in enumerate(self._cutter.makes) for name in names}
        self._columns: dict[str, _Column] = {}
        self._waiting = self._behind(targets)
        reads = (dict.fromkeys(self._cutter.reads[place]) for place in self._waiting)
        # how many nodes have yet to read a tensor; a target is read by the caller, too
        self._left = Counter(itertools.chain(targets, *reads))
        self.samples: list[Sample] = []
        inputs = [tensor.name for tensor in model.inputs if self._left[tensor.name]]
        for sample in source:
            self.samples.append(Sample({}, sample.label, sample.name))
            for name in inputs:
                self._column(name).append(sample.feed[name])
        if not self.samples:
            raise no_samples(source)

    def reach(self, names: Collection[str]) -> None:
        """Computes some targets.

        Raises:
            DataError: the model cannot run on a sample.
            ModelError: ONNX Runtime cannot load a piece.
            OutputError: the disk is full.
        """
        some: list[int] = []
        weight = 0
        for place in self._behind(names):
            own = sum(ir.nbytes(self._constants[name]) for name in self._cutter.reads[place] if name in self._constants)
            if some and (weight + own > PIECE or self._looks_up(place)):
                self._run(some)
                some, weight = [], 0
            some.append(place)
            weight += own
            if self._looks_up(place):
                self._run(some)
                some, weight = [], 0
        if some:
            self._run(some)

    def values(self, name: str) -> Iterator[Any]:
        """What a target is for each sample, in order; computed where it is not yet, errors as for `reach`."""
        if name in self._constants:
            return itertools.repeat(ir.array(self._constants[name]), len(self.samples))
        self.reach([name])
        return map(self._columns[name].__getitem__, range(len(self.samples)))

    def forget(self, name: str) -> None:
        """A target is not asked for any more."""
        self._left[name] -= 1
        self._drop([name])

    def _behind(self, names: Iterable[str]) -> list[int]:
        """The nodes that tensors depend on and that were not run, in order."""
        found, stack = set[int](), [*names]
        while stack:
            place = self._maker.get(name := stack.pop())
            if place is not None and name not in self._columns and place not in found:
                found.add(place)
                stack.extend(self._cutter.reads[place])
        return sorted(found)

    def _looks_up(self, place: int) -> bool:
        node = self._nodes[place]
        table = node.inputs[0] if node.inputs else None
        return (
            node.op == "Gather" and isinstance(table, ir.Constant) and table.name in self._constants
            and not node.attrs.get("axis", 0) and bool(table.shape) and ir.on_disk(table)
        )  # fmt: skip

    def _run(self, places: Sequence[int]) -> None:
        read = [name for place in places for name in dict.fromkeys(self._cutter.reads[place])]
        self._left.subtract(read)
        kept = [name for place in places for name in self._cutter.makes[place] if self._left[name] > 0]
        if len(places) == 1 and self._looks_up(places[0]):
            self._look_up(self._nodes[places[0]])
        elif kept:
            types = {name: found for name in read if (found := self._type(name)) is not None}
            part, inputs = self._cutter.alone(places, kept, types)
            runner = Runner(part, self._config, outputs=kept)
            for number, sample in enumerate(self.samples):
                feed = {name: self._columns[name][number] for name in inputs}
                for name, value in runner.run(feed, sample=sample.name).items():
                    self._column(name).append(value)
        self._drop(read)

    def _look_up(self, node: ir.Node) -> None:
        values, (indices, *_) = ir.array(node.inputs[0]), node.inputs[1:]
        for number, sample in enumerate(self.samples):
            at = ir.array(indices) if isinstance(indices, ir.Constant) else self._columns[indices.name][number]
            try:
                found = np.take(values, at, axis=0)
            except IndexError as error:
                raise DataError(f"the model cannot run on this sample: {error}", where=sample.name) from error
            self._column(node.outputs[0].name).append(found)

    def _type(self, name: str) -> int | None:
        column = self._columns.get(name)
        value = column[0] if column is not None else None
        return int(helper.np_dtype_to_tensor_dtype(value.dtype)) if isinstance(value, np.ndarray) else None

    def _column(self, name: str) -> _Column:
        if name not in self._columns:
            self._columns[name] = _Column(self._folder / f"{len(self._columns)}.values")
        return self._columns[name]

    def _drop(self, names: Iterable[str]) -> None:
        for name in names:
            if self._left[name] <= 0 and name in self._columns:
                self._columns[name].drop()


@dataclass(eq=False)
class _Column:
    """What a tensor is for each sample; what is no array of numbers is in memory."""

    file: Path
    entries: list[Any] = field(default_factory=list)
    end: int = 0

    def append(self, value: Any) -> None:
        if not isinstance(value, np.ndarray) or value.dtype.hasobject:
            self.entries.append(value)
            return
        try:
            with self.file.open("ab") as stream:
                np.ascontiguousarray(value).tofile(stream)
        except OSError as error:
            raise OutputError(f"cannot be written: {error.strerror or error}", where=str(self.file)) from error
        self.entries.append(_Place(value.dtype, value.shape, self.end))
        self.end += value.nbytes

    def __getitem__(self, number: int) -> Any:
        entry = self.entries[number]
        if not isinstance(entry, _Place):
            return entry
        count = int(np.prod(entry.shape))
        return np.fromfile(self.file, entry.dtype, count, offset=entry.offset).reshape(entry.shape)

    def drop(self) -> None:
        self.file.unlink(missing_ok=True)
        self.entries.clear()


@dataclass(frozen=True)
class _Place:
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    offset: int
