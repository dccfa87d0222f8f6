"""Takes back to float what does not pay: per-node times of the float and the quantized model, then the cheapest cut.

Both models are profiled on one sample. A node that a rewrite for the target put in place of others is counted with the
node of the prepared graph whose result it computes, and a node that the float model computes inside its only reader is
one with that reader, so that both sides speak of the same groups of nodes. `placement` then finds the split of least
predicted time, conversions between the sides included.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from qcompiler import ir
from qcompiler.analysis import Runner, SessionConfig, TimingCache, node_times
from qcompiler.analysis.observe import observed
from qcompiler.search.candidates import Candidate
from qcompiler.search.placement import Value, place

Feed = Mapping[str, npt.NDArray[Any]]


def unprofitable(
    prepared: ir.Model,
    candidate: Candidate,
    feed: Feed,
    origin: Callable[[str], str],
    config: SessionConfig,
    boundaries: Sequence[float],
    cache: TimingCache,
) -> list[dict[str, str]]:
    """Sets of nodes of the prepared graph that had better stay float, each node with the reason.

    Args:
        prepared: the float model.
        candidate: the quantized one.
        feed: one sample.
        origin: our node's name for a name in the backend's optimised graph.
        config: session settings of both.
        boundaries: costs of a boundary to reckon with, in ns per element; one set for each.
        cache: of the profiles.

    Returns:
        The different sets that are not empty and leave something quantized.
    """
    floating = node_times_of(prepared, prepared, feed, origin, config, cache)
    groups = fused(prepared, floating)
    owners = {name: groups.get(owner, "") for name, owner in owner_of(prepared, candidate.planned).items()}
    integer = added(node_times_of(candidate.model, candidate.planned, feed, origin, config, cache), owners)
    floating = added(floating, groups)
    planned = (name for name, plan in candidate.plan.nodes.items() if plan.precision != "float")
    times = {name: integer.get(name, 0.0) for name in sorted({owners.get(name, "") for name in planned} - {""})}
    pools = [
        (groups[node.inputs[0].inputs[0].name], groups[node.name])
        for node in prepared.nodes
        if node.op == "MaxPool" and node.inputs[0].inputs
    ]
    values = values_of(prepared, feed, groups)
    sets = {place(times, floating, values, pools, boundary): None for boundary in boundaries}

    def reason(group: str) -> str:
        micro = 1e6 * times[group], 1e6 * floating.get(group, 0.0)
        return f"does not pay in integers ({micro[0]:.0f} us, {micro[1]:.0f} us in float)"

    useful = (moved for moved in sets if moved and len(moved) < len(times))
    return [{name: reason(group) for name, group in groups.items() if group in moved} for moved in useful]


def node_times_of(
    model: ir.Model,
    named: ir.Model,
    feed: Feed,
    origin: Callable[[str], str],
    config: SessionConfig,
    cache: TimingCache,
) -> dict[str, float]:
    """Seconds by name of the node in `named`; the backend calls nodes by their name or by that of their result."""
    makers = {tensor.name: node.name for node in named.nodes for tensor in node.outputs if tensor.name}
    found: dict[str, float] = defaultdict(float)
    for raw, time in node_times(model, feed, config=config, cache=cache).items():
        name = origin(raw)
        found[makers.get(name, name)] += time.seconds
    return dict(found)


def fused(prepared: ir.Model, times: Mapping[str, float]) -> dict[str, str]:
    """For each node the one it is computed in: itself, or, if it takes no time of its own, that of its only reader."""
    group: dict[str, str] = {}
    for node in reversed(prepared.nodes):
        readers = {user.name for tensor in node.outputs for user in tensor.outputs}
        inside = node.name not in times and len(readers) == 1
        group[node.name] = group.get(next(iter(readers)), node.name) if inside else node.name
    return group


def owner_of(prepared: ir.Model, planned: ir.Model) -> dict[str, str]:
    """For each node of the planned graph the node of the prepared graph that it works for; "" where there is none.

    A node of the same name is its own owner. Another one works for whoever computes, in the prepared graph, the first
    known tensor downstream of it.
    """
    makers = {tensor.name: node.name for node in prepared.nodes for tensor in node.outputs if tensor.name}
    known = {node.name for node in prepared.nodes}
    owners: dict[str, str] = {}
    for node in reversed(planned.nodes):
        if node.name in known:
            owners[node.name] = node.name
            continue
        made = [makers[tensor.name] for tensor in node.outputs if tensor.name in makers]
        downstream = [owners[user.name] for tensor in node.outputs for user in tensor.outputs if user.name in owners]
        owners[node.name] = next(iter([*made, *downstream]), "")
    return owners


def added(times: Mapping[str, float], owners: Mapping[str, str]) -> dict[str, float]:
    """Times added up by owner; nodes that only the backend knows are left out."""
    found: dict[str, float] = defaultdict(float)
    for name, seconds in times.items():
        found[owners.get(name, "")] += seconds
    found.pop("", None)
    return dict(found)


def values_of(prepared: ir.Model, feed: Feed, groups: Mapping[str, str]) -> list[Value]:
    """Every float value of the main graph that passes between groups, with its size on this sample."""
    tensors = {t.name: t for node in prepared.nodes for t in node.inputs if t.name and not isinstance(t, ir.Constant)}
    floats = {name: t for name, t in tensors.items() if t.dtype is not None and np.dtype(t.dtype) == np.float32}
    seen = observed(prepared, floats, show="shape")
    shapes = Runner(seen.payload, outputs=[o for n, o in seen.outputs.items() if n not in feed]).run(feed)
    values = []
    for name, tensor in floats.items():
        shape = feed[name].shape if name in feed else shapes.get(seen.outputs.get(name, ""))
        if shape is not None:
            producer = groups.get(tensor.inputs[0].name, "") if tensor.inputs else ""
            readers = tuple(dict.fromkeys(groups.get(user.name, "") for user in tensor.outputs))
            values.append(Value(producer, readers, int(np.prod(shape, dtype=np.int64))))
    return values
