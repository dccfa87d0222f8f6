"""Progress bars on stderr: only on a terminal, and only for work that lasts over a second."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

DELAY = 1.0


class Bar:
    """A context manager; called with a stage, how much of it is done, and how much there is (None if unknown).

    Args:
        enabled: shows nothing if False, whatever stderr is.
        terminal: whether stderr is a terminal; asked of stderr itself if None.
    """

    def __init__(self, enabled: bool = True, *, terminal: bool | None = None) -> None:
        self._on = enabled and (sys.stderr.isatty() if terminal is None else terminal)
        self._lock = threading.Lock()
        self._progress: Progress | None = None
        self._tasks: dict[str, TaskID] = {}
        self._last: tuple[str, int, int | None] | None = None
        self._timer = threading.Timer(DELAY, self._start)
        self._timer.daemon = True

    def __enter__(self) -> Callable[[str, int, int | None], None]:
        if self._on:
            self._timer.start()
        return self.update

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._timer.cancel()
        with self._lock:
            self._on = False
            if self._progress is not None:
                self._progress.stop()

    def update(self, stage: str, done: int, total: int | None) -> None:
        """Shows the state of a stage; a new stage replaces the one before."""
        if not self._on:
            return
        with self._lock:
            self._last = (stage, done, total)
            if self._progress is not None:
                self._draw(self._progress)

    def _start(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
        from rich.progress import TimeRemainingColumn as Remaining
        from rich.table import Column

        with self._lock:
            if not self._on:
                return
            # one line, whatever the terminal: the bar takes what the rest leaves, and words are cut
            word = Column(no_wrap=True, overflow="ellipsis")
            columns = (
                TextColumn("{task.description}", table_column=word), BarColumn(None, table_column=Column(ratio=1)),
                MofNCompleteColumn(table_column=word), TimeElapsedColumn(table_column=word),
                Remaining(compact=True, table_column=word), TextColumn("left", table_column=word),
            )  # fmt: skip
            # slow refresh: latency is measured under it
            self._progress = Progress(
                *columns, console=Console(stderr=True), transient=True, refresh_per_second=2, expand=True
            )
            self._progress.start()
            self._draw(self._progress)

    def _draw(self, progress: Progress) -> None:
        stage, done, total = self._last or ("working", 0, None)
        if stage not in self._tasks:
            for task in self._tasks.values():
                progress.update(task, visible=False)
            self._tasks[stage] = progress.add_task(stage, total=total)
        progress.update(self._tasks[stage], completed=done, total=total, visible=True)
