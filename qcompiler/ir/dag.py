"""networkx views of a graph: for questions, thrown away after the answer."""

from __future__ import annotations

import heapq

import networkx as nx
import onnx_graphsurgeon as gs

from qcompiler.errors import ModelError


def reads(node: gs.Node) -> list[gs.Tensor]:
    """Every tensor that a node needs: its inputs, and what its subgraphs capture from outside."""
    found = list(node.inputs)
    for subgraph in node.subgraphs():
        for inner in subgraph.nodes:
            found += reads(inner)
        found += subgraph.outputs
    return found


def dag(graph: gs.Graph) -> nx.DiGraph:
    """A directed graph of node positions: an edge from producer to consumer."""
    position = {id(node): i for i, node in enumerate(graph.nodes)}
    view = nx.DiGraph()
    view.add_nodes_from(range(len(position)))
    for i, node in enumerate(graph.nodes):
        for tensor in reads(node):
            for producer in tensor.inputs:
                if id(producer) in position:
                    view.add_edge(position[id(producer)], i)
    return view


def topological(graph: gs.Graph) -> list[gs.Node]:
    """The nodes so that producers come first, otherwise in their present order.

    Raises:
        ModelError: the graph has a cycle; the message names its nodes.
    """
    view = dag(graph)
    waiting = dict(view.in_degree())
    ready = [i for i, degree in waiting.items() if degree == 0]
    heapq.heapify(ready)
    order: list[int] = []
    while ready:
        order.append(i := heapq.heappop(ready))
        for consumer in view.successors(i):
            waiting[consumer] -= 1
            if waiting[consumer] == 0:
                heapq.heappush(ready, consumer)
    if len(order) < len(graph.nodes):
        cycle = [graph.nodes[a].name or graph.nodes[a].op for a, _ in nx.find_cycle(view)]
        raise ModelError("the graph has a cycle", where=" -> ".join([*cycle, cycle[0]]))
    return [graph.nodes[i] for i in order]
