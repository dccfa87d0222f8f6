"""Add and LayerNormalization stay two nodes in ONNX Runtime, with the same numbers."""

from __future__ import annotations

import numpy as np
import pytest

from qcompiler import ir
from qcompiler.analysis import SessionConfig
from qcompiler.backends.onnxruntime.gate import optimised
from qcompiler.backends.onnxruntime.spread_norm import SpreadNorm
from tests.graphs import assert_same_numbers, parse, transform

RNG = np.random.default_rng(0)
CONSTANTS = {name: RNG.normal(size=16).astype(np.float32) for name in ("w", "b")}


def net(norm: str, shape: str = "2,8,16", before: str = "Add(x, y)") -> ir.Model:
    text = f"g (float[{shape}] x, float[{shape}] y) => (float[{shape}] z) {{ s = {before}\n z = {norm} }}"
    return parse(text, CONSTANTS)


def fused(model: ir.Model) -> list[str]:
    return [node.op_type for node in optimised(model, SessionConfig()).node]


@pytest.mark.parametrize("norm", ["LayerNormalization(s, w, b)", "LayerNormalization<axis = 2>(s, w)"])
def test_onnx_runtime_no_longer_fuses_and_the_numbers_stay(norm: str) -> None:
    before = net(norm)
    assert fused(before) == ["SkipLayerNormalization"]
    after, (record,) = transform(before, SpreadNorm())
    assert record.changes == 1 and fused(after) == ["Add", "LayerNormalization"]
    assert all(constant.outputs for constant in after.constants())  # the pipeline drops what has no reader any more
    assert_same_numbers(before, after, rtol=0, atol=0)


def test_a_constant_that_others_read_is_left_alone() -> None:
    text = """g (float[2,8,16] x, float[2,8,16] y) => (float[2,8,16] z, float[2,8,16] u)
    { s = Add(x, y) z = LayerNormalization(s, w, b) u = Mul(x, b) }"""
    after, _ = transform(parse(text, CONSTANTS), SpreadNorm())
    shapes = {tuple(constant.shape) for constant in after.constants()}
    assert shapes == {(16,), (1, 16)}
    assert_same_numbers(parse(text, CONSTANTS), after)


@pytest.mark.parametrize(
    "model",
    [
        net("LayerNormalization(s, w, b)", before="Mul(x, y)"),
        net("LayerNormalization<axis = 1>(s, w, b)"),
        parse(
            "g (float[2,8,16] x, float[16] w) => (float[2,8,16] z) { s = Add(x, x) z = LayerNormalization(s, w) }"
        ),
    ],
    ids=["no sum", "several axes", "computed scale"],
)  # fmt: skip
def test_others_are_left_alone(model: ir.Model) -> None:
    _, (record,) = transform(model, SpreadNorm())
    assert record.changes == 0


def test_twice_is_once() -> None:
    once, _ = transform(net("LayerNormalization(s, w, b)"), SpreadNorm())
    _, (record,) = transform(once, SpreadNorm())
    assert record.changes == 0
