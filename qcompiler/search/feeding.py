"""Brings the samples of a source to whoever works on them.

    in this process          the samples themselves
    same files in sight      where to read them: the source is opened again there, and the digest of what is read
                             compared with that of what was read here
    anything else            the samples, handed out once by their digest; as many are kept there as fit into `KEPT`

Which of these it is changes no result.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from qcompiler.data import Sample
from qcompiler.data.open import open_source
from qcompiler.data.shards import Parts, Shard, Shards, checked, nbytes
from qcompiler.data.source import CheckedSource, Reopening
from qcompiler.errors import DataError, MissingExtraError
from qcompiler.search.crew import Crew, InProcess, Shared

KEPT = 1 << 30


class UnseenError(DataError):
    """A worker does not see the files that this process sees."""


@dataclass(frozen=True)
class Part:
    """Where to read the samples of a shard."""

    source: Reopening
    shard: Shard


class Feeding:
    """See the module.

    Args:
        source: the samples.
        crew: works on them.

    Attributes:
        shards: the source in pieces.
    """

    def __init__(self, source: Iterable[Sample], crew: Crew) -> None:
        self.shards, self._crew = Shards(source), crew
        self._again = source.again if isinstance(source, CheckedSource) else None
        self._kept: dict[str, tuple[Shared, int]] = {}

    def part(self, shard: Shard) -> Any:
        """The argument that stands for the samples of a shard: see `samples_of`."""
        if isinstance(self._crew, InProcess):
            return self.shards.samples(shard)
        if self._again is not None:
            return Part(self._again, shard)
        if shard.digest not in self._kept:
            samples = self.shards.samples(shard)
            self._kept[shard.digest] = self._crew.share(shard.digest, samples), nbytes(samples)
            while sum(size for _, size in self._kept.values()) > KEPT and len(self._kept) > 1:
                del self._kept[next(iter(self._kept))]
        return self._kept[shard.digest][0]

    def hand_out(self) -> None:
        """From now on the samples themselves are sent."""
        self._again = None


def samples_of(part: Part | list[Sample]) -> list[Sample]:
    """The samples that an argument stands for, where the work is done.

    Raises:
        UnseenError: they are not there, or others are.
    """
    if not isinstance(part, Part):
        return part
    try:
        parts, shard = _opened(part.source), part.shard
        return checked(parts.read(shard.start, shard.stop), shard, part.source.spec)
    except (DataError, MissingExtraError) as error:
        raise UnseenError(error.what, where=error.where, hint=error.hint) from error


@lru_cache(4)
def _opened(source: Reopening) -> Parts:
    return Parts(open_source(source.spec, source.inputs, limit=source.limit))
