"""Collects statistics by any crew: the samples in as many runs of shards as there are workers, merged in their order.

Everything that statistics hold is a count or an extreme (see `analysis.stats`), so merging is exact: the file has the
same bytes as that of one process. A journal keeps statistics whole, under the fingerprints of the model and the data.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

from qcompiler import ir
from qcompiler._version import __version__
from qcompiler.analysis import Kind, Payload, SessionConfig, Stats, collect, fingerprint
from qcompiler.analysis.cpu import cpu_flags
from qcompiler.analysis.stats_file import to_bytes
from qcompiler.data import Sample
from qcompiler.data.shards import Shard
from qcompiler.errors import QCompilerError
from qcompiler.search.crew import Crew, InProcess
from qcompiler.search.feeding import Feeding, UnseenError, samples_of
from qcompiler.search.journal import Journal, content_key
from qcompiler.search.served import Served

Tell = Callable[[int, "int | None"], None]
Wanted = Mapping[str, Iterable[Kind]]

RUNS = 2
"""Runs of shards for each worker, so that none waits long for the last."""
LONGEST = 32
"""Shards of a run at most, so that its samples fit into memory."""


def calibrated(
    model: ir.Model,
    source: Iterable[Sample],
    wanted: Wanted,
    *,
    memory_budget: int,
    crew: Crew | None = None,
    journal: Journal | None = None,
    tell: Tell | None = None,
    config: SessionConfig | None = None,
) -> Stats:
    """The statistics of `wanted` tensors over all samples, as `analysis.collect` gives them.

    Args:
        model, source, wanted, config: as for `collect`.
        memory_budget: bytes for observed values and their statistics, on one machine.
        crew: does the work.
        journal: keeps the result.
        tell: called with the number of samples done, and how many there are.

    Raises:
        DataError, ModelError: as for `collect`.
        WorkerError: the crew cannot do the work.
    """
    crew, config = crew or InProcess(), config or SessionConfig()
    name = _name(model, source, wanted, config) if journal is not None and journal.file is not None else ""
    if journal is not None and name and (known := _kept(journal, name, model)) is not None:
        return known
    if isinstance(crew, InProcess):
        found = collect(model, source, wanted, memory_budget=memory_budget, progress=tell, config=config)
    else:
        found = _shared_out(model, source, wanted, memory_budget, crew, config, tell)
    if journal is not None and name:
        journal.keep(name, to_bytes(found))
    return found


def _shared_out(
    model: ir.Model,
    source: Iterable[Sample],
    wanted: Wanted,
    memory_budget: int,
    crew: Crew,
    config: SessionConfig,
    tell: Tell | None,
) -> Stats:
    feeding = Feeding(source, crew)
    shards = list(feeding.shards)
    runs = in_runs(shards, max(RUNS * crew.width, -(-len(shards) // LONGEST)))
    payload = Payload.of(model)
    handle = crew.share(payload.digest, Served(payload, config, payload.digest))
    kinds = {name: tuple(some) for name, some in wanted.items()}
    budget = memory_budget // crew.beside

    def calls(some: Iterable[Sequence[Shard]]) -> Iterable[tuple[Any, ...]]:
        return ((kinds, budget, handle, *(feeding.part(shard) for shard in run)) for run in some)

    found, total = list[Stats](), runs[-1][-1].stop if runs else 0
    while len(found) < len(runs):
        try:
            for stats in crew.ordered(observed, calls(runs[len(found) :])):
                found.append(stats)
                if tell is not None:
                    tell(runs[len(found) - 1][-1].stop, total)
        except UnseenError:
            feeding.hand_out()
    if not found:
        return collect(model, [], wanted, config=config)  # which says that there are no samples
    return reduce(Stats.merge, found)


def observed(kinds: Wanted, budget: int, model: Served, *parts: Any) -> Stats:
    """The statistics of some shards: what a worker does."""
    graph = model.payload.model()
    return collect(graph, _Joined(parts), kinds, memory_budget=budget, config=model.config)


@dataclass(frozen=True)
class _Joined:
    """The samples of several parts, read anew each time."""

    parts: Sequence[Any]

    def __iter__(self) -> Iterator[Sample]:
        for part in self.parts:
            yield from samples_of(part)


def in_runs(shards: Sequence[Shard], number: int) -> list[list[Shard]]:
    """At most `number` runs of shards, none empty, of about as many samples each."""
    runs: list[list[Shard]] = []
    samples = shards[-1].stop if shards else 0
    for shard in shards:
        if not runs or (runs[-1][-1].stop * number >= samples * len(runs)):
            runs.append([])
        runs[-1].append(shard)
    return runs


def _name(model: ir.Model, source: Iterable[Sample], wanted: Wanted, config: SessionConfig) -> str:
    """The name of the file that statistics are kept in; "" where the data cannot be told from other data."""
    import onnxruntime

    content = getattr(source, "fingerprint", None)
    if content is None:
        return ""
    kinds = sorted((name, sorted(map(repr, some))) for name, some in wanted.items())
    versions = (__version__, onnxruntime.__version__, *cpu_flags())
    return f"{content_key(*versions, fingerprint(model), content(), kinds, config)[:32]}.stats.npz"


def _kept(journal: Journal, name: str, model: ir.Model) -> Stats | None:
    try:
        return Stats.load(journal.kept(name), fingerprint(model))
    except QCompilerError:
        return None  # not there, or damaged
