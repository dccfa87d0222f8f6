"""Quantization groups: the nodes that go to integers or stay float together, with what they read and store.

    an operator and the activation that the target computes inside it
    what a rewrite for the target put in place of one node of the prepared graph
    a node, and the reader that the float model computes it in

Groups are the connected components of these relations. They are named by nodes of the prepared graph, since those are
what a new plan is drawn from. Where a group may be in one of several precisions, its groups in each of them are one
group wherever they overlap (`aligned`). A group that only moves codes (MaxPool, Reshape, ...) stores its result with
the encoding of what it reads, so it does no harm of its own; if what it reads is float, it had better be float, too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from qcompiler import ir
from qcompiler.quant import QuantPlan, Site
from qcompiler.search.candidates import Candidate
from qcompiler.search.owners import owner_of


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
        passes: values come in or go out quantized; where not, its weights are, or it quantizes as it runs.
    """

    name: str
    op: str
    precision: str
    planned: tuple[str, ...]
    prepared: tuple[str, ...]
    results: tuple[str, ...]
    moves: bool
    passes: bool = True


def groups_of(
    prepared: ir.Model,
    candidate: Candidate,
    fused: Mapping[str, str] | None = None,
    together: Mapping[str, Sequence[str]] | None = None,
) -> tuple[Group, ...]:
    """The groups of a candidate, in the order of its graph.

    Args:
        prepared: the float graph that the candidate was drawn from.
        candidate: with its planned graph.
        fused: for nodes of `prepared`, the node that ONNX Runtime computes them in (`costs.fused`).
        together: nodes of `prepared` that are of one group besides, by what that is called.
    """
    import networkx as nx

    plan, planned = candidate.plan, candidate.planned
    owners = owner_of(prepared, planned)
    quantized = [n for n in planned.nodes if n.name in plan.nodes and plan.nodes[n.name].precision != "float"]
    related = nx.Graph()
    related.add_nodes_from(("planned", node.name) for node in quantized)
    related.add_edges_from((("prepared", name), ("prepared", reader)) for name, reader in (fused or {}).items())
    for names in (together or {}).values():
        related.add_edges_from((("prepared", names[0]), ("prepared", name)) for name in names[1:])
    for node in quantized:
        if owners[node.name]:
            related.add_edge(("planned", node.name), ("prepared", owners[node.name]))
        related.add_edges_from(
            (("planned", node.name), ("planned", reader)) for reader in _absorbed(node, plan, related)
        )
    place = {node.name: number for number, node in enumerate(planned.nodes)}
    before = {node.name: number for number, node in enumerate(prepared.nodes)}
    nodes = {node.name: node for node in [*prepared.nodes, *planned.nodes]}
    called = {node: name for name, names in (together or {}).items() for node in names}
    found = []
    for component in nx.connected_components(related):
        inside = sorted((name for kind, name in component if kind == "planned"), key=place.__getitem__)
        origin = sorted((name for kind, name in component if kind == "prepared"), key=before.__getitem__)
        if inside:
            group = _group(inside, origin, nodes, plan)
            found.append(replace(group, name=called.get(next(iter(origin), ""), group.name)))
    return tuple(sorted(found, key=lambda group: place[group.planned[0]]))


def aligned(every: Iterable[Sequence[Group]]) -> dict[str, tuple[str, ...]]:
    """Nodes of the prepared graph that belong together in any of several candidates, for `groups_of` of each."""
    import networkx as nx

    related, called = nx.Graph(), dict[str, str]()
    for groups in every:
        for group in groups:
            related.add_edges_from((group.prepared[0], name) for name in group.prepared)
            called.update({name: called.get(name, group.name) for name in group.prepared})
    parts = [sorted(names) for names in nx.connected_components(related)]
    return {called[names[0]]: tuple(names) for names in parts}


def _absorbed(node: ir.Node, plan: QuantPlan, related: object) -> list[str]:
    """The activation behind a node that computes it inside: a quantized reader of which nothing else is stored."""
    found = []
    for tensor in node.outputs:
        if Site(tensor.name) in plan.sites:
            continue
        found += [
            reader.name
            for reader in tensor.outputs
            if ("planned", reader.name) in related  # type: ignore[operator]
            and not any(Site(read.name, reader.name, port) in plan.sites for port, read in enumerate(reader.inputs))
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
        tuple(tensor.name for tensor in results), moves, _passes([nodes[name] for name in inside], plan),
    )  # fmt: skip


def _passes(nodes: Sequence[ir.Node], plan: QuantPlan) -> bool:
    """Whether any of some nodes reads or stores a value that is computed in a fixed grid."""
    values = [
        site
        for node in nodes
        for site in (
            *(Site(t.name) for t in [*node.inputs, *node.outputs] if not isinstance(t, ir.Constant)),
            *(Site(t.name, node.name, i) for i, t in enumerate(node.inputs) if not isinstance(t, ir.Constant)),
        )
    ]
    choices = [plan.sites[site].choice for site in values if site in plan.sites]
    return any(choice is not None and not choice.dynamic for choice in choices)


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
