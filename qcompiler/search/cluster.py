"""The workers of an existing Dask cluster: `distributed.Client.get_executor()`.

Shared values are scattered to all workers, under names made from the hash of their content. The scheduler makes a call
again when its worker dies. Sums of floats depend on the runtime's version and on the instructions of the CPU, so a
worker that differs from this machine in them is refused: the same result everywhere, or none.
"""

from __future__ import annotations

import logging
import weakref
from collections import Counter
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from functools import cache, partial
from time import monotonic
from typing import Any, TypeVar, cast

from qcompiler.errors import MissingExtraError, WorkerError
from qcompiler.search.crew import Crew, Shared

T = TypeVar("T")

ANSWER = 10.0
"""Seconds for the scheduler to answer, and for the first worker to come."""
PATIENCE = 60.0
"""Seconds without any worker after which the work is given up."""
PACKAGES = ("qcompiler", "onnxruntime", "onnx", "numpy")


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
        self._address, client = address, cast(Any, distributed.Client)
        try:
            self._client = client(address, timeout=ANSWER, set_as_default=False)
        except (OSError, TimeoutError, ValueError, ImportError) as error:
            hint = "an address is tcp://host:port; dask scheduler prints it"
            raise WorkerError("no Dask scheduler answers", where=f"--cluster {address}", hint=hint) from error
        try:
            self._meet()
        except BaseException:
            self._client.close()
            raise
        self._executor = self._client.get_executor(pure=False)
        self._shared: weakref.WeakValueDictionary[str, Shared] = weakref.WeakValueDictionary()

    def _meet(self) -> None:
        """Waits for a worker, and asks all that are there what they run."""
        try:
            self._client.wait_for_workers(1, timeout=ANSWER)
        except TimeoutError as error:
            hint = f"start some: dask worker {self._address}"
            raise WorkerError("the cluster has no workers", where=f"--cluster {self._address}", hint=hint) from error
        hosts = Counter[str]()
        for worker, threads in self._client.nthreads().items():
            hosts[str(worker).rpartition(":")[0]] += threads
        self.width, self.beside = hosts.total(), max(hosts.values())
        self.ahead = 2 * self.width
        try:
            found = self._client.run(environment)
            self._client.submit(environment, pure=False).result(ANSWER)  # the scheduler takes calls apart, too
        except (ImportError, RuntimeError, TimeoutError) as error:
            hint = "install the same version on the scheduler and on every worker"
            raise WorkerError("qcompiler is missing there", where=f"--cluster {self._address}", hint=hint) from error
        for worker, other in sorted(found.items()):
            check(environment(), other, str(worker))

    def share(self, digest: str, value: object) -> Shared:
        known = self._shared.get(digest)
        if known is None:
            name = f"qcompiler-{digest}"
            known = self._shared[digest] = Shared(digest, self._client.scatter({name: value}, broadcast=True)[name])
        return known

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        outer: Future[T] = Future()
        values = [arg.held if isinstance(arg, Shared) else arg for arg in args]
        inner = self._executor.submit(_do, environment(), fn, *values, **kwargs)
        # the handles are kept until the call is done
        inner.add_done_callback(partial(self._ended, outer, args))
        outer.add_done_callback(lambda future: inner.cancel() if future.cancelled() else None)
        return outer

    def wait(self, future: Future[T]) -> T:
        """The result of a call, or an error once there have been no workers for a while."""
        alone = monotonic()
        while True:
            try:
                return future.result(1.0)
            except TimeoutError:
                if future.done():  # now, or the call itself raised it
                    return future.result()
                alone = monotonic() if self._client.nthreads() else alone
                if monotonic() - alone > PATIENCE:
                    raise self._lost("no worker is left") from None

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Leaves the cluster; calls that are not done are dropped."""
        self._executor.shutdown(wait=False)
        self._client.close()

    def _ended(self, outer: Future[Any], args: tuple[Any, ...], inner: Future[Any]) -> None:
        if outer.cancelled() or not outer.set_running_or_notify_cancel():
            return
        error = CancelledError() if inner.cancelled() else inner.exception()
        if error is None:
            outer.set_result(inner.result())
        elif isinstance(error, CancelledError):
            outer.set_exception(self._lost("the data was lost with the workers that held it"))
        elif type(error).__name__ == "KilledWorker":
            outer.set_exception(self._lost("several workers died at one task"))
        else:
            outer.set_exception(error)

    def _lost(self, what: str) -> WorkerError:
        hint = "what was finished is in the journal: the same command goes on from there"
        return WorkerError(what, where=f"--cluster {self._address}", hint=hint)


def environment() -> dict[str, str]:
    """What the bits of a result depend on."""
    return dict(_environment())


@cache
def _environment() -> tuple[tuple[str, str], ...]:
    from importlib.metadata import version

    from qcompiler.analysis.cpu import cpu_flags

    return (*((name, version(name)) for name in PACKAGES), ("cpu", " ".join(cpu_flags())))


def check(mine: dict[str, str], others: dict[str, str], worker: str) -> None:
    """Raises WorkerError where another machine would give other bits."""
    for name, value in mine.items():
        if others.get(name) != value:
            what = f"has {name} {others.get(name)}, this machine {value}"
            hint = "results must be the same everywhere: use workers like the machine that runs qcompile"
            raise WorkerError(what, where=f"worker {worker}", hint=hint)


def _do(wanted: dict[str, str], function: Callable[..., T], *arguments: Any, **keywords: Any) -> T:
    """One call, on a worker, which may have joined later than the others."""
    import distributed

    check(wanted, environment(), str(distributed.get_worker().address))
    return function(*arguments, **keywords)
