"""A source in pieces, so that several can work on it, and what is known of a piece is found again.

    shard       up to `SAMPLES` samples that follow each other, up to about `BYTES`; its digest is made from the samples

Where shards begin depends on the samples alone. The first reading cuts them; after that they are known, and the samples
of one are read when they are asked for: in order, each reading goes on where the last one ended.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

from qcompiler.data.sample import Sample
from qcompiler.data.source import CheckedSource, update
from qcompiler.errors import DataError

SAMPLES = 16
BYTES = 32 << 20


@dataclass(frozen=True)
class Shard:
    """Samples `start` to `stop` of a source.

    Attributes:
        digest: sha256 of what they hold, and of their names.
    """

    start: int
    stop: int
    digest: str


class Parts:
    """Reads parts of a source; threads take turns.

    Args:
        source: the samples.
    """

    def __init__(self, source: Iterable[Sample]) -> None:
        self.source = source
        self._lock = threading.Lock()
        self._next = 0
        self._stream: Iterator[Sample] = iter(())

    def read(self, start: int, stop: int) -> list[Sample]:
        """Samples `start` to `stop`, as far as there are any."""
        with self._lock:
            jumps = isinstance(self.source, CheckedSource) and self.source.jumps
            if start < self._next or (start > self._next and jumps) or not self._next:
                self._stream, self._next = self._from(start), start
            found = list(islice(self._stream, start - self._next, stop - self._next))
            self._next = start + len(found)
            return found

    def _from(self, start: int) -> Iterator[Sample]:
        if isinstance(self.source, CheckedSource):
            return self.source.behind(start)
        return islice(iter(self.source), start, None)


class Shards:
    """The shards of a source, in order; see the module.

    Args:
        source: the samples.
    """

    def __init__(self, source: Iterable[Sample]) -> None:
        self.source = source
        self._known: list[Shard] = []
        self._cutting = self._cut()
        self._parts = Parts(source)
        # of the shard that was cut last
        self._samples: tuple[Shard, list[Sample]] | None = None

    def __iter__(self) -> Iterator[Shard]:
        """Raises DataError where a sample does not fit the model."""
        index = 0
        while index < len(self._known) or self._more():
            yield self._known[index]
            index += 1

    def samples(self, shard: Shard) -> list[Sample]:
        """The samples of a shard.

        Raises:
            DataError: they are not what they were.
        """
        if self._samples is not None and self._samples[0] is shard:
            return self._samples[1]
        return checked(self._parts.read(shard.start, shard.stop), shard, str(getattr(self.source, "description", "")))

    def _more(self) -> bool:
        """Cuts one shard more; False where there are no samples left."""
        try:
            return next(self._cutting, None) is not None
        except BaseException:
            self._cutting = self._cut()
            raise

    def _cut(self) -> Iterator[Shard]:
        """Reads on behind the last known shard; the whole source is read by its own iterator, which checks it."""
        done, held = 0, list[Sample]()
        start = self._known[-1].stop if self._known else 0
        for sample in self.source:
            done += 1
            if done <= start:
                continue
            held.append(sample)
            if len(held) >= SAMPLES or nbytes(held) >= BYTES:
                yield self._add(done - len(held), held)
                held = []
        if held:
            yield self._add(done - len(held), held)

    def _add(self, start: int, samples: list[Sample]) -> Shard:
        shard = Shard(start, start + len(samples), digest(samples))
        self._known.append(shard)
        self._samples = (shard, samples)
        return shard


def digest(samples: Iterable[Sample]) -> str:
    """sha256 of some samples and their names."""
    found = hashlib.sha256()
    for sample in samples:
        name = sample.name.encode("utf-8", "surrogateescape")
        found.update(len(name).to_bytes(8, "little") + name)
        update(found, sample)
    return found.hexdigest()


def nbytes(samples: Iterable[Sample]) -> int:
    """Size of the feeds of some samples."""
    return sum(array.nbytes for sample in samples for array in sample.feed.values())


def checked(samples: list[Sample], shard: Shard, where: str) -> list[Sample]:
    """The samples, if they are those of the shard.

    Raises:
        DataError: they are not.
    """
    if digest(samples) != shard.digest:
        raise DataError(
            f"gave other samples {shard.start} to {shard.stop} than the last time",
            where=where,
            hint="samples are read more than once: give the same ones each time, with a fixed random seed",
        )
    return samples
