"""Whether there is the memory that a compile on disk by data takes, asked before it is taken.

weights     the largest matrix product in float32, as it is handed over and computed
moments     of the widest value H and A, two for the factor of H, and a sample's share; not at the same time
fixed       the process, rows that are rounded at once, activations of a sample
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from pathlib import Path

from qcompiler import ir
from qcompiler.errors import UsageError
from qcompiler.search.in_turn import Turn

MIB = 1 << 20
COPIES, MATRICES, FIXED = 2.5, 4.5, 896 * MIB


def needed(model: ir.Model, turns: Iterable[Turn], widest: int) -> int:
    """Bytes that calibrating the layers of a model takes; moments are kept of values up to `widest`."""
    read = {id(t): t for node in model.nodes if node.op != "Gather" for t in node.inputs if isinstance(t, ir.Constant)}
    largest = max((math.prod(map(int, t.shape)) for t in read.values()), default=0)
    width = max((turn.width for turn in turns if turn.width <= widest), default=0)
    return int(max(COPIES * 4 * largest, MATRICES * 8 * width**2)) + FIXED


def available() -> int | None:
    """Bytes that this process may still take; None where the system does not say."""
    lines = [line.split() for line in _text("/proc/meminfo").splitlines()]
    found = [int(line[1]) << 10 for line in lines if line[0] == "MemAvailable:"]
    limit, used = (_text(f"/sys/fs/cgroup/memory.{name}").strip() for name in ("max", "current"))
    if limit.isdigit() and used.isdigit():
        stat = dict(line.split() for line in _text("/sys/fs/cgroup/memory.stat").splitlines())
        found.append(int(limit) - int(used) + int(stat.get("inactive_file", 0)))
    return min(found, default=None)


def check(need: int) -> None:
    """Refuses what there is no memory for.

    Raises:
        UsageError: saying how much is needed and how much there is.
    """
    there = available()
    if there is not None and need > there:
        said = f"calibrating takes about {need / MIB:.0f} MiB of memory, and {there / MIB:.0f} are free"
        raise UsageError(said, where="--data", hint="free some, or leave --data out: weights alone take little")


def _text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="ascii") if os.name == "posix" else ""
    except OSError:
        return ""
