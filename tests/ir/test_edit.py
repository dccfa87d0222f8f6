"""Editor: uses, outputs, subgraphs, and any sequence of edits."""

from __future__ import annotations

import time

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from qcompiler import ir
from qcompiler.analysis import Runner
from qcompiler.analysis.payload import Payload
from tests.graphs import assert_same_numbers, ops, parse, run
from tests.ir.models import branch

RNG = np.random.default_rng(3)


def main(model: ir.Model) -> ir.Editor:
    """The editor of the main graph."""
    return next(ir.editors(model))


def test_uses_count_ports_and_outputs() -> None:
    model = parse("g (float[2] x) => (float[2] a, float[2] a, float[2] y) { a = Relu (x) y = Add (a, a) }")
    edit, a = main(model), model.nodes[0].outputs[0]
    assert [(use.node.name if use.node else None, use.port) for use in edit.uses(a)] == [
        ("n1_Add", 0), ("n1_Add", 1), (None, 0), (None, 1)
    ]  # fmt: skip
    assert edit.is_output(a) and edit.only_use(a) is None
    assert edit.only_use(model.inputs[0]) is model.nodes[0]


def test_a_new_input_is_fed() -> None:
    model = parse("g (float[2] x) => (float[2] y) { y = Mul (x, x) }")
    edit = main(model)
    factor = edit.given("x", np.dtype(np.float32), ())
    edit.set_input(model.nodes[0], 1, factor)
    assert factor.name != "x" and [tensor.name for tensor in model.inputs] == ["x", factor.name]
    found = run(model, {"x": np.float32([1, 2]), factor.name: np.asarray(3, np.float32)})
    np.testing.assert_array_equal(found[0], [3, 6])


def test_an_output_listed_twice_keeps_its_name_in_both_places() -> None:
    before = parse("g (float[2] x) => (float[2] y, float[2] y) { a = Abs (x) y = Identity (a) }")
    after = before.copy()
    edit, node = main(after), after.nodes[1]
    edit.replace_uses(node.outputs[0], node.inputs[0])
    edit.erase(node)
    ir.verify(after)
    assert ops(after) == ["Abs"] and after.outputs[0] is after.outputs[1]
    assert_same_numbers(before, after)


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("g (float[2] x) => (float[2] y) { y = Identity (x) }", ["Identity"]),  # an input
        ("g (float[2] x) => (float[2] y) <float[2] w = {1, 2}> { y = Identity (w) }", ["Identity"]),  # a constant
        ("g (float[2] x) => (float[2] a, float[2] y) { a = Abs (x) y = Identity (a) }", ["Abs", "Identity"]),
    ],
)
def test_names_that_cannot_move_get_an_identity(text: str, kept: list[str]) -> None:
    before = parse(text)
    after = before.copy()
    edit, node = main(after), after.nodes[-1]
    edit.replace_uses(node.outputs[0], node.inputs[0])
    edit.erase(node)
    ir.verify(after)
    assert ops(after) == kept
    assert_same_numbers(before, after)


def test_the_interface_keeps_the_shape_it_states() -> None:
    model = parse("g (float[N, 4] x) => (float[batch, 4] y) { a = Relu (x) y = Identity (a) }")
    edit, (relu, identity) = main(model), model.nodes
    edit.retype(relu.outputs[0], np.float32, None)
    edit.replace_uses(identity.outputs[0], relu.outputs[0])
    assert model.outputs[0].shape == ["batch", 4]
    edit.retype(model.outputs[0], np.float16, ["batch", 4])
    assert model.to_proto().graph.output[0].type.tensor_type.elem_type == TensorProto.FLOAT16


def test_an_input_that_is_an_output_stays_one() -> None:
    model = parse("g (float[2] x) => (float[2] x, float[2] y) { y = Relu (x) }")
    edit = main(model)
    edit.replace_uses(model.inputs[0], edit.add("Abs", [model.inputs[0]], name="abs").outputs[0], keep=model.nodes)
    assert [t.name for t in model.inputs] == ["x"] and [t.name for t in model.outputs] == ["x", "y"]


def test_replacing_a_tensor_by_itself_changes_nothing() -> None:
    model = parse("g (float[2] x) => (float[2] y) { y = Relu (x) }")
    main(model).replace_uses(model.outputs[0], model.outputs[0])
    assert ops(model) == ["Relu"] and model.outputs[0].name == "y"


def test_captured_tensors_are_replaced_inside_branches() -> None:
    before = ir.Model.from_proto(branch())
    after = before.copy()
    edit, neg = main(after), after.find("neg")
    zero = edit.constant("zero", np.zeros(4, np.float32))
    new = edit.add("Sub", [zero, after.inputs[0]], name="sub", like=neg.outputs[0])
    edit.replace_uses(neg.outputs[0], new.outputs[0])
    edit.erase(neg)
    ir.verify(after)
    assert {use.node.name for use in edit.uses(new.outputs[0])} == {"t0", "e0"}
    for flag in (True, False):
        feed = {"x": np.float32([[1, -2, 3, -4]]), "c": np.array(flag)}
        np.testing.assert_array_equal(run(after, feed)[0], run(before, feed)[0])


def test_an_outer_tensor_becomes_an_inner_output_through_identity() -> None:
    model = ir.Model.from_proto(branch())
    _, _, other = ir.editors(model)
    node = model.find("e0")
    other.replace_uses(node.outputs[0], node.inputs[0])
    other.erase(node)
    ir.verify(model)
    assert [n.op for n in other.graph.nodes] == ["Identity"]
    assert other.graph.outputs[0].name == "e_out"
    onnx.checker.check_model(model.to_proto(), full_check=True)


def test_an_erased_node_forgets_what_its_branches_captured() -> None:
    model = parse("""g (float[2] x, bool k) => (float[2] y) {
        a = Relu (x)
        z = If (k) <then_branch = t () => (float[2] p) { p = Neg (a) },
                    else_branch = e () => (float[2] q) {
                        q = If (k) <then_branch = t2 () => (float[2] r) { r = Abs (a) },
                                    else_branch = e2 () => (float[2] s) { s = Exp (a) }> }>
        y = Identity (a) }""")
    edit, a = main(model), model.nodes[0].outputs[0]
    assert len(edit.uses(a)) == 4
    edit.erase(model.nodes[1])
    assert [use.node.op for use in edit.uses(a)] == ["Identity"]
    ir.verify(model)


def test_a_consumer_before_its_producer_is_written_behind_it() -> None:
    model = parse("g (float[2] x) => (float[2] y, float[2] z) { y = Relu (x) z = Abs (x) }")
    edit, (relu, absolute) = main(model), model.nodes
    edit.set_input(relu, 0, edit.add("Neg", [absolute.outputs[0]], name="neg").outputs[0])
    ir.verify(model)
    assert [n.op_type for n in model.to_proto().graph.node] == ["Abs", "Neg", "Relu"]
    onnx.checker.check_model(model.to_proto(), full_check=True)
    edit.sort()
    assert ops(model) == ["Abs", "Neg", "Relu"]


def test_new_nodes_stand_behind_what_their_branches_capture() -> None:
    model = ir.Model.from_proto(branch())
    edit, old = main(model), model.find("if")
    attrs = dict(old.attrs)
    a = model.find("neg").outputs[0]
    edit.set_inputs(model.find("e0"), [edit.add("Abs", [a], name="abs").outputs[0]])
    new = edit.add("If", [old.inputs[0]], name="new", attrs=attrs)
    assert edit.position(new) == 2
    edit.replace_uses(old.outputs[0], new.outputs[0])
    old.attrs.clear()
    edit.erase(old)
    ir.verify(model)
    onnx.checker.check_model(model.to_proto(), full_check=True)


def test_fresh_names_avoid_every_scope_and_repeat() -> None:
    names = []
    for _ in range(2):
        model = ir.Model.from_proto(branch())
        edits = list(ir.editors(model))
        names.append([edit.fresh(hint) for edit in edits for hint in ("t1", "v", "new", "")])
    assert names[0] == names[1] and len(set(names[0])) == 12
    assert not set(names[0]) & ir.Model.from_proto(branch()).names()


def test_thousands_of_edits() -> None:
    """Every second node of a chain of 5000 goes, the others are replaced; by process time, linear."""
    count = 5000
    nodes = [helper.make_node("Relu", [f"t{i}"], [f"t{i + 1}"], name=f"n{i}") for i in range(count)]
    ends = [helper.make_tensor_value_info(f"t{i}", TensorProto.FLOAT, [2]) for i in (0, count)]
    model = ir.Model.from_proto(helper.make_model(helper.make_graph(nodes, "g", ends[:1], ends[1:])))
    edit = main(model)
    start = time.process_time()
    for i, node in enumerate(model.nodes):
        if i % 2:
            edit.replace_uses(node.outputs[0], node.inputs[0])
        else:
            edit.replace_uses(node.outputs[0], edit.add("Abs", [node.inputs[0]], name=f"m{i}").outputs[0])
        edit.erase(node)
    assert time.process_time() - start < 3
    assert ops(model) == ["Abs"] * (count // 2)
    ir.verify(model)


def test_thousands_of_consumers() -> None:
    count = 5000
    nodes = [helper.make_node("Relu", ["x"], [f"t{i}"], name=f"n{i}") for i in range(count)]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [2])
    model = ir.Model.from_proto(helper.make_model(helper.make_graph(nodes, "g", [x], [])))
    edit, kept, tensor = main(model), model.nodes[:2], model.inputs[0]
    start = time.process_time()
    new = edit.add("Abs", [tensor], name="abs")
    edit.replace_uses(tensor, new.outputs[0], keep=[new, *kept])
    assert time.process_time() - start < 3
    assert len(edit.uses(tensor)) == 3 and len(edit.uses(new.outputs[0])) == count - 2
    ir.verify(model)


actions = st.lists(
    st.tuples(
        st.sampled_from(["add", "erase", "bypass", "swap", "constant", "rename", "retype", "copy"]),
        st.integers(0, 2),  # which graph
        st.integers(0, 50),  # which node
        st.integers(0, 50),  # which tensor
    ),
    min_size=1,
    max_size=25,
)

NETWORK = """g (float[2] x, bool k) => (float[2] y, float[2] b, float[2] y) {
    a = Relu (x) b = Add (a, w) c = Mul (b, a)
    d = If (k) <then_branch = t () => (float[2] p) <float[2] v = {3, 4}> { [t1] t1 = Neg (b) [p] p = Add (t1, v) },
                else_branch = e () => (float[2] q) { [e1] e1 = Abs (a) [q] q = Mul (e1, w) }>
    y = Add (d, c) }"""


def visible(edit: ir.Editor, model: ir.Model, before: ir.Node) -> list[ir.Tensor]:
    """Tensors of one type that a node may read without a cycle."""
    found = [model.inputs[0], *edit.graph.declared, *model.graph.declared]
    if edit.graph is not model.graph:
        owner = next(n for n in model.graph.nodes if any(g is edit.graph for g in n.attrs.values()))
        found += [n.outputs[0] for n in model.graph.nodes[: position(model.graph, owner)]]
    return found + [n.outputs[0] for n in edit.graph.nodes[: position(edit.graph, before)]]


def position(graph: ir.Graph, node: ir.Node) -> int:
    """Index by identity."""
    return next(i for i, other in enumerate(graph.nodes) if other is node)


@settings(max_examples=150)
@given(steps=actions)
def test_any_sequence_of_edits_leaves_a_sound_model(steps: list[tuple[str, int, int, int]]) -> None:
    model = parse(NETWORK, {"w": np.array([1, 2], np.float32)})
    wanted = [t.name for t in model.outputs]
    for kind, which, place, choice in steps:
        edits = list(ir.editors(model))
        edit = edits[which % len(edits)]
        plain = [n for n in edit.graph.nodes if n.op != "If"]
        if not plain:
            continue
        edit.sort()
        node = plain[place % len(plain)]
        tensors = visible(edit, model, node)
        tensor = tensors[choice % len(tensors)]
        match kind:
            case "add":
                new = edit.add("Max", [tensor, node.outputs[0]], name="max", like=node.outputs[0])
                edit.replace_uses(node.outputs[0], new.outputs[0], keep=[new])
            case "erase" if not any(edit.uses(t) for t in node.outputs):
                edit.erase(node)
            case "bypass":
                edit.replace_uses(node.outputs[0], tensor)
                edit.erase(node)
            case "swap":
                edit.set_input(node, choice % len(node.inputs), tensor)
            case "constant":
                edit.set_input(node, 0, edit.constant("k", np.array([choice, place], np.float32)))
            case "rename":
                edit.rename(node, "renamed")
            case "retype" if not edit.is_output(node.outputs[0]):
                edit.retype(node.outputs[0], np.float32, None)
            case "copy":
                model = model.copy()
        ir.verify(model)
        assert [t.name for t in model.outputs] == wanted
    edit = main(model)
    edit.drop_unused_constants()
    ir.verify(model)
    proto = model.to_proto()
    onnx.checker.check_model(proto, full_check=True)
    again = ir.Model.from_proto(proto)
    assert again.to_proto().SerializeToString() == proto.SerializeToString()
    assert ir.to_text(again) == ir.to_text(model)


def test_a_transposed_array_becomes_a_constant_of_the_same_values() -> None:
    values = np.arange(2048, dtype=np.float32).reshape(64, 32).T  # large enough for the runtime to read our memory
    model = parse("g (float[32, 64] x) => (float[32, 64] y) { y = Abs (x) }")
    edit, node = main(model), model.nodes[0]
    edit.set_inputs(node, [edit.add("Add", [node.inputs[0], edit.constant("c", values)], name="add").outputs[0]])
    feed = {"x": np.zeros((32, 64), np.float32)}
    assert np.array_equal(Runner(Payload.of(model, apart=True)).run(feed)["y"], values)
    assert np.array_equal(run(model, feed)[0], values)
