"""The stream of residuals is rotated without a trace in what the model computes, whole or not at all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import numpy_helper

from qcompiler import Recipe, compile, ir
from qcompiler.numerics.rotation import rotation
from qcompiler.passes.condition.rotate_residual import RotateResidual
from qcompiler.passes.prepare.infer_shapes import InferShapes
from qcompiler.passes.prepare.name_everything import NameEverything
from qcompiler.pipeline import PassRecord, Pipeline
from tests.graphs import run

DOCS = Path(__file__).resolve().parents[3] / "models" / "docs_llama"
HEAD = (
    '<ir_version: 10, opset_import: ["" : 21, "com.microsoft" : 1]> g (int64[b, n] ids) => (float[b, n, 40] logits) {'
)
WRITTEN = """
  x = Gather(table, ids)
  square = Mul(x, x)  mean = ReduceMean <keepdims = 1> (square, axis)  more = Add(mean, eps)  root = Sqrt(more)
  even = Div(x, root)  normed = Mul(even, gamma)
  size = Shape(normed)
  up = MatMul(normed, first)  acted = Relu(up)  down = MatMul(acted, second)  biased = Add(bias, down)
  y = Add(x, biased)
  square2 = Pow(y, two)  mean2 = ReduceMean <keepdims = 1> (square2, axis)  more2 = Add(mean2, eps)  root2 = Sqrt(more2)
  one = Reciprocal(root2)  even2 = Mul(one, y)  normed2 = Mul(gamma, even2)
  logits = MatMul(normed2, head)
}"""
FUSED = """
  x = Gather(table, ids)
  normed = SimplifiedLayerNormalization <axis = -1, epsilon = 1e-5, stash_type = 1> (x, gamma)
  up = MatMul(normed, first)  acted = Relu(up)  down = MatMul(acted, second)
  normed2, none, neither, y = com.microsoft.SkipSimplifiedLayerNormalization <epsilon = 1e-5> (down, x, gamma)
  up2 = MatMul(normed2, first)  acted2 = Relu(up2)  down2 = MatMul(acted2, second)
  normed3 = com.microsoft.SkipSimplifiedLayerNormalization <epsilon = 1e-5> (down2, y, gamma)
  logits = MatMul(normed3, head)
}"""


def made(text: str) -> ir.Model:
    rng = np.random.default_rng(0)
    proto = onnx.parser.parse_model(HEAD + text)
    for node in proto.graph.node:
        for place, name in enumerate(node.output):
            node.output[place] = "" if name in ("none", "neither") else name
        for output in node.output if "Normalization" in node.op_type else ():
            if output:  # shape inference does not know these; exporters state what they give
                proto.graph.value_info.append(onnx.helper.make_tensor_value_info(output, 1, ["b", "n", 48]))
    table = rng.standard_normal((40, 48)).astype(np.float32)
    table[:, 7] *= 30
    shapes = {"first": (48, 64), "second": (64, 48), "bias": (48,)}
    values = {name: rng.standard_normal(shape) / 7 for name, shape in shapes.items()}
    values |= {"table": table, "head": table.T, "gamma": 1 + rng.random(48), "eps": np.array(1e-5), "two": np.array(2)}
    floats = {name: np.ascontiguousarray(value, np.float32).reshape(value.shape) for name, value in values.items()}
    used = {name for node in proto.graph.node for name in node.input}
    constants = [*floats.items(), ("axis", np.array([-1], np.int64))]
    proto.graph.initializer.extend(numpy_helper.from_array(v, k) for k, v in constants if k in used)
    model = ir.Model.from_proto(proto)
    Pipeline().graph(model, [NameEverything(), InferShapes()])
    return model


def rotated(model: ir.Model) -> PassRecord:
    record = PassRecord(RotateResidual.name)
    RotateResidual().apply(model, record)
    return record


@pytest.mark.parametrize("text", [WRITTEN, FUSED])
def test_the_function_stays_and_outliers_go(text: str) -> None:
    model = made(text)
    before, feed = model.copy(), {"ids": np.arange(12).reshape(2, 6)}
    record = rotated(model)
    assert record.changes > 4 and not record.refusals
    (wanted,), (got,) = run(before, feed), run(model, feed)
    np.testing.assert_allclose(got, wanted, rtol=2e-4, atol=2e-4)
    table = next(ir.array(node.inputs[0]) for node in model.nodes if node.op == "Gather")
    largest = np.abs(table).max(0)
    assert largest.max() < 4 * np.median(largest)
    factors = [ir.array(node.inputs[-1]) for node in model.nodes if "Normalization" in node.op]
    assert len(factors) == (3 if text is FUSED else 0) and all((factor == 1).all() for factor in factors)
    assert text is FUSED or sum(node.op == "Mul" for node in model.nodes) == 2  # those of gamma are gone


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("logits = MatMul(normed2, head)", "z = MatMul(y, head)  logits = Add(z, z)  w = Relu(y)", "Relu"),
        ("y = Add(x, biased)", "y = Add(normed, biased)", "is read by Add"),
        ("acted = Relu(up)", "acted = Relu(up)  also = Relu(normed)", "is read by Relu"),
        ("normed2 = Mul(gamma, even2)", "normed2 = LayerNormalization(y, gamma)", "LayerNormalization"),
        ("even = Div(x, root)", "bent = Tanh(x)  even = Div(bent, root)", "Tanh"),
    ],
)
def test_what_does_not_commute_forbids_it(old: str, new: str, why: str) -> None:
    assert old in WRITTEN
    model = made(WRITTEN.replace(old, new))
    text = ir.to_text(model)
    record = rotated(model)
    assert not record.changes and why in record.refusals[0].reason and "nothing was rotated" in record.notes[0]
    assert ir.to_text(model) == text


@given(st.integers(1, 96), st.integers(0, 3))
def test_the_matrix_is_orthogonal_and_even(width: int, seed: int) -> None:
    q = rotation(width, seed)
    np.testing.assert_allclose(q @ q.T, np.eye(width), atol=1e-12)
    odd = width // (width & -width)
    assert np.abs(q).max() <= np.sqrt((2 if odd > 1 else 1) / width) + 1e-12


def test_a_compile_with_it_keeps_what_the_model_says() -> None:
    recipe = Recipe(
        precision="w4", weight_method="rtn", metric="kl", samples=2, max_drop="none", bench_seconds=0,
        algorithms={"rotate": True}, options={"bits": 8, "accuracy_level": 0},
    )  # fmt: skip
    report = compile(DOCS / "model.onnx", "onnxruntime", str(DOCS / "calibration.npz"), recipe=recipe).report
    line = next(line for line in report.passes if line.name == RotateResidual.name)
    assert line.changes == 44 and report.language["kl"] < 1e-3
