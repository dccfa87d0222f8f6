"""spread-bias: integer products keep their kernel beside a float bias, whatever the shapes."""

from __future__ import annotations

import numpy as np
import pytest

from qcompiler import ir
from tests.graphs import assert_same_numbers, run
from tests.quantized import Quantized, quantize
from tests.small import graph

CUBE = "float[2, 5, 16] x"


def both(
    body: str, inputs: str = CUBE, outputs: str = "float[B, P, Q] y", **constants: np.ndarray
) -> tuple[Quantized, Quantized]:
    model = graph(body, inputs, outputs, constants)
    return quantize(model, legalise=False), quantize(model)


def assert_near(found: Quantized) -> None:
    for sample, feed in enumerate(found.feeds):
        expected = np.asarray(run(found.before, feed)[0])
        off, on = (np.asarray(found.outputs(optimize=o, sample=sample)[0]) for o in (False, True))
        np.testing.assert_allclose(on, off, atol=1e-4 * np.abs(expected).max())
        np.testing.assert_allclose(on, expected, atol=0.05 * np.abs(expected).max())


TRAPS = {
    "cube": ("p = MatMul(x, m) y = Add(p, n)", CUBE, "float[B, P, Q] y", "MatMulIntegerToFloat"),
    "bias first": ("p = MatMul(x, m) y = Add(n, p)", CUBE, "float[B, P, Q] y", "MatMulIntegerToFloat"),
    "rank 4": ("p = MatMul(x, m) y = Add(p, n)", "float[2, 3, 5, 16] x", "float[A, B, P, Q] y", "MatMulIntegerToFloat"),
    "matrix": ("p = MatMul(x, m) y = Add(p, n)", "float[5, 16] x", "float[P, Q] y", "QGemm"),
    "matrix of any height": ("p = MatMul(x, m) y = Add(p, n)", "float[H, 16] x", "float[P, Q] y", "QGemm"),
    "matrix and row": ("p = MatMul(x, m) y = Add(p, n1)", "float[5, 16] x", "float[P, Q] y", "QGemm"),
    "matrix and matrix": ("t = Tanh(x) p = MatMul(t, sq) y = Add(p, x)", "float[5, 16] x", "float[P, Q] y", "QGemm"),
    "vector": ("p = MatMul(x, m) y = Add(p, n)", "float[16] x", "float[Q] y", "MatMulIntegerToFloat"),
    "computed bias": (
        "q = Tanh(bias) p = MatMul(x, m) y = Add(p, q)", f"{CUBE}, float[10] bias", "float[B, P, Q] y",
        "MatMulIntegerToFloat",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", TRAPS)
def test_the_trap_is_avoided(case: str) -> None:
    body, inputs, outputs, kernel = TRAPS[case]
    square = np.random.default_rng(0).normal(size=(16, 16)).astype(np.float32) * 0.2
    without, found = both(body, inputs, outputs, sq=square)
    assert [(f.node, f.runs_as) for f in without.optimised().fallback] == [("MatMul_p", "Gemm")]
    conformance = found.optimised()
    assert conformance.fallback == ()
    assert conformance.ops[kernel] == 1
    assert conformance.ops["Add"] == 1
    assert_near(found)


@pytest.mark.parametrize(
    ("body", "inputs"),
    [
        ("p = MatMul(x, m) y = Add(p, n)", "float[B, 5, 16] x"),
        ("p = MatMul(x, m) y = Add(p, wide3)", CUBE),
        ("p = MatMul(x, m) z = Tanh(p) q = Add(p, n) y = Add(q, z)", CUBE),
        ("p = MatMul(x, sq) y = Add(p, x)", CUBE),
    ],
)
def test_where_there_is_no_trap_the_numbers_hold_too(body: str, inputs: str) -> None:
    square = np.random.default_rng(0).normal(size=(16, 16)).astype(np.float32) * 0.2
    _, found = both(body, inputs, sq=square, wide3=np.ones((1, 1, 10), np.float32))
    assert found.optimised().fallback == ()
    assert_near(found)


def test_the_form() -> None:
    _, found = both("p = MatMul(x, m) y = Add(p, n)")
    add = found.model.find("Add_y")
    assert add is not None
    assert list(add.inputs[1].shape) == [1, 1, 10]
    bias = next(c for c in found.before.constants() if c.name == "n")
    np.testing.assert_array_equal(ir.array(add.inputs[1]).reshape(-1), ir.array(bias))
    without, _ = both("p = MatMul(x, m) y = Add(p, n)")
    assert_same_numbers(without.model, found.model, rtol=0, atol=0)


def test_dynamic_products_are_left_alone() -> None:
    found = quantize(graph("p = MatMul(x, m) y = Add(p, n)", CUBE, "float[B, P, Q] y"), "w8")
    assert dict(found.optimised().ops) == {"DynamicQuantizeMatMul": 1}
