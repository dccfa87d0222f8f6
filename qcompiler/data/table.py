"""Arrays whose first axis runs over the samples: the rule that says what sample i is.

For an input of rank r and an array of rank d:

    d = r + 1                                    sample i is array[i]
    d = r, first size symbolic, unknown or 1     sample i is array[i:i+1]
    d = r, first size fixed to B > 1             sample i is array[i*B:(i+1)*B]; rows left over are dropped
    r unknown                                    sample i is array[i:i+1]

All inputs give the same number of samples. `labels` has one row per sample, or one row per row of an input that is
cut into batches of B; then the label of a sample is the array of its B labels.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from qcompiler.data.check import check_names, check_shape, check_type, shape_text, type_text
from qcompiler.data.sample import Array, InputInfo, Label, Sample
from qcompiler.errors import DataError

LABEL_NAMES = ("labels", "label")


class Column(Protocol):
    """An array that can be read in blocks of rows: in memory, or still in a file."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def dtype(self) -> np.dtype[Any]: ...
    def blocks(self, rows: int) -> Iterator[Array]: ...


@dataclass(frozen=True)
class MemoryColumn:
    """A column over an array of the caller; blocks are views."""

    array: Array

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.array.dtype

    def blocks(self, rows: int) -> Iterator[Array]:
        return (self.array[i * rows : (i + 1) * rows] for i in range(len(self.array) // rows))


@dataclass(frozen=True)
class Cut:
    """How a column is cut into samples: rows of each, whether the axis stays, and how many there are."""

    rows: int
    keep: bool
    count: int

    def samples(self, column: Column) -> Iterator[Array]:
        blocks = column.blocks(self.rows)
        return blocks if self.keep else (block.reshape(block.shape[1:]) for block in blocks)


def cut(shape: tuple[int, ...], info: InputInfo, where: str) -> Cut:
    """The rule of this module for one input; DataError where no line of it applies."""
    rank = len(shape) if info.shape is None else len(info.shape)
    if len(shape) == rank + 1:
        return Cut(1, False, shape[0])
    if len(shape) != rank or not rank:
        wanted = shape_text(("samples", *(info.shape or ())))
        raise DataError(
            f"input {info.name!r} takes shape {shape_text(info.shape)}, but the data has {shape_text(shape)}",
            where=where,
            hint=f"the first axis runs over the samples: {wanted}",
        )
    first = info.shape[0] if info.shape else None
    batch = first if isinstance(first, int) and first > 1 else 1
    if 0 < shape[0] < batch:
        raise DataError(f"input {info.name!r} has {shape[0]} rows, but the model takes {batch} at a time", where=where)
    return Cut(batch, True, shape[0] // batch)


def label_key(names: Sequence[str] | Mapping[str, object], inputs: Sequence[InputInfo], where: str) -> str | None:
    """The name under which labels are given, unless an input of the model has that name."""
    found = [key for key in LABEL_NAMES if key in names and all(info.name != key for info in inputs)]
    if len(found) > 1:
        raise DataError("holds both 'labels' and 'label'", where=where, hint="keep one")
    return found[0] if found else None


def as_label(value: Array, where: str) -> Label:
    """A label as Sample wants it: one integer as int, everything else as an array."""
    if value.dtype.kind not in "biuf":
        raise DataError(f"labels are {type_text(value.dtype)}, but must be numbers", where=where)
    return int(value.reshape(-1)[0]) if value.dtype.kind in "biu" and value.size == 1 and value.ndim < 2 else value


class Table:
    """Columns by input name, optionally with labels, cut into samples.

    Args:
        columns: name to column; the names are the model's inputs, with or without `labels` (or `label`).
        inputs: what the model takes.
        where: how errors name the data.
        name: how samples are named: `name[17]`.

    Raises:
        DataError: a name, a type or a shape that does not fit, no samples, or counts that differ.
    """

    def __init__(self, columns: Mapping[str, Column], inputs: Sequence[InputInfo], *, where: str, name: str) -> None:
        key = label_key(columns, inputs, where)
        feeds = {other: column for other, column in columns.items() if other != key}
        check_names(feeds, inputs, where)
        self._name, self._where, self._columns, self._cuts = name, where, feeds, dict[str, Cut]()
        symbols: dict[str, tuple[int, str]] = {}
        given = [info for info in inputs if info.name in feeds]
        for info in given:
            column = feeds[info.name]
            check_type(column.dtype, info, where)
            self._cuts[info.name] = part = cut(column.shape, info, where)
            if not part.count:
                raise DataError(f"holds no samples: {info.name!r} has shape {shape_text(column.shape)}", where=where)
            check_shape((part.rows, *column.shape[1:]) if part.keep else column.shape[1:], info, where, symbols)
        counts = {info.name: self._cuts[info.name].count for info in given}
        first, self.count = next(iter(counts.items()))
        for other, count in counts.items():
            if count != self.count:
                raise DataError(f"{first!r} holds {self.count} samples and {other!r} {count}", where=where)
        self._labels = columns[key] if key else None
        self._label_cut = self._cut_labels(self._labels) if self._labels is not None else None
        self.has_labels = self._labels is not None

    @property
    def given(self) -> frozenset[str]:
        """The inputs that there are columns for."""
        return frozenset(self._columns)

    def _cut_labels(self, labels: Column) -> Cut:
        as_label(np.empty(0, labels.dtype), self._where)
        rows = labels.shape[0] if labels.shape else 0
        if rows == self.count:
            return Cut(1, False, rows)
        for name, part in self._cuts.items():
            if part.rows > 1 and rows == self._columns[name].shape[0]:
                return Cut(part.rows, True, self.count)
        raise DataError(
            f"has {self.count} samples but its labels have shape {shape_text(labels.shape)}", where=self._where
        )

    def read(self) -> Generator[Sample, None, None]:
        """The samples, unchecked."""
        streams = [self._cuts[name].samples(column) for name, column in self._columns.items()]
        labels: Iterator[Label] = iter([None] * self.count)
        if self._labels is not None and self._label_cut is not None:
            labels = (as_label(value, self._where) for value in self._label_cut.samples(self._labels))
        for index, (*arrays, label) in enumerate(zip(*streams, labels, strict=True)):
            yield Sample(dict(zip(self._columns, arrays, strict=True)), label, f"{self._name}[{index}]")
