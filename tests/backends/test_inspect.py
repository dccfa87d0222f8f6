"""inspect: what ONNX Runtime's optimised graphs say, node by node."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import pytest

from qcompiler import ir
from qcompiler.backends.conformance import Conformance
from qcompiler.backends.onnxruntime.inspect import conformance, origin_of
from qcompiler.errors import ModelError
from qcompiler.quant import NodePlan
from tests.quantized import BACKEND, quantize
from tests.small import FIRST, SAME, graph

MATRIX = {"inputs": "float[5, 16] x", "outputs": "float[P, Q] y"}


def counts(found: Conformance) -> tuple[int, int, int]:
    return found.integer_nodes, found.float_nodes, found.boundaries


def planned(model: ir.Model, *integer: str) -> dict[str, NodePlan]:
    """A plan by hand: the named nodes in integers, all others float."""
    return {n.name: NodePlan("int8" if n.name in integer else "float", "rule", "why") for n in model.nodes}


@pytest.mark.parametrize(
    ("name", "ours"),
    [
        ("Conv_a", "Conv_a"),
        ("Conv_a_token_12", "Conv_a"),
        ("a_dequantize/duplicated_token_1", "a_dequantize"),
        ("/layer/MatMul/MatMulAddFusion", "/layer/MatMul"),
        ("p/MatMulAddFusion_token_3", "p"),
        ("fused Gemm_p", "Gemm_p"),
        ("y_nchwc", "y"),
        ("my_token_holder", "my_token_holder"),
        ("", ""),
    ],
)
def test_names(name: str, ours: str) -> None:
    assert origin_of(name) == ours


GRAPHS: Mapping[str, tuple[str, dict[str, str], tuple[int, int, int]]] = {
    # two Transposes of uint8 stand around the QLinearConvs
    "convs": (f"{FIRST} r = Relu(a) y = Conv(r, v)", {}, (4, 0, 2)),
    "residual": (f"{FIRST} d = Conv{SAME}(a, v) s = Add(a, d) t = Relu(s) y = Conv(t, v)", {}, (6, 0, 2)),
    "pool and gemm": (
        f"{FIRST} p = GlobalAveragePool(a) f = Flatten(p) y = Gemm(f, m8, n)",
        {"outputs": "float[P, Q] y"},
        (6, 0, 1),
    ),
    "moves": (
        f"{FIRST} s = MaxPool<kernel_shape = [2, 2]>(a) t = Slice(s, start, end, axis) y = Conv(t, h)",
        {},
        (6, 0, 2),
    ),
    "gemm with float result": ("p = Gemm(x, m, n) y = Tanh(p)", MATRIX, (1, 1, 1)),
    "gemm with uint8 result": ("p = Gemm(x, m, n) r = Relu(p) y = Gemm(r, mm, nn)", MATRIX, (2, 0, 1)),
    "product with float result": ("p = MatMul(x, m) t = Tanh(p) y = Sin(t)", MATRIX, (1, 2, 1)),
    "float between": (f"{FIRST} t = Tanh(a) y = Conv(t, v)", {}, (4, 1, 4)),
}


@pytest.mark.parametrize("case", GRAPHS)
def test_counts(case: str) -> None:
    body, ends, expected = GRAPHS[case]
    found = quantize(graph(body, **ends)).optimised()  # type: ignore[arg-type]
    assert counts(found) == expected
    assert sum(found.ops.values()) == sum(expected)
    assert (found.fallback, found.surprises) == ((), ())


def test_dynamic_counts() -> None:
    one = quantize(graph("y = MatMul(x, m)", **MATRIX), "w8").optimised()
    assert counts(one) == (1, 0, 0)
    other = np.random.default_rng(0).normal(size=(16, 10)).astype(np.float32)
    shared = quantize(
        graph("a = MatMul(x, m) d = MatMul(x, sq) y = Add(a, d)", **MATRIX, constants={"sq": other}), "w8"
    ).optimised()
    assert shared.ops["MatMulIntegerToFloat"] == 2
    assert counts(shared) == (2, 1, 1)


def broken_relu() -> tuple[ir.Model, dict[str, NodePlan]]:
    """Q behind Relu with zero point 128: the trap of rule 4."""
    found = quantize(graph(f"{FIRST} r = Relu(a) y = Conv(r, v)"))
    zero = next(c for c in found.model.constants() if c.name == "r_zero_point")
    edit = ir.Editor(found.model, found.model.graph)
    other = edit.constant("wrong", np.uint8(128))
    for node in list(zero.outputs):
        if node.inputs[0].name in ("r", "r_q"):
            edit.set_input(node, 2, other)
    return found.model, dict(found.plan.nodes)


def test_a_fallback_names_node_kernel_and_rule() -> None:
    model, plan = broken_relu()
    found = BACKEND.inspect(model, plan)
    assert [(f.node, f.runs_as) for f in found.fallback] == [("Conv_a", "FusedConv")]
    assert found.fallback[0].rule == (
        "float kernel behind DequantizeLinear: its output is not quantized, or not by one Q alone"
    )


def test_a_gemm_with_a_float_bias_is_named() -> None:
    model = graph("p = MatMul(x, m) y = Add(p, n)", "float[2, 5, 16] x", "float[B, P, Q] y")
    found = quantize(model, legalise=False).optimised()
    assert [(f.node, f.runs_as) for f in found.fallback] == [("MatMul_p", "Gemm")]
    assert found.fallback[0].rule.startswith("a float bias keeps Gemm in float")


def test_a_fused_gemm_is_named_after_ours() -> None:
    found = quantize(graph("p = Gemm(x, m, n) r = Relu(p) y = Tanh(r)", **MATRIX), legalise=False).optimised()
    assert [(f.node, f.runs_as) for f in found.fallback] == [("Gemm_p", "FusedGemm")]
    assert found.fallback[0].rule.startswith("float kernel behind DequantizeLinear")


def test_what_is_planned_float_and_runs_in_integers_is_a_surprise() -> None:
    found = quantize(graph(f"{FIRST} s = Sigmoid(a) y = Conv(s, v)"), legalise=False)
    plan = {**found.plan.nodes, "Sigmoid_s": NodePlan("float", "float", "wish")}
    surprises = BACKEND.inspect(found.model, plan).surprises
    assert [(s.node, s.runs_as, s.rule) for s in surprises] == [
        ("Sigmoid_s", "QLinearSigmoid", "planned in float; ONNX Runtime quantized it")
    ]


def test_moves_that_run_on_uint8_are_no_surprise() -> None:
    found = quantize(graph(f"{FIRST} s = Transpose<perm = [0, 1, 3, 2]>(a) y = Tanh(s)"))
    assert found.plan.nodes["Transpose_s"].precision == "float"
    assert found.optimised().surprises == ()


def test_subgraphs_are_looked_at() -> None:
    inner = onnx.parser.parse_graph("inner () => (float[4] q) { q = Relu(p) }")
    outer = onnx.parser.parse_graph("g (float[4] p, bool c) => (float[4] y) { y = Relu(p) }")
    branch = onnx.helper.make_node("If", ["c"], ["z"], then_branch=inner, else_branch=inner)
    outer.node.append(branch)
    found = conformance(outer, {})
    assert dict(found.ops) == {"If": 1, "Relu": 3}


def test_a_float_model_has_nothing_to_report() -> None:
    model = graph(f"{FIRST} r = Relu(a) y = Conv(r, v)")
    found = BACKEND.inspect(model, planned(model))
    assert found.integer_nodes == found.boundaries == 0
    assert (found.fallback, found.surprises) == ((), ())


def test_a_model_that_onnx_runtime_refuses() -> None:
    model = graph("y = Conv(x, w)")
    model.nodes[0].op = "Convolve"
    with pytest.raises(ModelError, match="ONNX Runtime cannot load the model"):
        BACKEND.inspect(model, {})


def test_weights_outside_the_file(tmp_path: Path) -> None:
    folder = tmp_path
    weight = np.random.default_rng(0).normal(size=(256, 512)).astype(np.float32)
    constants = {"big": weight, "bias": np.ones(512, np.float32)}
    found = quantize(graph("p = Gemm(x, big, bias) y = Tanh(p)", "float[2, 256] x", "float[P, Q] y", constants))
    proto = found.model.to_proto()
    onnx.save(proto, folder / "m.onnx", save_as_external_data=True, location="m.bin", size_threshold=64)
    model = ir.load(folder / "m.onnx")
    assert counts(BACKEND.inspect(model, found.plan.nodes)) == (1, 1, 1)
