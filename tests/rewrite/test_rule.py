"""The driver: what may disappear, what is refused, several graphs, order, termination, time."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from qcompiler import ir
from qcompiler.errors import PassError
from qcompiler.passes.fusion.fold_batchnorm import FoldBatchnorm
from qcompiler.passes.fusion.merge_constants import MergeConstants
from qcompiler.rewrite import NOTHING_TO_DO, Any, Const, Match, Op, Rule, apply_rule
from tests.graphs import assert_same_numbers, ops, parse, refusals, transform


@dataclass(frozen=True)
class DropDoubleRelu(Rule):
    """Relu(Relu(x)) -> Relu(x)."""

    name: ClassVar[str] = "drop-double-relu"
    pattern: ClassVar[Op] = Op("Relu", Op("Relu", Any("x"), bind="inner"))

    def rewrite(self, edit: ir.Editor, found: Match) -> None:
        edit.replace_uses(found.output, found.node("inner").outputs[0])


@dataclass(frozen=True)
class SwapForEver(Rule):
    """Add(a, b) -> Add(b, a), which never ends."""

    name: ClassVar[str] = "swap-for-ever"
    pattern: ClassVar[Op] = Op("Add", Any("a"), Any("b"))

    def rewrite(self, edit: ir.Editor, found: Match) -> None:
        edit.set_inputs(found.root, [found.root.inputs[1], found.root.inputs[0]])


@dataclass(frozen=True)
class RenewForEver(Rule):
    """Replaces a Relu by a new Relu, which never ends, and never visits the same node twice."""

    name: ClassVar[str] = "renew-for-ever"
    pattern: ClassVar[Op] = Op("Relu", Any("x"))

    def rewrite(self, edit: ir.Editor, found: Match) -> None:
        node = edit.add("Relu", [found.tensor("x")], name="again", like=found.output)
        edit.replace_uses(found.output, node.outputs[0])


@dataclass(frozen=True)
class AddToSub(Rule):
    """Add(x, c) -> Sub(x, -c) in two patterns, each refused for some constants."""

    name: ClassVar[str] = "add-to-sub"
    pattern: ClassVar[tuple[Op, ...]] = (
        Op("Add", Any("x"), Const("c"), commutative=False),
        Op("Add", Const("c"), Any("x"), commutative=False),
    )

    def check(self, edit: ir.Editor, found: Match) -> str | None:
        c = found.value("c")
        if c == 0:
            return NOTHING_TO_DO
        return f"{found.tensor('c').name!r} is negative" if c < 0 else None

    def rewrite(self, edit: ir.Editor, found: Match) -> None:
        constant = edit.constant("minus", np.asarray(-found.value("c")))
        node = edit.add("Sub", [found.tensor("x"), constant], name="sub", like=found.output)
        edit.replace_uses(found.output, node.outputs[0])


def test_a_chain_collapses_and_the_output_keeps_its_name() -> None:
    before = parse("g (float[N] x) => (float[N] y) { a = Relu(x) b = Relu(a) c = Relu(b) y = Relu(c) }")
    after, records = transform(before, DropDoubleRelu())
    assert ops(after) == ["Relu"] and records[0].changes == 3
    assert [t.name for t in after.outputs] == ["y"]
    assert_same_numbers(before, after)


def test_refuses_an_inner_graph_output_and_another_reader() -> None:
    before = parse("g (float[N] x) => (float[N] a, float[N] y) { a = Relu(x) y = Relu(a) }")
    after, records = transform(before, DropDoubleRelu())
    assert ops(after) == ["Relu", "Relu"]
    assert refusals(records) == ["'a', output of Relu 'n0_Relu', is a graph output"]
    before = parse("g (float[N] x) => (float[N] y, float[N] z) { a = Relu(x) y = Relu(a) z = Tanh(a) }")
    assert refusals(transform(before, DropDoubleRelu())[1]) == [
        "'a', output of Relu 'n0_Relu', is also used by 'n2_Tanh'"
    ]


BRANCHES = """g (float[2] x, bool k) => (float[2] y) {
    a = Relu(x)
    y = If (k) <
        then_branch = t () => (float[2] p) { p = Relu(a) },
        else_branch = e () => (float[2] q) { b = Relu(x) q = Relu(b) }
    > }"""


def test_subgraphs_are_rewritten_and_captured_nodes_are_left() -> None:
    before = parse(BRANCHES)
    for i, node in enumerate(n for n in before.all_nodes() if not n.name):
        node.name = f"inner{i}"
    after, records = transform(before, DropDoubleRelu())
    assert ops(after) == ["Relu", "If"]
    assert [node.op for node in after.all_nodes()] == ["Relu", "If", "Relu", "Relu"]
    assert refusals(records) == ["Relu 'n0_Relu' lies in another graph"]
    for k in (True, False):
        assert_same_numbers(before, after, [{"x": np.float32([-1, 2]), "k": np.array(k)}])


def test_a_capture_counts_as_a_reader() -> None:
    before = parse("""g (float[2] x, bool k) => (float[2] y, float[2] z) {
        a = Relu(x)
        z = Relu(a)
        y = If (k) <
            then_branch = t () => (float[2] p) { p = Tanh(a) },
            else_branch = e () => (float[2] q) { q = Tanh(x) }
        > }""")
    for i, node in enumerate(n for n in before.all_nodes() if not n.name):
        node.name = f"inner{i}"
    after, records = transform(before, DropDoubleRelu())
    assert ops(after) == ["Relu", "Relu", "If"]
    assert refusals(records) == ["'a', output of Relu 'n0_Relu', is also used by 'inner0'"]


@pytest.mark.parametrize("rule", [SwapForEver(), RenewForEver()])
def test_a_rule_that_never_ends_is_stopped_and_named(rule: Rule) -> None:
    model = parse("g (float[N] x) => (float[N] y) { a = Relu(x) b = Tanh(x) y = Add(a, b) }")
    start = time.perf_counter()
    with pytest.raises(PassError, match=f"^{rule.name}: fired 1049 times and still finds work, last at "):
        apply_rule(rule, model)
    assert time.perf_counter() - start < 5


def test_patterns_are_tried_in_turn_and_the_first_reason_is_kept() -> None:
    constants = {"n": np.float32(-1), "m": np.float32(-2), "one": np.float32(1), "zero": np.float32(0)}
    text = """g (float[N] x) => (float[N] y, float[N] z, float[N] u) {
        a = Add(n, m) y = Add(one, n) b = Add(x, zero) z = Add(b, n) u = Add(one, x) }"""
    outcome = apply_rule(AddToSub(), model := parse(text, constants))
    # y: the first pattern is refused because of n, the second fires with "one"; b: nothing to do, and nothing said
    assert sorted(node.op for node in model.nodes) == ["Add", "Add", "Add", "Sub", "Sub"]
    assert outcome.changes == 2
    assert [(r.node, r.reason) for r in outcome.refusals] == [
        ("n0_Add", "'m' is negative"),
        ("n3_Add", "'n' is negative"),
    ]


def test_refusals_of_nodes_that_died_are_forgotten() -> None:
    """The Relu is refused when its turn comes, and then dies with the Neg behind it."""

    @dataclass(frozen=True)
    class NegRelu(Rule):
        name: ClassVar[str] = "neg-relu"
        pattern: ClassVar[tuple[Op, ...]] = (Op("Neg", Op("Relu", Any("x"))), Op("Relu", Any("x")))

        def check(self, edit: ir.Editor, found: Match) -> str | None:
            return "a Relu alone stays" if found.root.op == "Relu" else None

        def rewrite(self, edit: ir.Editor, found: Match) -> None:
            out = edit.add("Celu", [found.tensor("x")], name="new", like=found.output)
            edit.replace_uses(found.output, out.outputs[0])

    model = parse("g (float[N] x) => (float[N] y, float[N] z) { a = Relu(x) y = Neg(a) z = Relu(x) }")
    outcome = apply_rule(NegRelu(), model)
    assert sorted(ops(model)) == ["Celu", "Relu"]
    assert [(r.node, r.reason) for r in outcome.refusals] == [("n2_Relu", "a Relu alone stays")]


def test_another_way_to_match_is_tried_when_the_first_is_refused() -> None:
    """Both inputs of the Add fit; the first has another reader."""

    @dataclass(frozen=True)
    class PullRelu(Rule):
        name: ClassVar[str] = "pull-relu"
        pattern: ClassVar[Op] = Op("Add", Op("Relu", Any("x"), bind="relu"), Any("y"))

        def rewrite(self, edit: ir.Editor, found: Match) -> None:
            out = edit.add("Sum", [found.tensor("x"), found.tensor("y")], name="sum", like=found.output)
            edit.replace_uses(found.output, out.outputs[0])

    text = """g (float[N] p, float[N] q) => (float[N] y, float[N] z) {
        a = Relu(p) b = Relu(q) y = Add(a, b) z = Tanh(a) }"""
    model = parse(text)
    assert apply_rule(PullRelu(), model).changes == 1
    assert next(node for node in model.nodes if node.op == "Sum").inputs[0].name == "q"


def test_constants_without_readers_are_dropped_but_inputs_stay() -> None:
    text = "g (float[N, 3] x) => (float[N, 3] y) { a = Mul(x, two) y = Mul(a, three) }"
    constants = {"two": np.float32(2), "three": np.float32(3), "idle": np.float32(4)}
    model = parse(text, constants)
    model.graph.inputs.append(next(c for c in model.constants() if c.name == "two"))
    assert apply_rule(MergeConstants(), model).changes == 1
    assert sorted(c.name for c in model.constants()) == ["two", "two_merged"]


def conv_batchnorm_chain(length: int) -> onnx.ModelProto:
    rng, nodes, inits, x = np.random.default_rng(0), [], [], "x"
    for i in range(length):
        shapes = {"w": (4, 4, 1, 1), "g": (4,), "b": (4,), "m": (4,), "v": (4,)}
        values = {k: rng.uniform(0.5, 1, size=s).astype(np.float32) for k, s in shapes.items()}
        inits += [numpy_helper.from_array(v, f"{k}{i}") for k, v in values.items()]
        nodes.append(helper.make_node("Conv", [x, f"w{i}"], [f"c{i}"], name=f"conv{i}"))
        names = [f"c{i}", *(f"{k}{i}" for k in "gbmv")]
        nodes.append(helper.make_node("BatchNormalization", names, [f"y{i}"], name=f"bn{i}"))
        x = f"y{i}"
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 4, 4, 4]) for n in ("x", x)]
    graph = helper.make_graph(nodes, "chain", ends[:1], ends[1:], inits)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)])


def test_time_is_proportional_to_the_graph() -> None:
    """5000 Conv and BatchNormalization fold in seconds; four times the nodes take under ten times as long."""
    seconds = {}
    for length in (1250, 5000):
        model = ir.Model.from_proto(conv_batchnorm_chain(length))
        start = time.process_time()
        assert apply_rule(FoldBatchnorm(), model).changes == length
        seconds[length] = time.process_time() - start
        ir.verify(model)
        assert len(model.nodes) == length
    assert seconds[5000] < 10
    assert seconds[5000] < 10 * seconds[1250]


def test_a_constant_with_thousands_of_readers() -> None:
    nodes, x = [], "x"
    for i in range(3000):
        nodes.append(helper.make_node("Add", [x, "c"], [f"y{i}"], name=f"add{i}"))
        x = f"y{i}"
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [4]) for n in ("x", x)]
    constant = numpy_helper.from_array(np.float32([0.5]), "c")
    proto = helper.make_model(
        helper.make_graph(nodes, "g", ends[:1], ends[1:], [constant]), opset_imports=[helper.make_opsetid("", 21)]
    )
    model = ir.Model.from_proto(proto)
    start = time.process_time()
    assert apply_rule(MergeConstants(), model).changes == 2999
    assert time.process_time() - start < 10
    assert [node.op for node in model.nodes] == ["Add"]
    assert [ir.array(c).tolist() for c in model.constants()] == [[1500.0]]
