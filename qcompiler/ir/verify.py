"""Invariants that hold between any two passes; linear in the size of the graph, since it runs after each of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import onnx_graphsurgeon as gs

from qcompiler.errors import VerifyError
from qcompiler.ir.dag import subgraphs, topological
from qcompiler.ir.exporter import declared
from qcompiler.ir.model import Model


def verify(model: Model) -> None:
    """Checks names, producers, consumer lists, scopes, and that there is no cycle.

    Raises:
        VerifyError: naming the node or tensor that breaks an invariant.
        ModelError: a cycle.
    """
    graphs = list(model.graphs())
    _check_names(graphs)
    _check_consumers([node for graph in graphs for node in graph.nodes])
    _check_scope(model.graph, set())
    for graph in graphs:
        topological(graph)


def _check_names(graphs: list[gs.Graph]) -> None:
    """Names of nodes and of tensors are unique in the whole model, and so no node is listed twice."""
    nodes: set[str] = set()
    tensors: dict[str, gs.Tensor] = {}
    for graph in graphs:
        for node in graph.nodes:
            if not node.name or node.name in nodes:
                raise VerifyError("node name is empty or used twice", where=repr(node.name))
            nodes.add(node.name)
            for tensor in [*node.inputs, *node.outputs]:
                _check_name(tensor, tensors)
        for tensor in [*graph.inputs, *graph.outputs, *declared(graph)]:
            if not tensor.name:
                raise VerifyError("input, output or constant has no name", where=graph.name)
            _check_name(tensor, tensors)


def _check_name(tensor: gs.Tensor, tensors: dict[str, gs.Tensor]) -> None:
    if tensor.name and tensors.setdefault(tensor.name, tensor) is not tensor:
        raise VerifyError("two tensors share this name", where=tensor.name)


def _check_consumers(nodes: list[gs.Node]) -> None:
    """What nodes say of tensors is what tensors say of nodes."""
    listed: Counter[tuple[int, int]] = Counter()
    reads: Counter[tuple[int, int]] = Counter()
    seen: dict[int, gs.Tensor] = {}
    names: dict[int, str] = {}
    for node in nodes:
        names[id(node)] = node.name
        for tensor in node.inputs:
            if tensor.name:
                reads[id(tensor), id(node)] += 1
                seen[id(tensor)] = tensor
        for tensor in node.outputs:
            if not tensor.name:
                continue
            seen[id(tensor)] = tensor
            if len(tensor.inputs) != 1 or tensor.inputs[0] is not node or isinstance(tensor, gs.Constant):
                raise VerifyError(f"output {tensor.name!r} has {len(tensor.inputs)} producers", where=node.name)
    for tensor in seen.values():
        listed.update((id(tensor), id(node)) for node in tensor.outputs)
    for key in [*reads, *listed]:
        if reads[key] != listed[key]:
            tensor = seen[key[0]]
            raise VerifyError(
                f"consumer list of {tensor.name!r} disagrees with the node", where=names.get(key[1], "a node not in it")
            )


def _check_scope(graph: gs.Graph, outer: set[int]) -> None:
    """What a graph reads and gives exists in it or around it."""
    own = set(map(id, [*graph.inputs, *declared(graph)]))
    own.update(id(tensor) for node in graph.nodes for tensor in node.outputs)
    visible = own | outer if outer else own
    for node in graph.nodes:
        _check_visible(node.inputs, visible, node.name)
        for subgraph in subgraphs(node):
            _check_scope(subgraph, visible)
    for output in graph.outputs:
        if id(output) not in own:
            raise VerifyError("graph output has no producer", where=output.name)


def _check_visible(tensors: Iterable[gs.Tensor], visible: set[int], where: str) -> None:
    for tensor in tensors:
        if tensor.name and id(tensor) not in visible:
            raise VerifyError(f"input {tensor.name!r} has no producer", where=where)
