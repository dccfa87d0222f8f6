"""Order and networkx views."""

from __future__ import annotations

import time

import networkx as nx
import numpy as np
import pytest
from onnx import TensorProto, helper

from qcompiler import ir
from qcompiler.errors import ModelError
from tests.graphs import parse
from tests.ir.models import branch


def graph_of(edges: list[tuple[int, int]], count: int) -> ir.Graph:
    """A graph of `count` Sum nodes, wired by edges of node numbers; nodes stand in order of their number."""
    inputs: dict[int, list[str]] = {i: ["x"] for i in range(count)}
    for producer, consumer in edges:
        inputs[consumer].append(f"t{producer}")
    nodes = [helper.make_node("Sum", inputs[i], [f"t{i}"], name=f"n{i}") for i in range(count)]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [2])
    return ir.Model.from_proto(helper.make_model(helper.make_graph(nodes, "g", [x], []))).graph


def test_an_order_that_is_right_stays() -> None:
    rng = np.random.default_rng(0)
    edges = [(int(a), int(b)) for a, b in np.sort(rng.integers(0, 500, (2000, 2)), axis=1) if a < b]
    graph = graph_of(edges, 500)
    assert [id(node) for node in ir.topological(graph)] == [id(node) for node in graph.nodes]


def test_as_little_as_possible_moves() -> None:
    graph = graph_of([(4, 0), (3, 1)], 5)
    assert [node.name for node in ir.topological(graph)] == ["n2", "n3", "n1", "n4", "n0"]


def test_random_orders() -> None:
    rng = np.random.default_rng(1)
    for _ in range(20):
        place = rng.permutation(60)
        edges = [(int(place[a]), int(place[b])) for a, b in np.sort(rng.integers(0, 60, (90, 2)), axis=1) if a < b]
        graph = graph_of(edges, 60)
        order = {node.name: i for i, node in enumerate(ir.topological(graph))}
        assert sorted(order) == sorted(node.name for node in graph.nodes)
        assert all(order[f"n{a}"] < order[f"n{b}"] for a, b in edges)
        wanted = list(nx.lexicographical_topological_sort(ir.dag(graph)))
        assert [node.name for node in ir.topological(graph)] == [f"n{i}" for i in wanted]


def test_a_cycle_is_told() -> None:
    with pytest.raises(ModelError, match=r"^n1 -> n2 -> n3 -> n1: the graph has a cycle$"):
        ir.topological(graph_of([(0, 1), (1, 2), (2, 3), (3, 1), (3, 4)], 5))


def test_captured_tensors_are_reads() -> None:
    model = ir.Model.from_proto(branch())
    node = model.find("if")
    assert {t.name for t in ir.reads(node)} >= {"c", "a", "w", "v"}
    model.graph.nodes[:] = model.graph.nodes[::-1]
    assert [n.name for n in ir.topological(model.graph)] == ["neg", "if"]
    assert list(ir.dag(model.graph).edges) == [(1, 0)]


def test_captures_two_levels_down() -> None:
    inner = """If (k) <then_branch = a () => (float[2] p) { p = Neg (z) },
                        else_branch = b () => (float[2] q) { q = Abs (x) }>"""
    model = parse(f"""g (float[2] x, bool k) => (float[2] y) {{
        z = Relu (x)
        y = If (k) <then_branch = t () => (float[2] r) {{ r = {inner} }},
                    else_branch = e () => (float[2] s) {{ s = Abs (x) }}> }}""")
    assert list(ir.dag(model.graph).edges) == [(0, 1)]


def test_long_chains_do_not_recurse() -> None:
    count = 20_000
    graph = graph_of([(i + 1, i) for i in range(count - 1)], count)
    start = time.process_time()
    order = ir.topological(graph)
    assert time.process_time() - start < 5
    assert [node.name for node in order] == [f"n{i}" for i in reversed(range(count))]
    with pytest.raises(ModelError, match="cycle"):
        ir.topological(graph_of([*((i, i + 1) for i in range(count - 1)), (count - 1, 0)], count))
