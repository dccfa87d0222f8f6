"""What each group costs in its precision and in float: seconds, measured, or modelled where they cannot be.

Measured: the float and the quantized model are profiled in turns on one sample; the times of a group's nodes are added
up, and the noise of the sum is said beside it. A node of the backend's optimised graph is counted with the node of ours
whose name, or whose result's name, it has. A float node without a time of its own is computed inside its only reader.

What is moved to float is proposed by `placement` and by `solver`, and confirmed by real runs.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from qcompiler import ir
from qcompiler.analysis import NodeTime, Runner, SessionConfig, TimingCache, node_times_each
from qcompiler.analysis.macs import count_macs
from qcompiler.analysis.observe import observed
from qcompiler.search.candidates import Candidate
from qcompiler.search.groups import Group, groups_of, moved_with
from qcompiler.search.owners import owner_of
from qcompiler.search.placement import BOUNDARY_NS, place
from qcompiler.search.solver import FLOAT, Value
from qcompiler.targets import Roofline

Feed = Mapping[str, npt.NDArray[Any]]
Unit = Literal["seconds", "bytes", "bit operations"]
SHOWN: Mapping[Unit, tuple[float, str]] = {
    "seconds": (1e6, "us"),
    "bytes": (1e-3, "kB"),
    "bit operations": (1e-6, "Mbop"),
}


def amount(cost: float, unit: Unit) -> str:
    """A cost for a person."""
    scale, word = SHOWN[unit]
    return f"{scale * cost:.0f} {word}" if scale * cost >= 10 else f"{scale * cost:.2g} {word}"


@dataclass(frozen=True)
class Cost:
    """Seconds of one group in one precision, and their noise (half the distance of quartiles, added as squares).

    Where another thing is the objective, bytes or bit operations take the place of seconds (`objectives`).
    """

    seconds: float
    noise: float = 0.0


@dataclass(frozen=True)
class Costs:
    """What a candidate's groups cost.

    Attributes:
        groups: in the order of the graph.
        quantized, floating: cost by name of the group.
        values: what passes between the nodes of the prepared graph.
        pairs: (a, b): if a is float, b must be float too.
        source: where the figures come from, for a person.
        per_element: seconds to convert one number of a value.
        unit: of the costs.
    """

    groups: tuple[Group, ...]
    quantized: Mapping[str, Cost]
    floating: Mapping[str, Cost]
    values: tuple[Value, ...]
    pairs: tuple[tuple[str, str], ...]
    source: str = "measured"
    per_element: float = BOUNDARY_NS * 1e-9
    unit: Unit = "seconds"

    def said(self, name: str) -> str:
        """Both costs of a group, for a person."""
        first, second = (amount(side[name].seconds, self.unit) for side in (self.quantized, self.floating))
        return f"{first}, {second} in float"

    @property
    def scale(self) -> float:
        """What turns seconds into microseconds; 1 for other units."""
        return 1e6 if self.unit == "seconds" else 1.0

    @property
    def passed(self) -> tuple[Value, ...]:
        """What passes between the groups."""
        return between(self.values, owners_in(self.groups))

    @property
    def movable(self) -> tuple[Group, ...]:
        """The groups that may be float: those that stand for nodes of the prepared graph."""
        return tuple(group for group in self.groups if group.prepared)


def measured(
    prepared: ir.Model,
    candidate: Candidate,
    feed: Feed,
    origin: Callable[[str], str],
    config: SessionConfig,
    cache: TimingCache,
    together: Mapping[str, Sequence[str]] | None = None,
) -> Costs:
    """The costs of a candidate on this machine.

    Args:
        prepared: the float model.
        candidate: the quantized one.
        feed: one sample.
        origin: our node's name for a name in the backend's optimised graph.
        config: session settings of both.
        cache: of the profiles.
        together: as in `groups_of`.
    """
    models = {"float": prepared, "quantized": candidate.model}
    times = node_times_each(models, feed, config=config, cache=cache)
    floating = by_node(times["float"], prepared, origin)
    quantized = by_node(times["quantized"], candidate.planned, origin)
    groups, values = groups_of(prepared, candidate, fused(prepared, floating), together), values_of(prepared, feed)
    return Costs(
        groups,
        {group.name: total(quantized, (*group.planned, *group.prepared)) for group in groups},
        {group.name: total(floating, group.prepared) for group in groups},
        tuple(values),
        tuple(moved_with(groups, candidate.planned)),
    )


def modelled(
    prepared: ir.Model,
    candidate: Candidate,
    feed: Feed,
    roofline: Roofline,
    together: Mapping[str, Sequence[str]] | None = None,
) -> Costs:
    """The costs of a candidate by its target's roofline, on inputs of the shapes of `feed`; `together` as elsewhere."""
    groups = groups_of(prepared, candidate, together=together)
    macs = count_macs(prepared).nodes
    values = values_of(prepared, feed)
    moved: dict[str, int] = defaultdict(int)
    for value in values:
        for name in {value.producer, *value.readers} - {""}:
            moved[name] += value.elements
    nodes = {node.name: node for node in prepared.nodes}
    bits = {site.tensor: plan.choice.qtype.bits for site, plan in candidate.plan.quantized() if plan.choice}
    owners = owner_of(prepared, candidate.planned)

    def seconds(group: Group, *, quantized: bool) -> Cost:
        total = 0.0
        here = {owners[name]: candidate.plan.nodes[name].precision for name in group.planned} if quantized else {}
        for name in group.prepared:
            precision = here.get(name, FLOAT)
            stored = [t for t in nodes[name].inputs if isinstance(t, ir.Constant)]
            weights = sum(math.prod(t.shape) for t in stored)
            width = max((bits.get(t.name, 0) for t in stored), default=0) if precision != FLOAT else 0
            width = width or roofline.bits["float"]
            total += roofline.seconds(precision, macs.get(name, 0), moved[name], weights, width)
        return Cost(total)

    return Costs(
        groups,
        {group.name: seconds(group, quantized=True) for group in groups},
        {group.name: seconds(group, quantized=False) for group in groups},
        tuple(values),
        tuple(moved_with(groups, candidate.planned)),
        f"modelled by a roofline, not measured ({roofline.source})",
        roofline.conversion(),
    )


def unprofitable(costs: Costs, boundaries: Sequence[float]) -> list[dict[str, str]]:
    """Sets of nodes of the prepared graph that had better stay float, each node with the reason.

    Args:
        costs: of the quantized model.
        boundaries: costs of a boundary to reckon with, in ns per element; one set for each.

    Returns:
        The different sets that are not empty and leave something quantized.
    """
    movable = {group.name: group for group in costs.movable}
    integer = {name: costs.quantized[name].seconds for name in movable}
    floating = {name: costs.floating[name].seconds for name in movable}
    sets = {place(integer, floating, costs.passed, costs.pairs, boundary): None for boundary in boundaries}

    def reason(name: str) -> str:
        return f"does not pay in {movable[name].precision} ({costs.said(name)})"

    useful = (moved for moved in sets if moved and len(moved) < len(movable))
    return [{node: reason(name) for name in movable if name in moved for node in movable[name].prepared}
            for moved in useful]  # fmt: skip


def by_node(times: Mapping[str, NodeTime], named: ir.Model, origin: Callable[[str], str]) -> dict[str, Cost]:
    """Times by name of the node in `named`; the backend calls nodes by their name or by that of their result."""
    makers = {tensor.name: node.name for node in named.nodes for tensor in node.outputs if tensor.name}
    found: dict[str, list[NodeTime]] = defaultdict(list)
    for raw, time in times.items():
        name = origin(raw)
        found[makers.get(name, name)].append(time)
    return {
        name: Cost(sum(time.seconds for time in parts), math.hypot(*(time.noise for time in parts)))
        for name, parts in found.items()
    }


def total(times: Mapping[str, Cost], names: Sequence[str]) -> Cost:
    """The times of some nodes together, each counted once."""
    parts = [times[name] for name in dict.fromkeys(names) if name in times]
    return Cost(sum(part.seconds for part in parts), math.hypot(*(part.noise for part in parts)))


def fused(prepared: ir.Model, times: Mapping[str, Cost]) -> dict[str, str]:
    """The nodes that take no time of their own and have one reader, each with that reader: it computes them."""
    found: dict[str, str] = {}
    for node in prepared.nodes:
        readers = {user.name for tensor in node.outputs for user in tensor.outputs}
        if node.name not in times and len(readers) == 1:
            found[node.name] = next(iter(readers))
    return found


def owners_in(groups: Iterable[Group]) -> dict[str, str]:
    """The group of each node of the prepared graph that has one."""
    return {node: group.name for group in groups for node in group.prepared}


def between(values: Iterable[Value], owners: Mapping[str, str]) -> tuple[Value, ...]:
    """The values that nodes hand each other as values that groups do; nodes without a group are "", which is float."""
    return tuple(
        Value(owners.get(v.producer, ""), tuple(dict.fromkeys(owners.get(r, "") for r in v.readers)), v.elements)
        for v in values
    )


def values_of(prepared: ir.Model, feed: Feed) -> list[Value]:
    """Every float value that the nodes of the main graph hand each other, with its size on this sample."""
    tensors = {t.name: t for node in prepared.nodes for t in node.inputs if t.name and not isinstance(t, ir.Constant)}
    floats = {name: t for name, t in tensors.items() if t.dtype is not None and np.dtype(t.dtype) == np.float32}
    seen = observed(prepared, floats, show="shape")
    shown = [output for name, output in seen.outputs.items() if name not in feed]
    shapes = Runner(seen.payload, outputs=shown).run(feed) if shown else {}
    values = []
    for name, tensor in floats.items():
        shape = feed[name].shape if name in feed else shapes.get(seen.outputs.get(name, ""))
        if shape is not None:
            producer = tensor.inputs[0].name if tensor.inputs else ""
            readers = tuple(dict.fromkeys(user.name for user in tensor.outputs))
            values.append(Value(producer, readers, int(np.prod(shape, dtype=np.int64))))
    return values
