"""A folder of `.npz` files in order of their names; other files in it are left alone.

A file in which every array has one axis more than its input holds many samples (see `table`). Any other file is one
sample: its arrays are fed exactly as they are, so shapes may vary from file to file; `label` or `labels` is its
label.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path

from qcompiler.data.check import check_names, check_shape, check_type
from qcompiler.data.npy_stream import NpyMember, npz_members
from qcompiler.data.sample import InputInfo, Reader, Sample
from qcompiler.data.table import Table, as_label, label_key
from qcompiler.errors import DataError


@dataclass(frozen=True)
class _OneSample:
    """An archive that is one sample; only its headers were read."""

    members: dict[str, NpyMember]
    label: str | None
    name: str

    count = 1

    @property
    def has_labels(self) -> bool:
        return self.label is not None

    @property
    def given(self) -> frozenset[str]:
        return frozenset(self.members) - {self.label}

    def read(self) -> Generator[Sample, None, None]:
        feed = {name: member.whole() for name, member in self.members.items() if name != self.label}
        label = self.members[self.label] if self.label else None
        yield Sample(feed, as_label(label.whole(), label.where) if label else None, self.name)


def _open(path: Path, inputs: Sequence[InputInfo]) -> Table | _OneSample:
    members, where = npz_members(path), str(path)
    key = label_key(members, inputs, where)
    check_names([name for name in members if name != key], inputs, where)
    given = [info for info in inputs if info.name in members]
    if all(info.shape is not None and len(members[info.name].shape) == len(info.shape) + 1 for info in given):
        return Table(members, inputs, where=where, name=path.name)
    symbols: dict[str, tuple[int, str]] = {}
    for info in given:
        check_type(members[info.name].dtype, info, where)
        check_shape(members[info.name].shape, info, where, symbols)
    return _OneSample(members, key, path.name)


def npz_folder(folder: Path, files: Sequence[Path], inputs: Sequence[InputInfo]) -> Reader:
    """The samples of all `files` of `folder`, in that order.

    Raises:
        DataError: a file is damaged or does not fit the model, or only some files have labels.
    """
    parts = [_open(file, inputs) for file in files]
    for file, part in zip(files, parts, strict=True):
        if part.has_labels != parts[0].has_labels:
            with_labels, without = (files[0], file) if parts[0].has_labels else (file, files[0])
            raise DataError(f"{with_labels.name} has labels and {without.name} has none", where=str(folder))

    def read() -> Generator[Sample, None, None]:
        for part in parts:
            yield from part.read()

    count = sum(part.count for part in parts)
    return Reader(read, count, parts[0].has_labels, f"folder of npz files {folder.resolve().name}", parts[0].given)
