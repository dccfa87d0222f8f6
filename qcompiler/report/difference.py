"""Two plans beside each other: what is computed or stored otherwise, and what that does to the figures.

    node      its precision differs, or only one of the plans has it
    tensor    stored as another type, float in one of them, or the same type with other numbers

Plans come from output folders, their report.json, or plan files; only the first two have figures.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from qcompiler.errors import DataError
from qcompiler.quant import QuantPlan, SitePlan
from qcompiler.quant.plan_file import plan_from_json
from qcompiler.report.read import read_output
from qcompiler.report.record import Report

ABSENT = "absent"


@dataclass(frozen=True)
class Side:
    """One of both: what it was read from, its plan, and the report where there is one."""

    name: str
    plan: QuantPlan
    report: Report | None


@dataclass(frozen=True)
class NodeChange:
    """A node by name, and its precision on each side."""

    name: str
    op: str
    a: str
    b: str


@dataclass(frozen=True)
class TensorChange:
    """A site, and how each side stores it; `ratio` is scale of B over scale of A where only the numbers differ."""

    site: str
    a: str
    b: str
    ratio: float | None = None


@dataclass(frozen=True)
class Difference:
    """See the module; `figures` holds, by name, the values of A and B."""

    a: Side
    b: Side
    nodes: tuple[NodeChange, ...]
    tensors: tuple[TensorChange, ...]
    numbers: tuple[TensorChange, ...]
    figures: Mapping[str, tuple[Any, Any]] = field(default_factory=dict)

    @property
    def same(self) -> bool:
        """Whether both plans say the same."""
        return not (self.nodes or self.tensors or self.numbers)

    def moves(self) -> dict[str, int]:
        """How many nodes went from which precision to which."""
        return dict(Counter(f"{change.a} -> {change.b}" for change in self.nodes).most_common())


def read_side(path: Path) -> Side:
    """A plan, from an output folder, its report.json, or a plan file.

    Raises:
        DataError: it is none of these.
    """
    if path.is_dir() or path.name == "report.json" or not path.exists():
        output = read_output(path)
        return Side(str(path), output.plan, output.report)
    try:
        return Side(str(path), plan_from_json(path.read_text(encoding="utf-8")), None)
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot be read: {error}", where=str(path)) from error
    except DataError as error:
        raise DataError(error.what, where=str(path), hint="give a folder that qcompile wrote, or a plan") from error


def difference(a: Side, b: Side) -> Difference:
    """Everything that differs, in the order of A's plan, then of B's."""
    ops = {node.name: node.op for side in (b, a) if side.report for node in side.report.nodes}
    nodes = []
    for name in {**a.plan.nodes, **b.plan.nodes}:
        one, other = (s.plan.nodes[name].precision if name in s.plan.nodes else ABSENT for s in (a, b))
        if one != other:
            nodes.append(NodeChange(name, ops.get(name, ""), one, other))
    tensors, numbers = [], []
    for site in {**a.plan.sites, **b.plan.sites}:
        first, second = a.plan.sites.get(site), b.plan.sites.get(site)
        one, other = stored(first), stored(second)
        if one != other and {one, other} != {"float", ABSENT}:
            tensors.append(TensorChange(str(site), one, other))
        elif first is not None and second is not None and (ratio := ratio_of(first, second)) is not None:
            numbers.append(TensorChange(str(site), one, other, ratio))
    before, after = figures(a.report), figures(b.report)
    both = {key: (before.get(key), after.get(key)) for key in {**before, **after}}
    return Difference(a, b, tuple(nodes), tuple(tensors), tuple(numbers), both)


def stored(decision: SitePlan | None) -> str:
    """How a site is stored, in words."""
    if decision is None:
        return ABSENT
    if decision.choice is None:
        return "float"
    return str(decision.choice if decision.encoding is None else decision.encoding.spec)


def ratio_of(a: SitePlan, b: SitePlan) -> float | None:
    """How much larger the second scale is (geometric mean), where the numbers differ; None where they are equal."""
    one, other = a.encoding, b.encoding
    if one is None or other is None:
        return None if one is other else 1.0
    if np.array_equal(one.scale, other.scale) and np.array_equal(one.zero_point, other.zero_point):
        return None
    if one.scale.shape != other.scale.shape or not ((one.scale > 0).all() and (other.scale > 0).all()):
        return 1.0
    logs = np.log(other.scale.astype(np.float64)) - np.log(one.scale.astype(np.float64))
    return float(np.exp(logs.mean()))


def figures(report: Report | None) -> dict[str, Any]:
    """What a compile measured, by the names of the table."""
    if report is None:
        return {}
    accuracy, latency = report.accuracy, report.latency
    return {
        "target": ":".join(str(report.target[key]) for key in ("name", "variant") if report.target.get(key)),
        "precision": report.target.get("shipped"),
        "metric": accuracy.metric,
        "float": accuracy.float,
        "quantized": accuracy.quantized,
        "drop": accuracy.drop,
        "drop at most": accuracy.ci_high,
        "verdict": accuracy.verdict,
        "samples": accuracy.samples,
        "latency [ms]": latency.quantized_ms,
        "speed-up": latency.speedup,
        "size [bytes]": report.size.get("quantized_bytes"),
        "integer nodes": report.backend.get("integer_nodes"),
    }


def difference_facts(found: Difference) -> dict[str, Any]:
    """The difference as plain values, for --json."""
    return {
        "a": found.a.name,
        "b": found.b.name,
        "same": found.same,
        "figures": {name: {"a": one, "b": other} for name, (one, other) in found.figures.items()},
        "moves": found.moves(),
        "nodes": [{"name": c.name, "op": c.op, "a": c.a, "b": c.b} for c in found.nodes],
        "tensors": [{"site": c.site, "a": c.a, "b": c.b} for c in found.tensors],
        "numbers": [{"site": c.site, "stored": c.a, "scale_ratio": c.ratio} for c in found.numbers],
    }
