"""infer-shapes: what follows from the inputs, then what the file says, never a guess."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper

from qcompiler import ir
from qcompiler.passes.prepare import InferShapes, NameEverything
from qcompiler.pipeline import PassRecord
from tests.graphs import transform


def shapes(model: ir.Model) -> dict[str, list[int | str | None] | None]:
    """Shapes of all computed tensors, in all scopes."""
    return {tensor.name: tensor.shape for node in model.all_nodes() for tensor in node.outputs}


def bare(text: str, **stated: list[int | str | None]) -> ir.Model:
    """A model without inferred shapes, but for those in `stated`."""
    proto = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : 21, "com.microsoft" : 1]>\n{text}')
    for i, node in enumerate(proto.graph.node):
        node.name = f"n{i}_{node.op_type}"
    for name, shape in stated.items():
        proto.graph.value_info.append(helper.make_tensor_value_info(name, 1, shape))
    return ir.Model.from_proto(proto)


def test_fills_types_and_shapes_through_shape_arithmetic() -> None:
    before = bare("""g (float[N, 3, 8] x) => (float[A, B] y) <int64[1] last = {-1}> {
        s = Shape <start = 0, end = 1> (x) t = Concat <axis = 0> (s, last) f = Reshape(x, t) y = Neg(f) }""")
    after, records = transform(before, InferShapes())
    assert shapes(after) == {"s": [1], "t": [2], "f": ["N", None], "y": ["A", "B"]}
    assert {tensor.dtype for node in after.nodes for tensor in node.outputs} == {np.dtype("int64"), np.dtype("float32")}
    assert records[0].changes == 3
    assert transform(after, InferShapes())[1][0].changes == 0


def test_reads_small_constants_and_not_large_ones() -> None:
    before = bare("g (float[N, 4] x) => (float[N, Q] y) { m = MatMul(x, w) y = Reshape(m, s) }")
    constants = {"w": np.zeros((4, 6000), np.float32), "s": np.array([-1, 6000])}
    proto = before.to_proto()
    proto.graph.initializer.extend([onnx.numpy_helper.from_array(value, name) for name, value in constants.items()])
    after, _ = transform(ir.Model.from_proto(proto), InferShapes())
    assert shapes(after) == {"m": ["N", 6000], "y": ["N", 6000]}


def test_infers_in_branches_and_bodies() -> None:
    before = bare("""g (bool c, float[N, 3] x) => (float[P, Q] y) {
        y = If (c) <then_branch = t () => (float[A, B] r) { u = Transpose(x) r = Transpose(u) },
                    else_branch = e () => (float[A, B] s) { v = Neg(x) s = Exp(v) }> }""")
    after, _ = transform(before, NameEverything(), InferShapes())
    found = shapes(after)
    assert (found["u"], found["v"], found["s"]) == ([3, "N"], ["N", 3], ["A", 3])


def test_what_the_file_states_wrongly_is_corrected_and_noted() -> None:
    before = bare("g (float[N, 3] x) => (float[N, 3] y) { a = Relu(x) y = Neg(a) }", a=[1, 3])
    after, records = transform(before, InferShapes())
    assert shapes(after)["a"] == ["N", 3]
    assert records[0].notes == ["the file states a shape that the graph contradicts for 'a'"]


def test_what_the_file_knows_better_stays() -> None:
    text = "g (float[N, 3] x, int64[2] s) => (float[A, B] y) { a = Reshape(x, s) y = Neg(a) }"
    after, records = transform(bare(text, a=["N", 3]), InferShapes())
    assert shapes(after) == {"a": ["N", 3], "y": ["A", 3]}
    assert records[0].notes == []


def test_goes_on_behind_an_unknown_operator_from_what_the_file_states() -> None:
    text = "g (float[2, 3] x) => (float[P, Q] y) { a = com.microsoft.Mystery(x) b = Transpose(a) y = Neg(b) }"
    model = bare(text, a=[2, 5])
    InferShapes().apply(model, record := _record())
    assert shapes(model) == {"a": [2, 5], "b": [5, 2], "y": [5, 2]}
    assert record.notes == []


def test_an_unknown_type_is_noted_and_harmless() -> None:
    model = bare("g (float[2, 3] x) => (float[P, Q] y) { a = com.microsoft.Mystery(x) b = Transpose(a) y = Neg(b) }")
    InferShapes().apply(model, record := _record())
    assert shapes(model) == {"a": None, "b": None, "y": ["P", "Q"]}
    assert record.notes == ["type unknown for 'a' (output of Mystery), 'b' (output of Transpose)"]


def test_sequences_keep_their_type() -> None:
    before = bare("g (float[2] x) => (float[2] y) <int64 i = {0}> { s = SequenceConstruct(x, x) y = SequenceAt(s, i) }")
    after, _ = transform(before, InferShapes())
    assert after.nodes[0].outputs[0].type_proto.HasField("sequence_type")


def _record():  # type: ignore[no-untyped-def]
    from qcompiler.pipeline import PassRecord

    return PassRecord("infer-shapes")


def test_values_of_long_vectors_are_not_propagated() -> None:
    """Inference would hold an object for each of 10**12 elements: this test would not end."""
    before = bare("""g (float[N] x) => (float[A] y) <int64[1] n = {1000000000000}> {
        c = ConstantOfShape(n) d = Add(c, x) y = Cast <to = 1> (d) }""")
    after, _ = transform(before, InferShapes())
    assert shapes(after)["c"] == [10**12]


def test_operators_of_onnx_runtime_stop_nothing() -> None:
    model = bare("""g (float[B, S, 8] x, float[B, L, 8] k, float[B, L, 6] v, float[8] w, float[6, 4] m)
            => (float[A, C, D] y, float[E, F, G] z) {
        n = SimplifiedLayerNormalization <axis = -1> (x, w)
        s, a, b, t = com.microsoft.SkipSimplifiedLayerNormalization (n, x, w)
        r = com.microsoft.QuickGelu (s)
        h = com.microsoft.MultiHeadAttention <num_heads = 2> (r, k, v)
        o = com.microsoft.GroupQueryAttention <num_heads = 2, kv_num_heads = 1> (r, k, v)
        y = MatMul(h, m) z = Add(t, o) }""")
    InferShapes().apply(model, PassRecord("infer-shapes"))
    found = shapes(model)
    assert found["n"] == found["s"] == found["t"] == found["r"] == found["o"] == ["B", "S", 8]
    assert found["h"] == ["B", "S", 6] and found["z"] == ["E", "F", 8]
    assert [node.op for node in model.nodes][1] == "SkipSimplifiedLayerNormalization"
