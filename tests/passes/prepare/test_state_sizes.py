"""state-sizes: a cache is as wide as what is joined to it."""

from __future__ import annotations

import numpy as np
import pytest

from qcompiler.passes.prepare import InferShapes, StateSizes, prepare
from qcompiler.pipeline import Pipeline
from tests.graphs import parse, transform

PACKED = """g (float[B, S, 32] x, int32[B, 1] last, int32 total, float[B, 2, P, W] k, float[B, 2, P, W] v)
        => (float[B, S, C] y, float[B, 2, T, W] pk, float[B, 2, T, W] pv) {
    a, pk, pv = com.microsoft.GroupQueryAttention <num_heads = 4, kv_num_heads = 2> (x, , , k, v, last, total)
    y = MatMul(a, w) }"""
SPLIT = PACKED.replace("(x, , ,", "(x, c, c,").replace("float[B, S, 32] x", "float[B, S, 16] x, float[B, S, 8] c")
MULTI = """g (float[B, S, 16] q, float[B, S, 16] c, float[B, H, P, W] k, float[B, H, P, V] v)
        => (float[B, S, C] y, float[B, H, T, W] pk, float[B, H, T, V] pv) {
    a, pk, pv = com.microsoft.MultiHeadAttention <num_heads = 4> (q, c, c, , , , k, v)
    y = MatMul(a, w) }"""
JOINED = """g (float[B, 2, S, 4] x, float[B, 2, P, W] k, float[B, H, P, W] v)
        => (float[B, 2, T, W] pk, float[B, 2, T, W] pv) {
    pk = Concat <axis = -2> (k, x) pv = Concat <axis = 2> (v, x) }"""


@pytest.mark.parametrize("text", [PACKED, SPLIT, MULTI, JOINED])
def test_width_and_heads_are_those_of_the_new_ones(text: str) -> None:
    constants = {} if text is JOINED else {"w": np.zeros((16, 3), np.float32)}
    before = parse(text, constants)
    after, (record,) = transform(before, StateSizes())
    heads = 4 if text is MULTI else 2
    shapes = {tensor.name: tensor.shape for tensor in after.inputs}
    assert shapes["k"] == shapes["v"] == ["B", heads, "P", 4]
    assert record.changes == 2
    assert transform(after, StateSizes())[1][0].changes == 0


def test_what_nothing_tells_stays_open() -> None:
    before = parse("g (float[B, N] x, float[B, P] k) => (float[B, T] y) { y = Concat <axis = 1> (k, x) }")
    after, (record,) = transform(before, StateSizes())
    assert [tensor.shape for tensor in after.inputs] == [["B", "N"], ["B", "P"]]
    assert record.changes == 0


def test_what_stands_behind_packed_attention_has_a_shape() -> None:
    """Else no layer behind it could be planned."""
    model = parse(PACKED, {"w": np.zeros((16, 3), np.float32)})
    after, _ = transform(model, InferShapes())
    assert after.nodes[0].outputs[0].shape == ["B", "S", 16]
    prepare(Pipeline(), model)
    assert model.nodes[-1].inputs[0].shape == ["B", "S", 16]
