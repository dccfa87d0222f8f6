"""16-bit graphs: types, what stays in float32, masks."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from qcompiler import ir
from qcompiler.backends.tensorrt.soften_masks import SoftenMasks
from qcompiler.backends.tensorrt.to_half import ToHalf
from qcompiler.numerics.histogram import Histogram
from qcompiler.pipeline import Pipeline
from tests.graphs import run
from tests.quantized import Seen

F16, F32 = np.dtype(np.float16), np.dtype(np.float32)


def parsed(text: str, opset: int = 21, **constants: np.ndarray) -> ir.Model:
    proto = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : {opset}]> {text}')
    for number, node in enumerate(proto.graph.node):
        node.name = f"{node.op_type}{number}"
    for name, values in constants.items():
        proto.graph.initializer.append(onnx.numpy_helper.from_array(values, name))
    return ir.Model.from_proto(onnx.shape_inference.infer_shapes(proto))


def halved(model: ir.Model, seen: dict[str, float] | None = None, *, bf16: bool = False) -> tuple[ir.Model, list[str]]:
    after, pipeline, masks = model.copy(), Pipeline(), SoftenMasks()
    histograms = {name: Histogram.empty().update(np.float32([0, top])) for name, top in (seen or {}).items()}
    pipeline.graph(after, [masks, ToHalf(bf16, Seen(histograms) if seen else None, masks.values)])
    onnx.checker.check_model(after.to_proto(), full_check=True)
    return after, pipeline.trace.notes


def types(model: ir.Model) -> dict[str, np.dtype]:
    return {node.name: np.dtype(node.outputs[0].dtype) for node in model.nodes if node.op != "Cast"}


def test_inputs_and_outputs_keep_their_types_and_names() -> None:
    before = parsed("g (float[2, 3] x) => (float[2, 3] y, float[2, 3] z) { a = Relu(x) y = Tanh(a) z = Add(y, x) }")
    after, _ = halved(before)
    assert [(t.name, t.dtype) for t in [*after.inputs, *after.outputs]] == [("x", F32), ("y", F32), ("z", F32)]
    assert set(types(after).values()) == {F16}
    assert [node.op for node in after.nodes].count("Cast") == 3  # x once, two outputs
    feed = {"x": np.random.default_rng(0).normal(size=(2, 3)).astype(np.float32)}
    for one, other in zip(run(before, feed), run(after, feed), strict=True):
        np.testing.assert_allclose(one, other, atol=2e-3)


def test_values_beyond_the_limit_keep_their_nodes_in_float32() -> None:
    before = parsed("g (float[4] x) => (float[4] y) { a = Mul(x, x) b = Relu(a) c = Sqrt(b) y = Tanh(c) }")
    after, notes = halved(before, {"x": 300, "a": 90000, "b": 90000, "c": 300, "y": 1})
    assert types(after) == {"Mul0": F32, "Relu1": F32, "Sqrt2": F32, "Tanh3": F16}
    assert any("'a' reaches 9e+04, beyond 3e+04" in note for note in notes)
    feed = {"x": np.float32([300, 1, 2, 3])}
    np.testing.assert_allclose(run(before, feed)[0], run(after, feed)[0], atol=1e-3)


@pytest.mark.parametrize(("value", "words"), [(1e-12, "becomes 0"), (1e6, "becomes infinite")])
def test_constants_that_float16_cannot_hold(value: float, words: str) -> None:
    after, notes = halved(parsed("g (float[4] x) => (float[4] y) { y = Add(x, e) }", e=np.float32([value])))
    assert types(after) == {"Add0": F32} and words in notes[0]


def test_masks_become_what_float16_holds() -> None:
    lowest = np.asarray(np.finfo(np.float32).min)
    before = parsed(
        "g (float[2, 8] x, float[2, 8] keep) => (float[2, 8] y) "
        "{ i = Sub(one, keep) m = Mul(i, low) s = Add(x, m) y = Softmax<axis = -1>(s) }",
        one=np.asarray(1, np.float32), low=lowest,
    )  # fmt: skip
    after, notes = halved(before, {"x": 5, "keep": 1, "i": 1, "m": 3e38, "s": 3e38, "y": 1})
    assert any("mask 'low'" in note for note in notes) and set(types(after).values()) == {F16}
    keep = np.float32([[1, 1, 0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0, 0, 0]])
    feed = {"x": np.random.default_rng(0).normal(size=(2, 8)).astype(np.float32), "keep": keep}
    (got,) = run(after, feed)
    assert np.isfinite(got).all()
    np.testing.assert_allclose(run(before, feed)[0][0], got[0], atol=2e-3)


def test_a_large_constant_that_is_no_mask_is_left_alone() -> None:
    before = parsed("g (float[4] x) => (float[4] y) { y = Mul(x, big) }", big=np.asarray(1e6, np.float32))
    _, notes = halved(before)
    assert not any("mask" in note for note in notes)


def test_positions_and_angles_stay_in_float32() -> None:
    before = parsed(
        "g (float[2, 16] x) => (float[2, 16] y) { n = Shape(x) f = Cast<to = 1>(n) t = ReduceSum<keepdims = 0>(f) "
        "a = Mul(x, t) c = Cos(a) y = Mul(c, x) }"
    )
    after, _ = halved(before)
    found = types(after)
    assert found["ReduceSum2"] == found["Mul3"] == found["Cos4"] == F32 and found["Mul5"] == F16


def test_a_scale_that_is_no_normal_float16() -> None:
    body = "g (float[4] x) => (float[4] y) { q = QuantizeLinear(x, s, z) d = DequantizeLinear(q, s, z) y = Relu(d) }"
    for scale, wanted in ((0.01, F16), (1e-6, F32)):
        after, _ = halved(parsed(body, s=np.asarray(scale, np.float32), z=np.asarray(0, np.int8)))
        assert types(after)["DequantizeLinear1"] == wanted and types(after)["Relu2"] == F16


def test_an_operator_of_onnx_runtime_in_the_domain_of_onnx_stays_in_float32() -> None:
    """The builder of onnxruntime-genai writes norms so; the standard does not know them."""
    before = parsed(
        "g (float[2, 4] x) => (float[2, 4] y) <float[2, 4] n> "
        "{ a = Relu(x) n = SimplifiedLayerNormalization(a, s) y = Tanh(n) }",
        s=np.ones(4, np.float32),
    )  # fmt: skip
    after, pipeline = before.copy(), Pipeline()
    pipeline.graph(after, [ToHalf(bf16=False)])
    assert types(after) == {"Relu0": F16, "SimplifiedLayerNormalization1": F32, "Tanh2": F16}
    feed = {"x": np.random.default_rng(0).normal(size=(2, 4)).astype(np.float32)}
    np.testing.assert_allclose(run(before, feed)[0], run(after, feed)[0], atol=2e-3)


def test_ports_that_onnx_wants_in_float32() -> None:
    before = parsed(
        'g (float[1, 2, 4, 4] x) => (float[1, 2, 8, 8] y) { y = Resize<mode = "nearest">(x, , s) }',
        s=np.float32([1, 1, 2, 2]),
    )  # fmt: skip
    after, _ = halved(before)
    (resize,) = [node for node in after.nodes if node.op == "Resize"]
    assert resize.outputs[0].dtype == F16 and resize.inputs[2].dtype == F32


def test_bfloat16_needs_opset_22() -> None:
    after, _ = halved(parsed("g (float[1, 2, 4, 4] x) => (float[1, 2, 4, 4] y) { y = Relu(x) }"), bf16=True)
    assert after.opset == 22 and str(types(after)["Relu0"]) == "bfloat16"


def test_recurrence_over_lengths_stays_in_float32() -> None:
    rng = np.random.default_rng(0)
    weights = {"w": rng.normal(size=(1, 9, 4)), "r": rng.normal(size=(1, 9, 3)), "b": rng.normal(size=(1, 18))}
    constants = {name: values.astype(np.float32) for name, values in weights.items()}
    text = (
        "g (float[5, 2, 4] x, int32[2] n) => (float[5, 1, 2, 3] y) "
        "{ a = Relu(x) y = GRU<hidden_size = 3>(a, w, r, b%s) }"
    )
    after, notes = halved(parsed(text % ", n", **constants))
    assert types(after) == {"Relu0": F16, "GRU1": F32} and any("lengths" in note for note in notes)
    after, _ = halved(parsed(text % "", **constants))
    assert types(after) == {"Relu0": F16, "GRU1": F16}
