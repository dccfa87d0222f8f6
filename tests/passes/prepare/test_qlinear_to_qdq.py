"""qlinear-to-qdq: each operator on codes alone beside ONNX Runtime's own kernel for it, then what must stay."""

from __future__ import annotations

import re

import numpy as np
import pytest

from qcompiler import ir
from qcompiler.passes.prepare.qlinear_to_qdq import QlinearToQdq
from tests.graphs import run, transform
from tests.small import graph

rng = np.random.default_rng(3)
X, Y = "float[2, 4, 8, 8] x", "float[N, M, P, Q] y"
CONSTANTS = {
    "xs": np.float32(0.03), "xz": np.uint8(120), "os": np.float32(0.05), "oz": np.uint8(100), "ps": np.float32(0.01),
    "pz": np.uint8(0), "w": rng.integers(-127, 128, (8, 4, 3, 3)).astype(np.int8), "wz": np.zeros(8, np.int8),
    "ws": rng.uniform(0.001, 0.003, 8).astype(np.float32), "b": rng.integers(-4000, 4000, 8).astype(np.int32),
    "m": rng.integers(0, 256, (8, 6)).astype(np.uint8), "ms": rng.uniform(0.002, 0.004, 6).astype(np.float32),
    "mz": rng.integers(120, 136, 6).astype(np.uint8), "c": rng.integers(-900, 900, 6).astype(np.int32),
    "gs": np.float32(0.003), "gz": np.uint8(128), "shape": np.array([2, 2, 16, 8]), "flat": np.array([64, 8]),
    "pads": np.array([0, 0, 1, 1, 0, 0, 1, 1]), "ss": np.float32(1 / 256), "first": np.array([0, 2]),
    "back": np.array([2, 4, 8, 6]),
}  # fmt: skip
IN, OUT = "q = QuantizeLinear(x, xs, xz)", "y = DequantizeLinear(r, os, oz)"


def expanded(body: str) -> tuple[ir.Model, ir.Model, list[str]]:
    contributed = re.sub(r"= (QGemm|QLinear(?!Conv|MatMul))", r"= com.microsoft.\1", body)
    before = graph(contributed, X, Y, CONSTANTS)
    after, records = transform(before, QlinearToQdq())
    return before, after, [refusal.reason for refusal in records[0].refusals]


def steps(before: ir.Model, after: ir.Model, step: float) -> np.ndarray:
    """How many codes the results of both differ by, value by value."""
    feed = {"x": rng.normal(size=(2, 4, 8, 8)).astype(np.float32)}
    return np.abs(run(before, feed)[0] - run(after, feed)[0]) / step


@pytest.mark.parametrize(
    ("body", "op"),
    [
        (f"{IN} r = QLinearConv<pads = [1, 1, 1, 1]>(q, xs, xz, w, ws, wz, os, oz, b) {OUT}", "Conv"),
        (f"{IN} r = QLinearConv(q, xs, xz, w, ws, wz, os, oz) {OUT}", "Conv"),
        (f"{IN} r = QLinearMatMul(q, xs, xz, m, ms, mz, os, oz) {OUT}", "MatMul"),
        (f"{IN} f = Reshape(q, flat) g = QGemm(f, xs, xz, m, ms, mz, c, os, oz) r = Reshape(g, back) {OUT}", "Gemm"),
        (f"{IN} f = Reshape(q, flat) g = QGemm(f, xs, xz, m, ms, mz, c) y = Reshape(g, back)", "Gemm"),
        (f"{IN} r = QLinearAdd(q, xs, xz, q, xs, xz, os, oz) {OUT}", "Add"),
        (f"{IN} r = QLinearMul(q, xs, xz, q, xs, xz, os, oz) {OUT}", "Mul"),
        (f"{IN} r = QLinearConcat<axis = 1>(os, oz, q, xs, xz, q, xs, xz) {OUT}", "Concat"),
        (f"{IN} r = QLinearLeakyRelu<alpha = 0.2>(q, xs, xz, os, oz) {OUT}", "LeakyRelu"),
        (f"{IN} r = QLinearAveragePool<kernel_shape = [2, 2], strides = [2, 2]>(q, xs, xz, os, oz) {OUT}",
         "AveragePool"),
        (f"{IN} r = QLinearGlobalAveragePool(q, xs, xz, os, oz) {OUT}", "GlobalAveragePool"),
    ],
)  # fmt: skip
def test_operators_become_floats_between_pairs(body: str, op: str) -> None:
    before, after, refused = expanded(body)
    assert refused == [] and op in [n.op for n in after.nodes]
    assert {n.op for n in after.nodes} <= {op, "QuantizeLinear", "DequantizeLinear", "Reshape"}
    assert {n.name for n in before.nodes} <= {n.name for n in after.nodes}
    apart = steps(before, after, 0.05)
    assert apart.max() <= 1.01 and (apart > 0.5).mean() < 0.02


@pytest.mark.parametrize(
    ("body", "op"),
    [
        ("r = QLinearSigmoid(q, xs, xz, ss, pz) y = DequantizeLinear(r, ss, pz)", "Sigmoid"),
        ("r = QLinearSoftmax<axis = -1, opset = 21>(q, xs, xz, ss, pz) y = DequantizeLinear(r, ss, pz)", "Softmax"),
    ],
)
def test_functions_by_tables(body: str, op: str) -> None:
    before, after, refused = expanded(f"{IN} {body}")
    assert refused == [] and op in [n.op for n in after.nodes]
    assert steps(before, after, 1 / 256).max() <= 1.01


@pytest.mark.parametrize(
    "body",
    [
        "r = MaxPool<kernel_shape = [3, 3], pads = [1, 1, 1, 1]>(q)", "r = Reshape(q, shape)",
        "r = Transpose<perm = [0, 2, 3, 1]>(q)", "r = Gather<axis = 1>(q, first)", "r = Pad(q, pads, pz)",
        "r = Pad(q, pads, xz)", "r, t = Split<num_outputs = 2>(q)",
    ],
)  # fmt: skip
def test_codes_that_move_are_the_same_codes(body: str) -> None:
    # behind a QLinearAdd, since without operators on codes there is nothing to do
    before, after, refused = expanded(
        f"{IN} {body} s = QLinearAdd(r, xs, xz, r, xs, xz, os, oz) y = DequantizeLinear(s, os, oz)"
    )
    assert refused == []
    moved = next(n for n in after.nodes if n.op == body.split("= ")[1].split("(")[0].split("<")[0])
    assert moved.inputs[0].dtype == np.float32 and moved.outputs[0].outputs[0].op == "QuantizeLinear"
    assert steps(before, after, 0.05).max() <= 1.01


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("k = Relu(xs) r = QLinearAdd(q, k, xz, q, xs, xz, os, oz)", "scale or zero point of .* is computed"),
        ("r = QLinearGlobalAveragePool<channels_last = 1>(q, xs, xz, os, oz)", "channels come last"),
        ("r = QLinearSoftmax<axis = 1, opset = 11>(q, xs, xz, os, oz)", "opsets before 13"),
    ],
)
def test_what_has_no_such_form_stays(body: str, words: str) -> None:
    before, after, refused = expanded(f"{IN} {body} {OUT}")
    assert len(refused) == 1 and re.search(words, refused[0])
    assert [n.op for n in before.nodes] == [n.op for n in after.nodes]
