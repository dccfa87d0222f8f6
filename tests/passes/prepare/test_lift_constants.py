"""lift-constants: Constant nodes become initializers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from qcompiler import ir
from qcompiler.passes.prepare import LiftConstants, NameEverything
from tests.graphs import assert_same_numbers, ops, parse, refusals, run, transform


def node_model(node: onnx.NodeProto, elem_type: int, shape: Sequence[int]) -> ir.Model:
    """A model that gives back the value of one Constant node, as `y` through an Identity."""
    identity = helper.make_node("Identity", ["c"], ["y"], name="identity")
    graph = helper.make_graph([node, identity], "g", [], [helper.make_tensor_value_info("y", elem_type, shape)])
    return ir.Model.from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10))


@pytest.mark.parametrize(
    ("attribute", "wanted"),
    [
        ({"value_float": 1.5}, np.float32(1.5)),
        ({"value_floats": [1.5, 2.5]}, np.array([1.5, 2.5], np.float32)),
        ({"value_int": 3}, np.int64(3)),
        ({"value_ints": [3, -4]}, np.array([3, -4])),
        ({"value_string": "one"}, np.array("one", object)),
        ({"value_strings": ["one", "zwei"]}, np.array(["one", "zwei"], object)),
        ({"value": numpy_helper.from_array(np.full((2, 3), 7, np.uint8))}, np.full((2, 3), 7, np.uint8)),
    ],
)
def test_lifts_every_kind_of_value(attribute: dict[str, object], wanted: np.ndarray) -> None:
    elem_type = helper.np_dtype_to_tensor_dtype(np.asarray(wanted).dtype)
    before = node_model(
        helper.make_node("Constant", [], ["c"], name="constant", **attribute), elem_type, np.shape(wanted)
    )
    after, records = transform(before, LiftConstants())
    assert ops(after) == ["Identity"]
    assert records[0].changes == 1
    (got,) = run(after, {})
    assert np.asarray(got).dtype.kind == np.asarray(wanted).dtype.kind
    np.testing.assert_array_equal(got, wanted)


def test_lifts_a_sparse_value_as_a_dense_one() -> None:
    sparse = helper.make_sparse_tensor(
        numpy_helper.from_array(np.array([5, 6], np.float32), "v"), numpy_helper.from_array(np.array([1, 3])), [4]
    )
    before = node_model(helper.make_node("Constant", [], ["c"], name="constant", sparse_value=sparse), 1, [4])
    after, _ = transform(before, LiftConstants())
    assert ops(after) == ["Identity"]
    assert run(after, {})[0].tolist() == [0, 5, 0, 6]


def test_refuses_a_sparse_value_that_is_too_large() -> None:
    sparse = helper.make_sparse_tensor(
        numpy_helper.from_array(np.array([5], np.float32), "v"), numpy_helper.from_array(np.array([1])), [1 << 40]
    )
    model = node_model(helper.make_node("Constant", [], ["c"], name="constant", sparse_value=sparse), 1, [1 << 40])
    after, records = transform(model, LiftConstants())
    assert ops(after) == ["Constant", "Identity"]
    (reason,) = refusals(records)
    assert reason.startswith("Constant 'constant': sparse initializer of shape [1099511627776] is too large")


def test_lifts_in_branches_and_keeps_the_name() -> None:
    before = parse("""g (bool c, float[2] x) => (float[2] y) {
        y = If (c) <then_branch = t () => (float[2] r) { w = Constant <value = float[2] {1, 2}> () r = Mul(x, w) },
                    else_branch = e () => (float[2] s) { s = Identity(x) }> }""")
    after, records = transform(before, NameEverything(), LiftConstants())
    branch = list(after.graphs())[1]
    assert [node.op for node in branch.nodes] == ["Mul"]
    assert [constant.name for constant in branch.declared] == ["w"]
    assert records[1].changes == 1
    x = np.array([0.5, -1.5], np.float32)
    assert_same_numbers(before, after, [{"c": np.array(flag), "x": x} for flag in (True, False)])


def test_a_constant_that_is_an_output_stays_for_the_output() -> None:
    before = parse("""g (float[2] x) => (float[2] w, float[2] y) {
        w = Constant <value = float[2] {1, 2}> () y = Mul(x, w) }""")
    after, records = transform(before, LiftConstants())
    assert ops(after) == ["Constant", "Mul"]
    assert isinstance(after.nodes[1].inputs[1], ir.Constant)
    assert records[0].changes == 1
    assert_same_numbers(before, after)
    again, records = transform(after, LiftConstants())
    assert records[0].changes == 0 and ops(again) == ["Constant", "Mul"]
