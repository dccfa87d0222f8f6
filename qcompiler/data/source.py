"""The one Source: samples of a Reader, limited, checked against the model, and fingerprinted.

The fingerprint is sha256 over the checked samples in order. Per sample, inputs sorted by name, then the label:
name, element type, shape, values in little-endian C order; each part is preceded by its length. The same samples
therefore have the same fingerprint whether they come from an `.npz`, a folder or a function.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, cast

import numpy as np

from qcompiler.data.check import check_feed
from qcompiler.data.implied import missing
from qcompiler.data.sample import Array, InputInfo, Label, Reader, Sample, Source
from qcompiler.errors import DataError

if TYPE_CHECKING:
    from hashlib import _Hash


@dataclass(frozen=True)
class Reopening:
    """What opens a source again, in another process that sees the same files: the arguments of `open_source`.

    Attributes:
        spec: an absolute path, or `package.module:function`.
        inputs: of the model.
        limit: number of samples at most.
    """

    spec: str
    inputs: tuple[InputInfo, ...]
    limit: int | None


class CheckedSource:
    """See `sample.Source`.

    Args:
        reader: gives the samples.
        inputs: of the model.
        limit: number of samples at most.
        where: what errors call the data.
        again: what opens it in another process; None where it exists in this one only.

    Raises:
        DataError: at once if the data is known to be empty; while reading if a sample does not fit the model, some
            samples have labels and some not, nothing comes, or a program gives other samples than it did before.
    """

    def __init__(
        self,
        reader: Reader,
        inputs: Sequence[InputInfo],
        *,
        limit: int | None,
        where: str,
        again: Reopening | None = None,
    ) -> None:
        self._reader, self._inputs, self._limit, self._where = reader, tuple(inputs), limit, where
        self.again = again
        self._digest: str | None = None
        self.description = reader.description
        self.count = reader.count if reader.count is None or limit is None else min(reader.count, limit)
        if self.count == 0:
            raise self._empty()
        given = reader.given
        if reader.has_labels is None:
            with closing(reader.read()) as samples:
                first = next(samples, None)
            if first is None:
                raise self._empty()
            check_feed(first.feed, self._inputs, first.name)
            self.has_labels, given = first.label is not None, frozenset(first.feed)
        else:
            self.has_labels = reader.has_labels
        self.implied = {} if given is None else missing(given, self._inputs)

    def behind(self, start: int) -> Iterator[Sample]:
        """The samples from number `start` on, checked; those before it are read only where there is no other way."""
        limit = None if self._limit is None else max(0, self._limit - start)
        jump = self._reader.behind
        with closing(self._reader.read() if jump is None else jump(start)) as samples:
            for sample in islice(islice(samples, start if jump is None else 0, None), limit):
                yield Sample(check_feed(sample.feed, self._inputs, sample.name), sample.label, sample.name)

    @property
    def jumps(self) -> bool:
        """Whether `behind` reads nothing else."""
        return self._reader.behind is not None

    def __iter__(self) -> Iterator[Sample]:
        digest = hashlib.sha256() if self._digest is None or self._reader.volatile else None
        seen = False
        with closing(self._reader.read()) as samples:
            for sample in islice(samples, self._limit):
                if (sample.label is not None) != self.has_labels:
                    has, others = ("no", "others have one") if self.has_labels else ("a", "others have none")
                    raise DataError(f"has {has} label, but {others}", where=sample.name)
                checked = Sample(check_feed(sample.feed, self._inputs, sample.name), sample.label, sample.name)
                if digest is not None:
                    update(digest, checked)
                seen = True
                yield checked
        if not seen:
            raise self._empty()
        if digest is not None:
            self._remember(digest.hexdigest())

    def fingerprint(self) -> str:
        """Known once the samples were read to the end; otherwise reads them."""
        if self._digest is None:
            for _ in self:
                pass
        return cast(str, self._digest)

    def _remember(self, digest: str) -> None:
        if self._digest not in (None, digest):
            raise DataError(
                "gave other samples than the last time",
                where=self._where,
                hint="samples are read more than once: give the same ones each time, with a fixed random seed",
            )
        self._digest = digest

    def _empty(self) -> DataError:
        return DataError("holds no samples", where=self._where)


def update(digest: _Hash, sample: Sample) -> None:
    """Adds a sample to a fingerprint."""
    for name in sorted(sample.feed):
        _update_array(digest, name, sample.feed[name])
    if sample.label is not None:
        _update_array(digest, "", _label_array(sample.label))


def _label_array(label: Label) -> Array:
    return np.asarray(label, np.int64) if isinstance(label, int) else np.asarray(label)


def _update_array(digest: _Hash, name: str, array: Array) -> None:
    head = f"{name!r} {array.dtype.name} {array.shape}".encode()
    digest.update(len(head).to_bytes(8, "little") + head)
    if array.dtype.hasobject:
        for item in array.flat:
            text = str(item).encode("utf-8", "surrogatepass")
            digest.update(len(text).to_bytes(8, "little") + text)
        return
    ordered = np.asarray(array, order="C")
    if ordered.dtype.byteorder == ">" or (sys.byteorder == "big" and ordered.dtype.byteorder == "="):
        ordered = ordered.byteswap()
    digest.update(ordered.reshape(-1).view(np.uint8).data)


if TYPE_CHECKING:

    def _is_source(source: CheckedSource) -> Source:
        return source
