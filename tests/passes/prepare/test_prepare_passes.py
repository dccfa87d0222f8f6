"""The sequence of prepare passes as a whole."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper

from qcompiler import ir
from qcompiler.passes.prepare import entry_passes, prepare, prepare_passes, simplify_passes
from qcompiler.pipeline import GraphPass, Pipeline
from qcompiler.rewrite import Rule
from tests.graphs import assert_same_numbers, ops

TEXT = """<ir_version: 7, opset_import: ["" : 11, "com.microsoft" : 1], producer_name: "maker", model_version: 3>
g (float[N, 3, 8, 8] x, bool unused_flag) => (float[N, 12] y, float[P, Q] z)
<float[12, 3, 1, 1] w = {1,2,3,4,5,6,7,8,9,1,2,3,4,5,6,7,8,9,1,2,3,4,5,6,7,8,9,1,2,3,4,5,6,7,8,9}> {
    yes = Constant <value = bool {1}> ()
    a = Identity(x)
    c1 = Conv <kernel_shape = [1, 1]> (a, w)
    c2 = Conv <kernel_shape = [1, 1]> (x, w)
    total = Sum(c1, c2, c1)
    d = Dropout <ratio = 0.5> (total)
    picked = If (yes) <then_branch = t () => (float[A, B, C, D] r) { r = Relu(d) },
                       else_branch = e () => (float[A, B, C, D] s) { s = Neg(d) }>
    pooled = ReduceMean <axes = [2, 3], keepdims = 1> (picked)
    shape = Shape(x)
    zero = Constant <value = int64 {0}> ()
    batch = Gather <axis = 0> (shape, zero)
    one = Constant <value = int64[1] {-1}> ()
    batches = Unsqueeze <axes = [0]> (batch)
    target = Concat <axis = 0> (batches, one)
    y = Reshape(pooled, target)
    dead = Exp(y)
    u = com.microsoft.Gelu(y)
    z = ReduceSum <axes = [1]> (u)
}"""


def model() -> ir.Model:
    proto = onnx.parser.parse_model(TEXT)
    helper.set_model_props(proto, {"author": "somebody"})
    return ir.Model.from_proto(proto)


def feeds() -> list[dict[str, np.ndarray]]:
    x = np.random.default_rng(2).normal(size=(2, 3, 8, 8)).astype(np.float32)
    return [{"x": x, "unused_flag": np.array(True)}]


def test_brings_a_graph_into_its_simplest_form() -> None:
    before, after, pipeline = model(), model(), Pipeline()
    prepare(pipeline, after)
    assert ops(after) == [
        "Conv", "Add", "Add", "Relu", "GlobalAveragePool",
        "Shape", "Gather", "Unsqueeze", "Concat", "Reshape", "Gelu", "ReduceSum",
    ]  # fmt: skip
    assert after.opset == 21
    assert [tensor.name for tensor in after.inputs] == ["x", "unused_flag"]
    assert_same_numbers(before, after, feeds())
    onnx.checker.check_model(after.to_proto())
    assert pipeline.trace.notes == ["opset 11 converted to 21"]


def test_with_a_fixed_batch_nothing_of_the_shape_arithmetic_is_left() -> None:
    before, after = model(), model()
    prepare(Pipeline(), after, (("N", (2,)),))
    assert ops(after) == ["Conv", "Add", "Add", "Relu", "GlobalAveragePool", "Reshape", "Gelu", "ReduceSum"]
    assert after.outputs[0].shape == [2, 12]
    assert_same_numbers(before, after, feeds())


def test_loses_nothing_of_the_header() -> None:
    after = model()
    prepare(Pipeline(), after)
    proto = after.to_proto()
    assert (proto.producer_name, proto.model_version) == ("maker", 3)
    assert {p.key: p.value for p in proto.metadata_props} == {"author": "somebody"}
    assert {opset.domain: opset.version for opset in proto.opset_import} == {"": 21, "com.microsoft": 1}


def test_two_runs_give_the_same_bytes_and_a_third_changes_nothing() -> None:
    first, second = model(), model()
    prepare(Pipeline(), first)
    prepare(Pipeline(), second)
    data = first.to_proto().SerializeToString(deterministic=True)
    assert second.to_proto().SerializeToString(deterministic=True) == data
    pipeline = Pipeline()
    prepare(pipeline, first)
    assert sum(record.changes for record in pipeline.trace.records) == 0
    assert first.to_proto().SerializeToString(deterministic=True) == data


def test_the_sequence_is_data() -> None:
    assert prepare_passes() == (*entry_passes(), *simplify_passes())
    assert all(isinstance(step, GraphPass | Rule) for step in prepare_passes())
    assert len({step.name for step in prepare_passes()}) == len(prepare_passes()) - 3
