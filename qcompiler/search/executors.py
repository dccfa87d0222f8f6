"""Where the work is done: in this process, in processes of this machine, or by a Dask cluster."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from qcompiler.errors import UsageError
from qcompiler.search.crew import Crew, InProcess, Shared

__all__ = ["Crew", "InProcess", "Shared", "open_executor"]


@contextmanager
def open_executor(workers: int = 0, cluster: str | None = None) -> Iterator[Crew]:
    """Who does the work; sent home when the block ends.

    Args:
        workers: number of processes of this machine; 0 works in this process.
        cluster: address of the scheduler of an existing Dask cluster.

    Raises:
        UsageError: both are given.
        WorkerError: there are no workers.
        MissingExtraError: `distributed` is not installed.
    """
    if workers and cluster:
        raise UsageError("goes with --workers only one at a time", where="--cluster")
    crew: Crew
    if cluster:
        from qcompiler.search.cluster import Cluster

        crew = Cluster(cluster)
    elif workers:
        from qcompiler.search.processes import Processes

        crew = Processes(workers)
    else:
        crew = InProcess()
    with crew:
        yield crew
