"""What a search works with: who does the work, what is known already, and until when."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from qcompiler.analysis import TimingCache
from qcompiler.quant import QuantPlan
from qcompiler.quant.plan_file import plan_to_json
from qcompiler.search.crew import Crew, InProcess
from qcompiler.search.deadline import NEVER, Deadline
from qcompiler.search.executors import open_executor
from qcompiler.search.journal import Journal, trim
from qcompiler.search.shelf import Shelf, open_shelf

NOWHERE = "none"


@dataclass(eq=False)
class Means:
    """See the module.

    Attributes:
        crew: does the work.
        deadline: when nothing new is begun any more.
        cache: of what was timed.
        folder: where journals lie; None for nowhere.
        journal: of evaluations and statistics, in memory until `about` opens it.
        target: that is compiled for, in names of files.
    """

    crew: Crew = field(default_factory=InProcess)
    deadline: Deadline = NEVER
    cache: TimingCache = field(default_factory=TimingCache)
    folder: Path | None = None
    journal: Journal = field(default_factory=Journal)
    target: str = ""
    _open: ExitStack = field(default_factory=ExitStack)

    def shelve(self, output: Path | None, *about: object) -> Shelf:
        """A shelf for finished weights, which is gone when all has gone well; see `open_shelf`."""
        folder = None if self.folder is None else self.folder.with_name("shelves")
        return self._open.enter_context(open_shelf(folder, output, *about))

    def about(self, model: str, target: str = "") -> None:
        """Opens the journal of a model, named by its fingerprint."""
        self.journal, self.target = Journal.open(self.folder, model), target.replace(":", "-")

    def keep_best(self, plan: QuantPlan) -> None:
        """Puts the best plan so far that was verified beside the journal, in place of the one before."""
        self.journal.keep(f"{self.target}.plan.json", plan_to_json(plan).encode())


@contextmanager
def open_means(
    workers: int = 0, cluster: str | None = None, journal: str | None = None, time_budget: float | None = None
) -> Iterator[Means]:
    """What a recipe asks for; workers are sent home when the block ends.

    Args:
        workers, cluster: as for `open_executor`.
        journal: folder of journals and timings; "none" for nowhere; else the cache of this user and machine.
        time_budget: seconds from now.

    Raises:
        UsageError, WorkerError, MissingExtraError: as for `open_executor`.
    """
    cache = TimingCache.default()
    if journal is not None:
        cache = TimingCache(None if journal == NOWHERE else Path(journal))
    folder = None if cache.folder is None else cache.folder / "journal"
    if journal is None:
        trim(folder)
    with open_executor(workers, cluster) as crew, ExitStack() as opened:
        yield Means(crew, Deadline.after(time_budget), cache, folder, _open=opened)
