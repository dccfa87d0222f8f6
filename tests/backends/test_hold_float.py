"""hold-float: what the plan leaves in float, ONNX Runtime computes in float, and the other way round."""

from __future__ import annotations

import numpy as np
import pytest

from qcompiler import ir
from qcompiler.backends.onnxruntime.hold_float import HoldFloat
from qcompiler.pipeline import PassRecord, Pipeline
from tests.graphs import run
from tests.quantized import Quantized, quantize
from tests.small import FIRST, SAME, graph


def held(found: Quantized) -> list[str]:
    return [note.split(" held: ")[0] for note in found.notes if " held: " in note]


def compare(body: str, keep_float: tuple[str, ...] = (), **options: object) -> tuple[Quantized, Quantized]:
    """The compiled graph without and with what this file is about."""
    model = graph(body, **options)  # type: ignore[arg-type]
    return quantize(model, keep_float=keep_float, legalise=False), quantize(model, keep_float=keep_float)


def assert_near(found: Quantized) -> None:
    """Optimised, the graph computes what it computes unoptimised, and that is near the float model."""
    for sample, feed in enumerate(found.feeds):
        expected = np.asarray(run(found.before, feed)[0])
        off, on = (np.asarray(found.outputs(optimize=o, sample=sample)[0]) for o in (False, True))
        span = np.abs(expected).max()
        np.testing.assert_allclose(on, off, atol=0.02 * span)
        np.testing.assert_allclose(on, expected, atol=0.06 * span)


ISLANDS = {
    "conv": f"{FIRST} r = Relu(a) i = Conv{SAME}(r, v, c) y = Conv(i, v)",
    "conv and relu": f"{FIRST} r = Relu(a) i = Conv{SAME}(r, v, c) t = Relu(i) y = Conv(t, v)",
    "conv and clip": f"{FIRST} r = Relu(a) i = Conv{SAME}(r, v, c) t = Clip(i, zero, six) y = Conv(t, v)",
    "conv, scale and shift": f"{FIRST} i = Conv{SAME}(a, v) t = Mul(i, half) q = Add(t, channel) y = Conv(q, v)",
    "conv and pool": f"{FIRST} r = Relu(a) i = Conv(r, v, c) t = MaxPool<kernel_shape = [2, 2]>(i) y = Conv(t, v)",
    "conv behind a move": f"""{FIRST} r = Transpose<perm = [0, 1, 3, 2]>(a) i = Conv{SAME}(r, v, c) t = Tanh(r)
                              z = Conv(t, v) y = Conv(i, v)""",
}


@pytest.mark.parametrize("case", ISLANDS)
def test_a_float_conv_keeps_its_weights(case: str) -> None:
    outputs = "float[N, M, P, Q] y" + (", float[N, M, P, Q] z" if "z = " in ISLANDS[case] else "")
    without, found = compare(ISLANDS[case], ("Conv_i",), outputs=outputs)
    assert [(s.node, s.runs_as) for s in without.optimised().surprises] == [("Conv_i", "QLinearConv")]
    assert "its weights per tensor" in without.optimised().surprises[0].rule
    assert "Conv 'Conv_i'" in held(found)
    conformance = found.optimised()
    assert conformance.surprises == ()
    assert conformance.ops["Conv"] == 1
    assert conformance.fallback == ()
    # the hold behind the Conv is computed inside it; the one behind a pool is not
    assert conformance.ops.get("LeakyRelu", 0) == conformance.ops.get("MaxPool", 0)
    assert_near(found)


def test_a_float_conv_that_is_an_output_besides_keeps_its_weights() -> None:
    body, outputs = f"{FIRST} i = Conv{SAME}(a, v, c) y = Conv(i, v)", "float[N, M, P, Q] y, float[N, M, R, S] i"
    without, found = compare(body, ("Conv_i",), outputs=outputs)
    assert [s.node for s in without.optimised().surprises] == ["Conv_i"]
    assert found.optimised().surprises == ()
    assert [t.name for t in found.model.outputs] == ["y", "i"]
    assert_near(found)


def test_a_float_conv_between_float_nodes_is_not_held() -> None:
    _, found = compare(f"{FIRST} t = Tanh(a) i = Conv{SAME}(t, v, c) u2 = Tanh(i) y = Conv(u2, v)", ("Conv_i",))
    assert held(found) == []
    _, found = compare("i = Conv(x, w, b) y = Conv(i, v)", ("Conv_i",))
    assert held(found) == []


@pytest.mark.parametrize("bias", [", c", ""])
def test_a_float_conv_transpose_keeps_its_weights(bias: str) -> None:
    body = f"{FIRST} i = ConvTranspose<strides = [2, 2]>(a, t2{bias}) r = Relu(i) y = Conv(r, v)"
    without, found = compare(body)
    assert [(s.node, s.runs_as) for s in without.optimised().surprises] == [("ConvTranspose_i", "ConvTranspose")]
    assert "dequantizes them at every run" in without.optimised().surprises[0].rule
    assert held(found) == ["ConvTranspose 'ConvTranspose_i'"]
    assert found.optimised().surprises == ()
    assert "LeakyRelu" not in found.optimised().ops
    assert_near(found)


def test_a_pinned_bias_is_exact() -> None:
    values = np.array([0, -0.0, 1e-30, -3.25, 7, 1e30, -1e-3, 0.1], np.float32)
    body = f"{FIRST} i = ConvTranspose<strides = [2, 2]>(a, t2, odd) y = Conv(i, v)"
    model = graph(body, constants={"odd": values})
    found = quantize(model)
    dequantizer = found.model.find("ConvTranspose_i_bias_dq")
    assert dequantizer is not None
    codes, scale = (ir.array(t) for t in dequantizer.inputs)
    np.testing.assert_array_equal(codes.astype(np.float32) * scale, values)
    assert (scale > 0).all()


@pytest.mark.parametrize(
    ("node", "kernel"),
    [
        ("AveragePool<kernel_shape = [2, 2]>(a)", "QLinearAveragePool"),
        ("Softmax<axis = 1>(a)", "QLinearSoftmax"),
    ],
)
def test_operators_with_slow_integer_kernels_stay_float(node: str, kernel: str) -> None:
    without, found = compare(f"{FIRST} s = {node} y = Conv(s, v)")
    assert kernel in without.optimised().ops
    assert [s.runs_as for s in without.optimised().surprises] == [kernel]
    assert kernel not in found.optimised().ops
    assert found.optimised().ops[kernel.removeprefix("QLinear")] == 1
    assert found.optimised().surprises == ()
    assert_near(found)


def test_an_average_behind_which_values_only_move() -> None:
    body = f"{FIRST} s = AveragePool<kernel_shape = [16, 16]>(a) f = Reshape(s, flat) y = Gemm(f, m8, n)"
    without, found = compare(body, outputs="float[P, Q] y", constants={"flat": np.array([1, 8])})
    assert "QLinearAveragePool" in without.optimised().ops
    assert "QLinearAveragePool" not in found.optimised().ops
    assert_near(found)


KEPT = {
    "sigmoid": (f"{FIRST} s = Sigmoid(a) y = Conv(s, v)", "QLinearSigmoid", "Sigmoid"),
    "leaky relu": (f"{FIRST} s = LeakyRelu(a) y = Conv(s, v)", "QLinearLeakyRelu", "LeakyRelu"),
    "add": (f"{FIRST} d = Conv{SAME}(x, w, c) s = Add(a, d) y = Conv(s, v)", "QLinearAdd", "Add"),
    "mul": (f"{FIRST} d = Conv{SAME}(x, w, c) s = Mul(a, d) y = Conv(s, v)", "QLinearMul", "Mul"),
    "concat": (f"{FIRST} d = Conv{SAME}(x, w, c) s = Concat<axis = 1>(a, d) y = Conv(s, u)", "QLinearConcat", "Concat"),
    "pool": (f"{FIRST} s = GlobalAveragePool(a) y = Conv(s, k)", "QLinearGlobalAveragePool", "GlobalAveragePool"),
}


@pytest.mark.parametrize("case", KEPT)
def test_what_the_user_keeps_float_is_computed_in_float(case: str) -> None:
    body, kernel, op = KEPT[case]
    without, found = compare(body, (f"{op}_s",))
    assert kernel in without.optimised().ops
    assert [(s.node, s.runs_as) for s in without.optimised().surprises] == [(f"{op}_s", kernel)]
    assert kernel not in found.optimised().ops
    assert found.optimised().surprises == ()
    assert_near(found)


def test_a_pool_behind_a_float_stem() -> None:
    body = f"{FIRST} r = Relu(a) s = MaxPool<kernel_shape = [2, 2]>(r) y = Conv(s, v)"
    without, found = compare(body, ("Conv_a",))
    assert [(s.node, s.runs_as) for s in without.optimised().surprises] == [("MaxPool_s", "MaxPool")]
    assert held(found) == ["MaxPool 'MaxPool_s'"]
    assert found.optimised().surprises == ()
    assert_near(found)


# ---- integer products whose result stays float
PRODUCTS = {
    "relu, then float": ("p = MatMul(x, m) r = Relu(p) y = Tanh(r)", "MatMul 'MatMul_p'"),
    "gemm, relu, then float": ("p = Gemm(x, m, n) r = Relu(p) y = Tanh(r)", "Gemm 'Gemm_p'"),
    "clip, then float": ("p = MatMul(x, m) r = Clip(p, one, five) y = Tanh(r)", "MatMul 'MatMul_p'"),
    "integer and float readers": ("p = MatMul(x, m) t = Tanh(p) y = MatMul(p, mm)", "MatMul 'MatMul_p'"),
    "gemm with both readers": ("p = Gemm(x, m, n) t = Tanh(p) y = MatMul(p, mm)", "Gemm 'Gemm_p'"),
}


@pytest.mark.parametrize("case", PRODUCTS)
def test_integer_products_stay_integer(case: str) -> None:
    body, name = PRODUCTS[case]
    outputs = "float[P, Q] y" + (", float[P, R] t" if "t = " in body else "")
    without, found = compare(body, inputs="float[5, 16] x", outputs=outputs)
    assert [f.node for f in without.optimised().fallback] == [name.split("'")[1]]
    assert held(found) == [name]
    assert found.optimised().fallback == ()
    assert_near(found)


def test_a_product_that_is_an_output_and_read_in_integers() -> None:
    body = "p = MatMul(x, m) y = MatMul(p, mm)"
    without, found = compare(body, inputs="float[5, 16] x", outputs="float[P, Q] y, float[P, R] p")
    assert [f.node for f in without.optimised().fallback] == ["MatMul_p"]
    assert found.optimised().fallback == ()
    assert [t.name for t in found.model.outputs] == ["y", "p"]


@pytest.mark.parametrize(
    "body",
    [
        "p = Gemm(x, m, n) r = Relu(p) y = Gemm(r, mm, nn)",
        "p = MatMul(x, m) y = Relu(p)",
        "p = MatMul(x, m) r = Relu(p) t = Tanh(r) z = Sin(r) y = Add(t, z)",
        "p = MatMul(x, m) t = Tanh(p) z = Sin(p) y = Add(t, z)",
        "p = MatMul(x, m) d = MatMul(p, mm) y = Tanh(d)",
    ],
)
def test_products_that_onnx_runtime_keeps_integer_are_not_held(body: str) -> None:
    _, found = compare(body, inputs="float[5, 16] x", outputs="float[P, Q] y")
    assert held(found) == []
    assert found.optimised().fallback == ()


def test_a_float_graph_is_left_alone() -> None:
    model = graph(f"{FIRST} r = Relu(a) y = Conv(r, v)")
    before = model.to_proto().SerializeToString()
    pipeline = Pipeline()
    pipeline.graph(model, [HoldFloat({})])
    record: PassRecord = pipeline.trace.records[-1]
    assert record.changes == 0
    assert model.to_proto().SerializeToString() == before
