"""Times of nodes from a device, in a file: they take the place of what this machine can say."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from qcompiler.errors import DataError
from qcompiler.search.costs import Cost, Costs
from qcompiler.search.groups import Group
from qcompiler.search.solver import FLOAT


@dataclass(frozen=True)
class DeviceTimes:
    """What was measured on a device.

    Attributes:
        path: of the file.
        seconds: by node, or by group, and precision.
    """

    path: Path
    seconds: Mapping[str, Mapping[str, float]]


def times_of(path: Path) -> DeviceTimes:
    """Reads a file of times.

    The file is JSON: for nodes, or for groups by name, milliseconds by precision, `float` one of them:
    {"conv1": {"int8": 0.11, "float": 0.24}, ...}.

    Raises:
        DataError: it cannot be read, or is of another form.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        times = {str(k): {str(p): float(ms) / 1e3 for p, ms in v.items()} for k, v in found.items()}
    except (OSError, ValueError, AttributeError, TypeError) as error:
        hint = 'write {"NODE": {"int8": 0.11, "float": 0.24}, ...}, milliseconds'
        raise DataError(f"holds no times: {error}", where=str(path), hint=hint) from error
    if not all(math.isfinite(s) and s >= 0 for entry in times.values() for s in entry.values()):
        raise DataError("holds a time that is negative or no number", where=str(path))
    return DeviceTimes(path, times)


def timed(costs: Costs, measured: DeviceTimes) -> Costs:
    """The costs with times from a device in place of those of this machine; nodes without any keep what they have.

    Raises:
        DataError: they name no node of the model.
    """
    times, path = measured.seconds, measured.path

    def replaced(group: Group, precision: str, before: Cost) -> Cost:
        names = [n for n in dict.fromkeys((group.name, *group.prepared)) if precision in times.get(n, {})]
        return Cost(sum(times[n][precision] for n in names)) if names else before

    known = {name for group in costs.groups for name in (group.name, *group.prepared)}
    if not known & times.keys():
        raise DataError("names no quantized node of the model", where=str(path), hint="qcompile sensitivity lists them")
    return replace(
        costs,
        quantized={g.name: replaced(g, g.precision, costs.quantized[g.name]) for g in costs.groups},
        floating={g.name: replaced(g, FLOAT, costs.floating[g.name]) for g in costs.groups},
        source=f"measured on a device ({path.name})",
    )
