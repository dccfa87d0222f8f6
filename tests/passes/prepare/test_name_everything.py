"""name-everything: unique non-empty names for nodes and tensors in all scopes."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
from onnx import numpy_helper

from qcompiler import ir
from qcompiler.passes.prepare import NameEverything
from tests.graphs import parse, run, transform


def nameless(text: str) -> ir.Model:
    """A model whose nodes have no names, as some exporters write them."""
    proto = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : 21]>\n{text}')
    return ir.Model.from_proto(proto)


def test_names_empty_and_repeated_node_names_by_position() -> None:
    before = nameless("g (float[2] x) => (float[2] y) { a = Relu(x) b = Neg(a) [twice] c = Abs(b) [twice] y = Neg(c) }")
    after, records = transform(before, NameEverything())
    assert [node.name for node in after.nodes] == ["Relu_0", "Neg_1", "twice", "twice_1"]
    assert [node.outputs[0].name for node in after.nodes] == ["a", "b", "c", "y"]
    assert records[0].changes == 3
    np.testing.assert_array_equal(run(after, {"x": np.array([-2, 3], np.float32)})[0], [0, -3])


def test_sibling_branches_and_shadowed_names_get_suffixes() -> None:
    before = nameless("""g (bool c, float[2] x) => (float[2] y) {
        h = Neg(x)
        z = If (c) <then_branch = t () => (float[2] r) <float[2] w = {1, 2}> { h = Mul(x, w) r = Abs(h) },
                    else_branch = e () => (float[2] r) <float[2] w = {3, 4}> { h = Mul(x, w) r = Exp(h) }>
        y = Add(z, h) }""")
    after, records = transform(before, NameEverything())
    names = [tensor.name for graph in after.graphs() for tensor in [*graph.inputs, *graph.declared]]
    names += [tensor.name for node in after.all_nodes() for tensor in node.outputs]
    assert Counter(names).most_common(1)[0][1] == 1
    assert {"c", "x", "h", "z", "y", "w", "w_1", "r", "r_1", "h_1", "h_2"} == set(names)
    assert len({node.name for node in after.all_nodes()}) == 7
    assert records[0].changes == 7 + 4
    x = np.array([0.5, -1.5], np.float32)
    for flag, wanted in ((True, np.abs(x * [1, 2]) - x), (False, np.exp(x * [3, 4]) - x)):
        np.testing.assert_allclose(run(after, {"c": np.array(flag), "x": x})[0], wanted, rtol=1e-5)


def test_names_of_the_interface_win_over_inner_ones() -> None:
    before = nameless("""g (bool c, float[2] x) => (float[2] y) {
        z = If (c) <then_branch = t () => (float[2] y) { y = Abs(x) },
                    else_branch = e () => (float[2] y) { y = Exp(x) }>
        y = Neg(z) }""")
    after, _ = transform(before, NameEverything())
    assert [tensor.name for tensor in after.outputs] == ["y"]
    branches = [graph.outputs[0].name for graph in list(after.graphs())[1:]]
    assert branches == ["y_1", "y_2"]


def test_leaves_good_names_alone() -> None:
    before = parse("g (float[2] x) => (float[2] y) { a = Relu(x) y = Neg(a) }")
    after, records = transform(before, NameEverything())
    assert records[0].changes == 0
    assert after.to_proto() == before.to_proto()


def test_same_names_every_time() -> None:
    text = "g (float[2] x) => (float[2] y) { a = Relu(x) b = Relu(a) y = Relu(b) }"
    first, second = (transform(nameless(text), NameEverything())[0].to_proto() for _ in range(2))
    assert first.SerializeToString(deterministic=True) == second.SerializeToString(deterministic=True)


def test_a_constant_attribute_keeps_its_value() -> None:
    before = nameless("g () => (float[2] y) { a = Constant <value = float[2] {1, 2}> () y = Neg(a) }")
    after, _ = transform(before, NameEverything())
    value = after.to_proto().graph.node[0].attribute[0].t
    assert numpy_helper.to_array(value).tolist() == [1, 2]
