"""Worker processes on this machine: `concurrent.futures.ProcessPoolExecutor`, one for each worker.

A pool breaks as a whole when one of its processes dies. With one process in each, the call that it was at is known, and
is made again by another, and no other worker loses what it has loaded. Processes are spawned, never forked: the runtime
has threads, which do not survive a fork.

Shared values lie in a folder, one pickle each, and are loaded by the workers that need them. Every worker watches a
pipe whose other end is here: it ends, and removes the folder, as soon as this process is gone, however that came about.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import shutil
import signal
import tempfile
import threading
import weakref
from collections import deque
from collections.abc import Callable
from concurrent.futures import CancelledError, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, TypeVar

from qcompiler.errors import WorkerError
from qcompiler.search.crew import DEATHS, Crew, Shared

T = TypeVar("T")


@dataclass(eq=False)
class _Call:
    """A call, and how many workers died over it."""

    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    keywords: dict[str, Any]
    future: Future[Any] = field(default_factory=Future)
    deaths: int = 0


class Processes(Crew):
    """See the module.

    Args:
        workers: number of processes.

    Raises:
        WorkerError: there is no place for shared values.
    """

    def __init__(self, workers: int) -> None:
        self.width, self.beside, self.ahead = workers, workers, 2 * workers
        try:
            self._folder = Path(tempfile.mkdtemp(prefix="qcompiler-workers-"))
        except OSError as error:
            raise WorkerError(f"no temporary folder can be made: {error.strerror}", where="--workers") from error
        self._context = get_context("spawn")
        self._watched, self._lifeline = self._context.Pipe(duplex=False)
        self._shared: weakref.WeakValueDictionary[str, Shared] = weakref.WeakValueDictionary()
        self._numbers = count()
        self._lock = threading.RLock()
        self._closed = False
        self._calls: deque[_Call] = deque()
        self._pools = {self._pool() for _ in range(workers)}
        self._idle = deque(self._pools)

    def share(self, digest: str, value: object) -> Shared:
        known = self._shared.get(digest)
        if known is not None:
            return known
        # a name is not used twice: the file of an earlier handle may be on its way out
        name = f"{digest}-{next(self._numbers)}"
        path = self._folder / name
        try:
            with path.open("wb") as file:
                pickle.dump(value, file, pickle.HIGHEST_PROTOCOL)
        except OSError as error:
            raise WorkerError(f"cannot be written: {error.strerror}", where=str(path)) from error
        made = self._shared[digest] = Shared(digest, name)
        weakref.finalize(made, path.unlink, missing_ok=True)
        return made

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        call = _Call(fn, args, kwargs)
        with self._lock:
            if self._closed:
                raise RuntimeError("the workers were sent home")
            self._calls.append(call)
            self._assign()
        return call.future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Ends the workers at once; calls that are not done are dropped."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            pools, calls = list(self._pools), list(self._calls)
            self._calls.clear()
        for call in calls:
            call.future.cancel()
        self._lifeline.close()
        for pool in pools:
            pool.shutdown(wait=wait, cancel_futures=True)
        self._watched.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _pool(self) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(1, self._context, _begin, (self._watched, self._folder))

    def _assign(self) -> None:
        """Gives waiting calls to idle workers."""
        with self._lock:
            while self._idle and self._calls and not self._closed:
                call = self._calls.popleft()
                if not call.deaths and not call.future.set_running_or_notify_cancel():
                    continue
                pool = self._idle.popleft()
                held = frozenset(handle.held for handle in self._shared.values())
                names = tuple(_Name(arg.held) if isinstance(arg, Shared) else arg for arg in call.arguments)
                try:
                    inner = pool.submit(_do, held, call.function, names, call.keywords)
                except BrokenProcessPool as error:  # it died while idle
                    inner = Future()
                    inner.set_exception(error)
                inner.add_done_callback(partial(self._ended, call, pool))

    def _ended(self, call: _Call, pool: ProcessPoolExecutor, inner: Future[Any]) -> None:
        """Takes a worker back, or another in its place, and settles the call or puts it first in the row."""
        error = CancelledError() if inner.cancelled() else inner.exception()
        died = isinstance(error, BrokenProcessPool)
        with self._lock:
            if died and not self._closed:
                pool.shutdown(wait=False)
                self._pools.discard(pool)
                pool = self._pool()
                self._pools.add(pool)
                call.deaths += 1
            self._idle.append(pool)
            again = died and not self._closed and call.deaths < DEATHS
            if again:
                self._calls.appendleft(call)
        if died and not again:
            hint = "is there enough memory for so many --workers? A script needs if __name__ == '__main__':"
            given_up = WorkerError(f"{DEATHS} died at one task", where="workers", hint=hint)
            error = CancelledError() if self._closed else given_up
        if not again:
            if error is None:
                call.future.set_result(inner.result())
            else:
                call.future.set_exception(error)
        self._assign()


# ---- inside a worker
@dataclass(frozen=True)
class _Name:
    """A shared value, on its way to a worker: the name of its file."""

    name: str


_LOADED: dict[str, Any] = {}
_FOLDER: list[Path] = []


def _begin(watched: Connection, folder: Path) -> None:
    """Interrupts are for the process that holds the other end of the pipe; its end is the worker's."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _FOLDER.append(folder)
    threading.Thread(target=_watch, args=(watched, folder), daemon=True).start()


def _watch(pipe: Connection, folder: Path) -> None:
    with contextlib.suppress(EOFError, OSError):
        pipe.recv_bytes()
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(0)


def _do(held: frozenset[str], function: Callable[..., T], arguments: tuple[Any, ...], keywords: dict[str, Any]) -> T:
    """One call; shared values that nobody holds any more are let go."""
    for name in _LOADED.keys() - held:
        del _LOADED[name]
    return function(*(_load(arg.name) if isinstance(arg, _Name) else arg for arg in arguments), **keywords)


def _load(name: str) -> Any:
    if name not in _LOADED:
        with (_FOLDER[0] / name).open("rb") as file:
            _LOADED[name] = pickle.load(file)
    return _LOADED[name]
