"""Editor: where nodes are, after thousands of changes; which constants stay."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper

from qcompiler import ir
from qcompiler.errors import PassError
from tests.graphs import parse


def chain(length: int) -> ir.Model:
    nodes = [helper.make_node("Relu", [f"t{i}"], [f"t{i + 1}"], name=f"n{i}") for i in range(length)]
    ends = [helper.make_tensor_value_info(f"t{i}", TensorProto.FLOAT, [2]) for i in (0, length)]
    return ir.Model.from_proto(helper.make_model(helper.make_graph(nodes, "g", ends[:1], ends[1:])))


def exact(edit: ir.Editor) -> bool:
    return all(edit.graph.nodes[edit.position(node)] is node for node in edit.graph.nodes)


def test_positions_stay_right_while_nodes_come_and_go() -> None:
    rng, model = np.random.default_rng(0), chain(1200)
    (edit,) = ir.editors(model)
    for _ in range(600):
        node = edit.graph.nodes[int(rng.integers(1, len(edit.graph.nodes) - 1))]
        if rng.integers(2):
            edit.replace_uses(node.outputs[0], node.inputs[0])
            edit.erase(node)
            assert not edit.holds(node)
            with pytest.raises(PassError, match="is not in graph"):
                edit.position(node)
        else:
            added = edit.add("Tanh", [node.inputs[0]], name="new", before=node)
            assert edit.holds(added) and edit.position(node) == edit.position(added) + 1
            edit.set_input(node, 0, added.outputs[0])
    assert exact(edit)
    ir.verify(model)


def test_a_list_changed_by_somebody_else_is_noticed() -> None:
    model = chain(40)
    (edit,) = ir.editors(model)
    assert edit.position(edit.graph.nodes[7]) == 7
    (other,) = ir.editors(model)
    node = other.graph.nodes[9]
    other.replace_uses(node.outputs[0], node.inputs[0])
    other.erase(node)
    assert exact(edit) and not edit.holds(node)
    edit.graph.nodes[:] = [*edit.graph.nodes[20:], *edit.graph.nodes[:20]]
    assert exact(edit)


def test_nodes_of_another_graph_are_not_held() -> None:
    model = parse("""g (float[2] x, bool k) => (float[2] y) {
        a = Relu(x)
        y = If (k) <
            then_branch = t () => (float[2] p) { p = Tanh(a) },
            else_branch = e () => (float[2] q) { q = Tanh(x) }
        > }""")
    main, then, _ = ir.editors(model)
    outer, inner = model.nodes[0], then.graph.nodes[0]
    assert main.holds(outer) and not main.holds(inner)
    assert then.holds(inner) and not then.holds(outer)
    # captured from outside, a tensor is no reason for a place
    assert then.position(then.add("Relu", [outer.outputs[0]], name="r")) == 0


def test_touched_nodes_are_told_in_order() -> None:
    model = chain(3)
    (edit,) = ir.editors(model)
    first, second, third = model.nodes
    new = edit.add("Tanh", [first.outputs[0]], name="new")
    edit.replace_uses(second.outputs[0], new.outputs[0])
    assert [node.name for node in edit.touched] == ["new", third.name]


def test_constants_without_readers_go_and_inputs_stay() -> None:
    text = "g (float[2] x) => (float[2] y) { y = Add(x, used) }"
    model = parse(text, {name: np.float32(1) for name in ("used", "idle", "fed", "out")})
    constants = {c.name: c for c in model.constants()}
    model.graph.inputs.append(constants["fed"])
    model.graph.outputs.append(constants["out"])
    next(ir.editors(model)).drop_unused_constants()
    assert sorted(c.name for c in model.constants()) == ["fed", "out", "used"]
