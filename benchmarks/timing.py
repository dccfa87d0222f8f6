"""Times models against each other as `qcompile bench` does, with threads kept on their CPUs.

For one thread the process stays on one CPU, so that the scheduler moves nothing in the middle of a run; for more it may
use all that it was given. Blocks alternate between the models (`qcompiler.analysis.latency`).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from qcompiler.analysis import Runner, SessionConfig, measure, speedup

Feed = dict[str, np.ndarray]
Figures = dict[str, float]


@contextmanager
def pinned(threads: int) -> Iterator[str]:
    """Keeps the process on its last CPU while one thread is measured; says what was done."""
    if threads != 1 or not hasattr(os, "sched_setaffinity"):
        yield "not pinned"
        return
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(allowed)})
    try:
        yield f"pinned to CPU {max(allowed)}"
    finally:
        os.sched_setaffinity(0, allowed)


def latencies(
    models: Mapping[str, tuple[Path, SessionConfig]], feeds: Sequence[Feed], threads: int, seconds: float
) -> dict[str, Figures]:
    """Times of each model, and its speed over the first.

    Args:
        models: file and session by name; the threads of the session do not count.
        feeds: taken in turn.
        threads: of every session.
        seconds: time for each model, about.

    Returns:
        By name `min_ms`, `median_ms`, `spread` (half the distance of the quartiles of the block medians, relative),
        `speedup` and its `noise`, and `speedup_of_min`, which other processes disturb least.
    """
    with pinned(threads):
        runners = {name: Runner(path, replace(config, threads=threads)) for name, (path, config) in models.items()}
        timings = measure(runners, feeds, seconds=seconds)
    first = next(iter(timings.values()))
    found: dict[str, Figures] = {}
    for name, timing in timings.items():
        gain = speedup(first, timing)
        figures: dict[str, Any] = {
            "min_ms": timing.min_ms, "median_ms": timing.median_ms, "spread": timing.spread,
            "speedup": gain.ratio, "noise": gain.noise, "speedup_of_min": first.min_ms / timing.min_ms,
        }  # fmt: skip
        found[name] = {key: round(float(value), 4) for key, value in figures.items()}
    return found
