"""Dynamic matrix products: exact integer arithmetic, one DynamicQuantizeMatMul in ONNX Runtime."""

from __future__ import annotations

import numpy as np
import pytest

from qcompiler import ir
from tests.graphs import ops, run
from tests.quantized import Quantized, quantize
from tests.small import graph

ROWS, CUBE = "float[5, 16] x", "float[2, 5, 16] x"


def dynamic(body: str, inputs: str = ROWS, outputs: str = "float[P, Q] y") -> Quantized:
    return quantize(graph(body, inputs, outputs), "w8")


def codes(x: np.ndarray) -> tuple[np.ndarray, np.float32, np.uint8]:
    """DynamicQuantizeLinear as the ONNX operator standard states it."""
    low, high = min(float(x.min()), 0.0), max(float(x.max()), 0.0)
    scale = np.float32((np.float32(high) - np.float32(low)) / np.float32(255))
    zero = np.uint8(np.clip(np.rint(np.float32(0 - low) / scale), 0, 255))
    return np.clip(np.rint(x / scale) + zero, 0, 255).astype(np.uint8), scale, zero


def reference(x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None = None) -> np.ndarray:
    """x W + b with uint8 rows and int8 columns."""
    scales = (np.abs(weight).max(0).astype(np.float64) / 127).astype(np.float32)
    columns = np.clip(np.rint(weight / scales), -128, 127).astype(np.int64)
    q, scale, zero = codes(x)
    result = ((q.astype(np.int64) - int(zero)) @ columns).astype(np.float32) * (scale * scales)
    return result if bias is None else result + bias


def values(found: Quantized, name: str) -> np.ndarray:
    return ir.array(next(c for c in found.before.constants() if c.name == name))


@pytest.mark.parametrize(
    ("body", "inputs", "weight", "bias", "turned"),
    [
        ("y = MatMul(x, m)", ROWS, "m", None, False),
        ("y = MatMul(x, m)", CUBE, "m", None, False),
        ("y = MatMul(x, m)", "float[16] x", "m", None, False),
        ("y = Gemm(x, m)", ROWS, "m", None, False),
        ("y = Gemm(x, m, n)", ROWS, "m", "n", False),
        ("y = Gemm<transB = 1>(x, mm, n)", ROWS, "mm", "n", True),
    ],
)
def test_numbers(body: str, inputs: str, weight: str, bias: str | None, turned: bool) -> None:
    outputs = "float[B, P, Q] y" if inputs == CUBE else ("float[Q] y" if "[16]" in inputs else "float[P, Q] y")
    found = dynamic(body, inputs, outputs)
    matrix = values(found, weight)
    for sample in range(3):
        x = np.asarray(found.feeds[sample]["x"])
        expected = reference(x, matrix.T if turned else matrix, None if bias is None else values(found, bias))
        for optimize in (False, True):
            got = found.outputs(optimize=optimize, sample=sample)[0]
            np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)
        truth = run(found.before, found.feeds[sample])[0]
        np.testing.assert_allclose(expected, truth, atol=0.03 * np.abs(truth).max())


@pytest.mark.parametrize(("body", "inputs"), [("a = MatMul(x, m) y = Add(a, n)", CUBE), ("y = Gemm(x, m, n)", ROWS)])
def test_onnx_runtime_makes_one_operator_of_it(body: str, inputs: str) -> None:
    found = dynamic(body, inputs, "float[B, P, Q] y" if inputs == CUBE else "float[P, Q] y")
    conformance = found.optimised()
    assert dict(conformance.ops) == {"DynamicQuantizeMatMul": 1}
    assert (conformance.integer_nodes, conformance.float_nodes, conformance.fallback) == (1, 0, ())


def test_text() -> None:
    found = dynamic("y = Gemm(x, m, n)")
    assert sorted(ops(found.model)) == ["Add", "Cast", "DynamicQuantizeLinear", "MatMulInteger", "Mul", "Mul"]
    types = {c.name: (str(np.dtype(c.dtype)), list(c.shape)) for c in found.model.constants()}
    assert types == {"m_q": ("int8", [16, 10]), "m_scale": ("float32", [10]), "n": ("float32", [10])}


def test_values_keep_their_names() -> None:
    found = dynamic("a = MatMul(x, m) t = Tanh(a) y = MatMul(t, mm)", outputs="float[P, Q] y, float[P, R] a")
    names = {t.name for n in found.model.nodes for t in n.outputs}
    assert {"a", "t", "y"} <= names
    assert [t.name for t in found.model.outputs] == ["y", "a"]


def test_one_value_is_quantized_once_and_one_weight_stored_once() -> None:
    found = dynamic(
        "a = MatMul(x, m) d = MatMul(x, m) t = Tanh(a) e1 = MatMul(t, mm) g = MatMul(e1, m) h = Add(a, d) y = Add(h, g)"
    )
    counts = {op: ops(found.model).count(op) for op in ("DynamicQuantizeLinear", "MatMulInteger")}
    assert counts == {"DynamicQuantizeLinear": 3, "MatMulInteger": 4}
    assert sorted(c.name for c in found.model.constants()) == ["m_q", "m_scale", "mm_q", "mm_scale"]
    expected = run(found.before, found.feeds[0])[0]
    np.testing.assert_allclose(found.outputs(optimize=True)[0], expected, atol=0.1 * np.abs(expected).max())


def test_the_same_plan_gives_the_same_bytes() -> None:
    body = "a = MatMul(x, m) t = Tanh(a) e1 = MatMul(t, mm) y = MatMul(e1, m)"
    one, two = dynamic(body), dynamic(body)
    assert one.model.to_proto().SerializeToString() == two.model.to_proto().SerializeToString()


def test_an_input_of_zeros() -> None:
    found = dynamic("y = MatMul(x, m)")
    got = run(found.model, {"x": np.zeros((5, 16), np.float32)}, optimize=True)[0]
    np.testing.assert_array_equal(got, np.zeros((5, 10), np.float32))
