"""What worker processes are asked in tests, and a real cluster to ask."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from qcompiler.errors import DataError


def add(first: int, second: int = 0) -> int:
    return first + second


def who() -> int:
    return os.getpid()


def refuse(name: str) -> None:
    raise DataError("does not fit", where=name, hint="take another")


def once(mark: str, value: int) -> int:
    """Kills its worker the first time, gives a value the second."""
    if not Path(mark).exists():
        Path(mark).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return value


def always_dies() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def nap(seconds: float) -> int:
    time.sleep(seconds)
    return os.getpid()


def nap_over(seconds: float, value: Any) -> int:
    time.sleep(seconds)
    return len(value)


def identity_of(value: Any) -> tuple[int, int, int]:
    """Which process has the value, whether it is the same object as before, and how much it is."""
    return os.getpid(), id(value), len(value)


@contextmanager
def dask_cluster(folder: Path, workers: int = 2) -> Iterator[tuple[str, list[subprocess.Popen[bytes]]]]:
    """A scheduler and workers, each a process of its own without a nanny; the address, and the workers."""
    contact = folder / "scheduler.json"
    options = ("--scheduler-file", str(contact), "--host", "127.0.0.1", "--port", "0")
    with processes(folder, "scheduler", 1, *options):
        deadline = time.monotonic() + 60
        while not (contact.exists() and contact.read_text().rstrip().endswith("}")) and time.monotonic() < deadline:
            time.sleep(0.05)  # the scheduler writes it bit by bit
        with more_workers(folder, workers) as started:
            yield json.loads(contact.read_text())["address"], started


@contextmanager
def more_workers(folder: Path, number: int = 1) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Workers of one thread, of the cluster in a folder."""
    options = ("--scheduler-file", str(folder / "scheduler.json"), "--local-directory", str(folder))
    with processes(folder, "worker", number, *options, "--nthreads", "1", "--no-nanny") as started:
        yield started


@contextmanager
def processes(folder: Path, kind: str, number: int, *options: str) -> Iterator[list[subprocess.Popen[bytes]]]:
    """So many processes of Dask, killed in the end."""
    there = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    line = [sys.executable, "-m", f"distributed.cli.dask_{kind}", *options, "--no-dashboard"]
    with (folder / f"{kind}.log").open("ab") as log:
        started = [subprocess.Popen(line, stdout=log, stderr=log, cwd=folder, env=there) for _ in range(number)]
        try:
            yield started
        finally:
            for process in started:
                process.kill()
            for process in started:
                process.wait()
