"""Which of the nodes that could run in integers should: the cheapest cut.

    minimise   sum of the time of each node in its precision
             + cost per element of every value that has a reader or a producer in the other precision

Each node is on the integer or the float side; nodes without an integer form are on the float side. This is a minimum
cut (two labels, boundary costs that do not depend on each other), solved exactly by networkx. A value with several
readers crosses once in each direction, which takes an auxiliary node for each direction (fact sheet section 6: 0.36 ns
per element and side of a boundary; within 7 % on mixed nets of this kind). The result is a proposal: it is shipped only
if a real run confirms it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

BOUNDARY_NS = 0.36
_NEVER = 10**18


@dataclass(frozen=True)
class Value:
    """A value that may be stored in either precision.

    Attributes:
        producer: node that computes it; empty for an input of the model, which is float.
        readers: nodes that read it as data.
        elements: how many numbers it holds.
    """

    producer: str
    readers: tuple[str, ...]
    elements: int


def place(
    integer: Mapping[str, float],
    floating: Mapping[str, float],
    values: Iterable[Value],
    together: Iterable[tuple[str, str]] = (),
    boundary_ns: float = BOUNDARY_NS,
) -> frozenset[str]:
    """The nodes that should stay float.

    Args:
        integer: seconds of each node that has an integer form, in that form.
        floating: seconds of the same nodes in float.
        values: every value between them and the rest of the graph.
        together: pairs (a, b): if a is float, b must be float too.
        boundary_ns: cost of a boundary per element.

    Returns:
        Names out of `integer`, those on the float side of the cheapest cut.
    """
    import networkx as nx

    if not integer:
        return frozenset()
    graph = nx.DiGraph()
    graph.add_nodes_from(["int", "float"])
    for name, seconds in integer.items():
        graph.add_edge(("node", name), "float", capacity=_picoseconds(seconds))
        graph.add_edge("int", ("node", name), capacity=_picoseconds(floating.get(name, 0.0)))

    def side(name: str) -> tuple[str, str] | str:
        return ("node", name) if name in integer else "float"

    for number, value in enumerate(values):
        cost, producer = _picoseconds(value.elements * boundary_ns * 1e-9), side(value.producer)
        readers = [side(name) for name in value.readers]
        if producer != "float":
            _edge(graph, producer, ("down", number), cost)
            for reader in readers:
                _edge(graph, ("down", number), reader, _NEVER)
        for reader in readers:
            if reader != "float":
                _edge(graph, reader, ("up", number), _NEVER)
        _edge(graph, ("up", number), producer, cost)
    for first, second in together:
        if second in integer:
            _edge(graph, side(second), side(first), _NEVER)
    _, (_, float_side) = nx.minimum_cut(graph, "int", "float")
    return frozenset(name for name in integer if ("node", name) in float_side)


def _picoseconds(seconds: float) -> int:
    """Whole numbers, since a cut of floats may miss the best by their rounding."""
    return round(seconds * 1e12)


def _edge(graph: object, start: object, end: object, capacity: int) -> None:
    """Adds to the capacity of an edge; networkx takes a missing capacity for infinite."""
    if start == end:
        return
    before = graph.get_edge_data(start, end, {"capacity": 0})["capacity"]  # type: ignore[attr-defined]
    graph.add_edge(start, end, capacity=before + capacity)  # type: ignore[attr-defined]
