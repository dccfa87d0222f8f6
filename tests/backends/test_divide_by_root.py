"""RMS normalizations that are written out are one node in ONNX Runtime, with the same numbers."""

from __future__ import annotations

import numpy as np
import pytest

from qcompiler import ir
from qcompiler.analysis import SessionConfig
from qcompiler.backends.onnxruntime.divide_by_root import DivideByRoot
from qcompiler.backends.onnxruntime.gate import optimised
from qcompiler.passes.fusion.simplify_powers import SimplifyPowers
from tests.graphs import assert_same_numbers, ops, parse, transform

GAMMA = np.random.default_rng(0).normal(size=16).astype(np.float32)
NORM = """g (float[2,8,16] x) => (float[2,8,16] z) {
  p = Pow(x, two) m = ReduceMean<keepdims = 1>(p, last) a = Add(m, eps) s = Sqrt(a)
  d = Div(one, s) n = Mul(x, d) z = Mul(gamma, n) }"""
CONSTANTS = {
    "two": np.float32(2), "eps": np.float32(1e-5), "one": np.float32(1), "last": np.int64([-1]), "gamma": GAMMA,
}  # fmt: skip


def fused(model: ir.Model) -> list[str]:
    return [node.op_type for node in optimised(model, SessionConfig()).node]


def test_the_form_of_exporters_is_found_again() -> None:
    before = parse(NORM, CONSTANTS)
    assert fused(before) == ["SimplifiedLayerNormalization"]
    simplified, _ = transform(before, SimplifyPowers())
    assert "Reciprocal" in ops(simplified) and "Reciprocal" in fused(simplified)
    after, (record,) = transform(simplified, DivideByRoot())
    assert record.changes == 1 and ops(after) == ops(before)
    assert fused(after) == ["SimplifiedLayerNormalization"]
    assert_same_numbers(simplified, after, rtol=0, atol=0)


@pytest.mark.parametrize("body", ["z = Reciprocal(x)", "s = Exp(x) z = Reciprocal(s)", "s = Sqrt(x) z = Div(s, x)"])
def test_others_are_left_alone(body: str) -> None:
    before = parse(f"g (float[4] x) => (float[4] z) {{ {body} }}")
    after, (record,) = transform(before, DivideByRoot())
    assert record.changes == 0 and ops(after) == ops(before)
