"""Quantization groups: the nodes that go to integers or stay float together, with what they read and store.

    an operator and the activation that the target computes inside it
    what a rewrite for the target put in place of one node of the prepared graph
    a node, and the reader that the float model computes it in

Groups are the connected components of these relations. They are named by nodes of the prepared graph, since those are
what a new plan is drawn from. A group that only moves codes (MaxPool, Reshape, ...) stores its result with the encoding
of what it reads, so it does no harm of its own; if what it reads is float, it had better be float, too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from qcompiler import ir
from qcompiler.quant import QuantPlan, Site
from qcompiler.search.candidates import Candidate


@dataclass(frozen=True)
class Group:
    """One group.

    Attributes:
        name: of its first node that computes in the plan.
        op: operator of the node that it is named by.
        precision: of the plan, for its nodes.
        planned: its quantized nodes, in the graph of the plan.
        prepared: the nodes of the prepared graph that it computes, empty if the target's rewrites alone made it.
        results: tensors of the planned graph that it hands on.
        moves: it only moves codes.
    """

    name: str
    op: str
    precision: str
    planned: tuple[str, ...]
    prepared: tuple[str, ...]
    results: tuple[str, ...]
    moves: bool


def groups_of(prepared: ir.Model, candidate: Candidate, fused: Mapping[str, str] | None = None) -> tuple[Group, ...]:
    """The groups of a candidate, in the order of its graph.

    Args:
        prepared: the float graph that the candidate was drawn from.
        candidate: with its planned graph.
        fused: for nodes of `prepared`, the node that ONNX Runtime computes them in (`costs.fused`).
    """
    import networkx as nx

    plan, planned = candidate.plan, candidate.planned
    owners = owner_of(prepared, planned)
    quantized = [n for n in planned.nodes if n.name in plan.nodes and plan.nodes[n.name].precision != "float"]
    related = nx.Graph()
    related.add_nodes_from(("planned", node.name) for node in quantized)
    related.add_edges_from((("prepared", name), ("prepared", reader)) for name, reader in (fused or {}).items())
    for node in quantized:
        if owners[node.name]:
            related.add_edge(("planned", node.name), ("prepared", owners[node.name]))
        related.add_edges_from(
            (("planned", node.name), ("planned", reader)) for reader in _absorbed(node, plan, related)
        )
    place = {node.name: number for number, node in enumerate(planned.nodes)}
    before = {node.name: number for number, node in enumerate(prepared.nodes)}
    nodes = {node.name: node for node in [*prepared.nodes, *planned.nodes]}
    found = []
    for component in nx.connected_components(related):
        inside = sorted((name for kind, name in component if kind == "planned"), key=place.__getitem__)
        origin = sorted((name for kind, name in component if kind == "prepared"), key=before.__getitem__)
        if inside:
            found.append(_group(inside, origin, nodes, plan))
    return tuple(sorted(found, key=lambda group: place[group.planned[0]]))


def _absorbed(node: ir.Node, plan: QuantPlan, related: object) -> list[str]:
    """The activation behind a node that computes it inside: a quantized reader of a result that nothing stores."""
    found = []
    for tensor in node.outputs:
        if Site(tensor.name) in plan.sites:
            continue
        found += [
            reader.name
            for reader in tensor.outputs
            if ("planned", reader.name) in related  # type: ignore[operator]
            and not any(Site(tensor.name, reader.name, port) in plan.sites for port in range(len(reader.inputs)))
        ]
    return found


def _group(inside: Sequence[str], origin: Sequence[str], nodes: Mapping[str, ir.Node], plan: QuantPlan) -> Group:
    members = {id(nodes[name]) for name in inside}
    results = [
        tensor
        for name in inside
        for tensor in nodes[name].outputs
        if tensor.name and (any(id(r) not in members for r in tensor.outputs) or not tensor.outputs)
    ]
    stored = [plan.sites[Site(tensor.name)] for tensor in results if Site(tensor.name) in plan.sites]
    weights = any(
        isinstance(tensor, ir.Constant) and Site(tensor.name, name, port) in plan.sites
        for name in inside
        for port, tensor in enumerate(nodes[name].inputs)
    )
    moves = bool(stored) and len(stored) == len(results) and all(s.same_as is not None for s in stored) and not weights
    first = next((name for name in inside if name in set(origin)), origin[0] if origin else inside[0])
    return Group(
        first, nodes[first].op, plan.nodes[inside[0]].precision, tuple(inside), tuple(origin),
        tuple(tensor.name for tensor in results), moves,
    )  # fmt: skip


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


def moved_with(groups: Sequence[Group], planned: ir.Model) -> list[tuple[str, str]]:
    """Pairs (a, b) of groups: b only moves what a computes, so it must be float if a is."""
    makers = {result: group.name for group in groups for result in group.results}
    nodes = {node.name: node for node in planned.nodes}
    return [
        (makers[tensor.name], group.name)
        for group in groups
        if group.moves
        for name in group.planned
        for tensor in nodes[name].inputs
        if makers.get(tensor.name, group.name) != group.name
    ]
