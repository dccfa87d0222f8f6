"""LSTM in integers: which ones qualify, what is written, and the numbers beside float and ONNX Runtime's own tool."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnxruntime.quantization import QuantType, quantize_dynamic

from qcompiler import ir
from tests.graphs import Arrays, ops, parse, run
from tests.quantized import SPEC, annotate, quantize

STEPS, BATCH, INPUT, HIDDEN = 6, 2, 48, 64


def weights(directions: int = 1, inputs: int = INPUT, hidden: int = HIDDEN) -> dict[str, np.ndarray]:
    """W, R and B with rows of quite different size, as trained networks have."""
    rng = np.random.default_rng(0)
    size = np.exp(rng.normal(size=(directions, 4 * hidden, 1))) / 4
    return {
        "W": (rng.normal(size=(directions, 4 * hidden, inputs)) * size / np.sqrt(inputs)).astype(np.float32),
        "R": (rng.normal(size=(directions, 4 * hidden, hidden)) * size / np.sqrt(hidden)).astype(np.float32),
        "B": rng.normal(size=(directions, 8 * hidden)).astype(np.float32) / 8,
    }


def lstm(
    attrs: str = "", *, directions: int = 1, inputs: str = "x, W, R, B", outputs: str = "y", hidden: int = HIDDEN
) -> ir.Model:
    """One LSTM between the input x and the outputs y, h, c that are named."""
    shapes = {
        "y": f"float[{STEPS},{directions},{BATCH},{hidden}] y",
        "h": f"float[{directions},{BATCH},{hidden}] h",
        "c": f"float[{directions},{BATCH},{hidden}] c",
    }
    results = ", ".join(shapes[name] for name in outputs.split(", ") if name in shapes)
    state = f"float[{directions},{BATCH},{hidden}]"
    return parse(
        f"g (float[{STEPS},{BATCH},{INPUT}] x, {state} h0, {state} c0) => ({results}) {{"
        f"{outputs} = LSTM <hidden_size: int = {hidden}{attrs}> ({inputs}) }}",
        weights(directions, hidden=hidden),
    )


BIDIRECTIONAL = ', direction: string = "bidirectional"'
REVERSE = ', direction: string = "reverse"'


def sqnr(reference: np.ndarray, other: np.ndarray) -> float:
    return float(10 * np.log10((reference**2).sum() / ((reference - other) ** 2).sum()))


@pytest.mark.parametrize("optimize", [False, True])
@pytest.mark.parametrize(
    "model",
    [
        lstm(),
        lstm(outputs="y, h, c", inputs='x, W, R, B, "", h0, c0'),
        lstm(inputs="x, W, R"),
        lstm(REVERSE),
        lstm(BIDIRECTIONAL, directions=2, outputs="y, h"),
    ],
    ids=["forward", "state", "no bias", "reverse", "bidirectional"],
)
def test_the_results_are_those_of_float(model: ir.Model, optimize: bool) -> None:
    found = quantize(model, "w8")
    assert ops(found.model) == ["DynamicQuantizeLSTM"]
    assert "LSTM" not in found.optimised().ops and found.optimised().ops["DynamicQuantizeLSTM"] == 1
    for before, after in zip(run(model, found.feeds[0]), found.outputs(optimize=optimize), strict=True):
        assert before.shape == after.shape and sqnr(before, after) > 33
    assert [t.name for t in found.model.outputs] == [t.name for t in model.outputs]


def test_no_result_but_the_last_state_is_read() -> None:
    model = parse(
        f"g (float[{STEPS},{BATCH},{INPUT}] x) => (float[1,{BATCH},{HIDDEN}] h) {{"
        f'"", h = LSTM <hidden_size: int = {HIDDEN}> (x, W, R, B) }}',
        weights(),
    )
    found = quantize(model, "w8")
    assert ops(found.model) == ["DynamicQuantizeLSTM"]
    assert sqnr(run(model, found.feeds[0])[0], found.outputs()[0]) > 33


def test_no_worse_than_the_tool_of_onnx_runtime(tmp_path: Path) -> None:
    model = lstm()
    found, theirs = quantize(model, "w8"), tmp_path / "theirs.onnx"
    onnx.save(model.to_proto(), tmp_path / "float.onnx")
    quantize_dynamic(tmp_path / "float.onnx", theirs, per_channel=False, weight_type=QuantType.QInt8)
    reference, feed = run(model, found.feeds[0])[0], found.feeds[0]
    other = run(ir.load(theirs), feed)[0]
    assert sqnr(reference, found.outputs()[0]) > sqnr(reference, other) + 3


def test_codes_are_stored_as_the_kernel_multiplies_with_a_scale_for_each_row() -> None:
    found = quantize(lstm(BIDIRECTIONAL, directions=2), "w8")
    node, values = found.model.nodes[0], weights(2)
    w, r, scale = ir.array(node.inputs[1]), ir.array(node.inputs[2]), ir.array(node.inputs[8])
    assert (w.dtype, w.shape, r.shape) == (np.int8, (2, INPUT, 4 * HIDDEN), (2, HIDDEN, 4 * HIDDEN))
    assert scale.shape == ir.array(node.inputs[10]).shape == (2, 4 * HIDDEN)
    assert (scale[0] == scale[1]).all()
    assert np.abs(w * scale[:, None] - values["W"].transpose(0, 2, 1)).max() <= scale.max() / 2 * 1.001
    assert not ir.array(node.inputs[9]).any() and not ir.array(node.inputs[11]).any()
    assert node.domain == "com.microsoft" and found.model.to_proto().opset_import[-1].version == 1


REFUSED = {
    "clip": (lstm(", clip: float = 3.0"), "LSTM 'n0_LSTM' has clip"),
    "input_forget": (lstm(", input_forget: int = 1"), "LSTM 'n0_LSTM' has input_forget"),
    "activations": (
        lstm(', activations: strings = ["Sigmoid", "Relu", "Tanh"]'),
        "LSTM 'n0_LSTM' has activations of its own",
    ),
    "small": (lstm(hidden=16), "LSTM 'n0_LSTM' is small; the integer kernel is no faster than float"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_refusal_says_why(name: str) -> None:
    model, reason = REFUSED[name]
    plan, said = annotate(model, "w8")
    assert said == [f"n0_LSTM: {reason}"] and plan.nodes["n0_LSTM"].reason == reason
    assert not list(plan.quantized())


def test_peepholes_layout_and_computed_weights_are_refused() -> None:
    head = f"g (float[{STEPS},{BATCH},{INPUT}] x, float[1,{4 * HIDDEN},{INPUT}] w) => (float[a,b,c,d] y) {{"
    made = f"LSTM <hidden_size: int = {HIDDEN}> "
    peep: Arrays = {**weights(), "P": np.zeros((1, 3 * HIDDEN), np.float32)}
    cases = {
        f'y = {made} (x, W, R, B, "", "", "", P)': "has peepholes",
        f"y = LSTM <hidden_size: int = {HIDDEN}, layout: int = 1> (x, W, R, B)": "has layout",
        f"y = {made} (x, w, R, B)": "'w' of LSTM 'n0_LSTM' is computed, not constant",
    }
    for text, reason in cases.items():
        plan, _ = annotate(parse(f"{head} {text} }}", peep), "w8")
        assert plan.nodes["n0_LSTM"].precision == "float" and reason in plan.nodes["n0_LSTM"].reason


def test_gru_and_lstm_in_a_subgraph_stay_float() -> None:
    made = f"LSTM <hidden_size: int = {HIDDEN}> (x, W, R, B)"
    gru = {"GW": weights()["W"][:, : 3 * HIDDEN], "GR": weights()["R"][:, : 3 * HIDDEN]}
    model = parse(
        f"g (float[{STEPS},{BATCH},{INPUT}] x, bool c) => (float[i,j,k,l] y, float[m,n,o,p] z) {{"
        f"y = If (c) <then_branch = t () => (float[i,j,k,l] a) {{ a = {made} }}, "
        f"else_branch = e () => (float[i,j,k,l] b) {{ b = {made} }}>"
        f"z = GRU <hidden_size: int = {HIDDEN}> (x, GW, GR) }}",
        {**weights(), **gru},
    )
    plan, _ = annotate(model, "w8")
    reasons = {node.op: plan.nodes[node.name].reason for node in model.all_nodes()}
    assert reasons["GRU"] == "there is no integer kernel, static or dynamic"
    assert reasons["LSTM"] == "inside a subgraph of If n0_If, which stays float"
    assert not list(plan.quantized())


def test_int8_says_where_an_lstm_is_quantized() -> None:
    plan, _ = annotate(lstm(), "int8")
    assert plan.nodes["n0_LSTM"].reason == "there is no static integer kernel; w8 and mixed quantize it as it runs"
    assert {rule.name for rule in SPEC.schemes["mixed"]} >= {"conv", "dynamic-matrix", "dynamic-lstm"}
