"""The workers of an existing Dask cluster: `distributed.Client.get_executor()`.

Shared values are scattered under names made from the hash of their content, and Dask takes them to the workers that
need them. The scheduler makes a call again when its worker dies. It cannot do so where the only copy of a shared value
died, too (by default it keeps one copy of what no call waits for), so values are kept here, scattered again, and the
call is made anew.

Sums of floats depend on the runtime's version and on the instructions of the CPU, so a worker that differs from this
machine in them is refused: the same result everywhere, or none.
"""

from __future__ import annotations

import logging
import socket
import weakref
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from time import monotonic, sleep
from typing import Any, TypeVar, cast

from qcompiler.errors import MissingExtraError, WorkerError
from qcompiler.search.alike import check, environment
from qcompiler.search.crew import DEATHS, Crew, Shared

T = TypeVar("T")

ANSWER = 10.0
"""Seconds for the scheduler to answer, and for the first worker to come."""
PATIENCE = 60.0
"""Seconds without any worker after which the work is given up."""
LOOK = 0.5
"""Seconds between looks at whether a call is still on its way."""


@dataclass(eq=False)
class _Scattered(Shared):
    """A value, and the future of Dask that stands for it."""

    value: object = None


class Cluster(Crew):
    """See the module.

    Args:
        address: of the scheduler, "tcp://host:port".

    Raises:
        MissingExtraError: `distributed` is not installed.
        WorkerError: nobody answers, or no worker that gives the same results as this machine.
    """

    def __init__(self, address: str) -> None:
        try:
            import distributed
        except ImportError as error:
            raise MissingExtraError(
                "needs the package distributed", where="--cluster", hint='pip install "qcompiler[cluster]"'
            ) from error
        # it logs lost connections, which are reported here in one line or are no fault at all
        logging.getLogger("distributed").setLevel(logging.CRITICAL)
        self._where, client = f"--cluster {address}", cast(Any, distributed.Client)
        try:
            _knock(address)  # a client that finds nobody says so on the terminal when it is collected
            self.client = client(address, timeout=ANSWER, set_as_default=False)
        except (OSError, TimeoutError, ValueError, ImportError) as error:
            hint = "an address is tcp://host:port; dask scheduler prints it"
            raise WorkerError("no Dask scheduler answers", where=self._where, hint=hint) from error
        try:
            self._meet(address)
        except BaseException:
            self.client.close()
            raise
        self._executor = self.client.get_executor(pure=False)
        self._shared: weakref.WeakValueDictionary[str, _Scattered] = weakref.WeakValueDictionary()
        self._alone_since: float | None = None

    def _meet(self, address: str) -> None:
        """Waits for a worker, and asks all that are there what they run."""
        try:
            self.client.wait_for_workers(1, timeout=ANSWER)
        except TimeoutError as error:
            hint = f"start some: dask worker {address}"
            raise WorkerError("the cluster has no workers", where=self._where, hint=hint) from error
        hosts = Counter[str]()
        for worker, threads in self.client.nthreads().items():
            hosts[str(worker).rpartition(":")[0]] += threads
        self.width, self.beside = hosts.total(), max(hosts.values())
        self.ahead = 2 * self.width
        try:
            found = self.client.run(environment)
            self.client.submit(environment, pure=False).result(ANSWER)  # the scheduler takes calls apart, too
        except (ImportError, RuntimeError, TimeoutError) as error:
            hint = "install the same version on the scheduler and on every worker"
            raise WorkerError("qcompiler is missing there", where=self._where, hint=hint) from error
        for worker, other in sorted(found.items()):
            check(environment(), other, str(worker))

    def share(self, digest: str, value: object) -> Shared:
        known = self._shared.get(digest)
        if known is None:
            known = self._shared[digest] = _Scattered(digest, value=value)
            self._scatter(known)
        return known

    def _scatter(self, shared: _Scattered) -> None:
        name = f"qcompiler-{shared.digest}"
        try:
            shared.held = self.client.scatter({name: shared.value}, timeout=PATIENCE)[name]
        except (OSError, TimeoutError) as error:
            raise self.lost("no worker takes the data") from error

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        call = _Call[T](self, fn, args, kwargs)
        call.send(self._executor)
        return call

    def look_after(self, call: _Call[Any]) -> None:
        """Makes a call anew whose shared values were lost.

        Raises:
            WorkerError: they are lost again and again, or there have been no workers for a while.
        """
        scattered = [arg for arg in call.arguments if isinstance(arg, _Scattered)]
        gone = [shared for shared in scattered if shared.held.status in ("cancelled", "lost")]
        if gone or call.dropped:
            call.losses += 1
            if call.losses > DEATHS:
                raise self.lost("the data is lost with the workers that hold it, again and again")
            for shared in gone:
                self._scatter(shared)
            call.send(self._executor)
        if self.client.nthreads():
            self._alone_since = None
        elif self._alone_since is None:
            self._alone_since = monotonic()
        elif monotonic() - self._alone_since > PATIENCE:
            raise self.lost("no worker is left")

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Leaves the cluster; calls that are not done are dropped."""
        self._executor.shutdown(wait=False)
        self.client.close()

    def lost(self, what: str) -> WorkerError:
        """What to raise where the cluster is no longer able to do the work."""
        hint = "what was finished is in the journal: the same command goes on from there"
        return WorkerError(what, where=self._where, hint=hint)


class _Call(Future[T]):
    """A call, and the executor's future for it, which is another one after each loss."""

    def __init__(
        self, cluster: Cluster, function: Callable[..., T], arguments: tuple[Any, ...], keywords: dict[str, Any]
    ) -> None:
        super().__init__()
        self.cluster, self.function, self.arguments, self.keywords = cluster, function, arguments, keywords
        self.losses = 0
        self.dropped = False
        self._inner: Future[T] | None = None

    def send(self, executor: Any) -> None:
        """Has the scheduler make the call."""
        self.dropped = False
        names = tuple(arg.digest if isinstance(arg, Shared) else "" for arg in self.arguments)
        values = [arg.held if isinstance(arg, Shared) else arg for arg in self.arguments]
        before, self._inner = self._inner, executor.submit(
            _do, environment(), names, self.function, *values, **self.keywords
        )  # fmt: skip
        if before is not None:
            before.cancel()
        self._inner.add_done_callback(self._ended)

    def cancel(self) -> bool:
        done = super().cancel()
        if done and self._inner is not None:
            self._inner.cancel()
        return done

    def result(self, timeout: float | None = None) -> T:
        end = None if timeout is None else monotonic() + timeout
        while True:
            try:
                return super().result(LOOK if end is None else max(0.0, min(LOOK, end - monotonic())))
            except TimeoutError:
                if self.done():  # just now, or the call itself raised it
                    return super().result()
                if end is not None and monotonic() >= end:
                    raise
            self.cluster.look_after(self)

    def _ended(self, inner: Future[T]) -> None:
        if inner is not self._inner or self.done():
            return
        if inner.cancelled():
            self.dropped = True
            return
        error = inner.exception()
        if error is None:
            self.set_result(inner.result())
        elif type(error).__name__ == "KilledWorker":
            self.set_exception(self.cluster.lost("several workers died at one task"))
        else:
            self.set_exception(error)


# ---- on a worker
KEPT = 16
"""Shared values that a worker keeps, the last that were used."""
_KEPT: dict[str, Any] = {}


def _do(wanted: dict[str, str], names: tuple[str, ...], function: Callable[..., T], *values: Any, **keywords: Any) -> T:
    """One call; the worker may have joined later than the others.

    Dask may take a value away and bring it again. The first object of each name serves, since sessions belong to it.
    """
    import distributed

    check(wanted, environment(), str(distributed.get_worker().address))
    first = [_first(name, value) if name else value for name, value in zip(names, values, strict=True)]
    return function(*first, **keywords)


def _first(name: str, value: Any) -> Any:
    kept = _KEPT.pop(name, value)
    _KEPT[name] = kept
    while len(_KEPT) > KEPT:
        _KEPT.pop(next(iter(_KEPT)), None)
    return kept


def _knock(address: str) -> None:
    """Waits until something listens at an address.

    Raises:
        ValueError: it is no address.
        OSError: nobody listens.
    """
    from distributed.comm.addressing import get_address_host_port

    host, until = get_address_host_port(address, strict=True), monotonic() + ANSWER
    while True:
        try:
            socket.create_connection(host, timeout=ANSWER).close()
            return
        except ConnectionRefusedError:
            if monotonic() >= until:
                raise
            sleep(0.2)
