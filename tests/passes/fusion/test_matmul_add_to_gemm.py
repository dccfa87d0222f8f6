"""matmul-add-to-gemm: a matrix product and its bias become one operator."""

from __future__ import annotations

import numpy as np
import pytest

from qcompiler.passes.fusion.matmul_add_to_gemm import MatmulAddToGemm
from tests.graphs import assert_same_numbers, ops, parse, refusals, transform

RNG = np.random.default_rng(19)


def normal(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


TEXT = "g (float[N, 4] x) => (float[N, 6] y) { t = MatMul(x, w) y = Add(t, b) }"


@pytest.mark.parametrize("swap", [False, True])
@pytest.mark.parametrize("shape", [(6,), (1, 6), (), (1,), (1, 1)])
def test_becomes_a_gemm_with_a_vector_as_bias(shape: tuple[int, ...], swap: bool) -> None:
    before = parse(TEXT.replace("Add(t, b)", "Add(b, t)") if swap else TEXT, {"w": normal(4, 6), "b": normal(*shape)})
    after, _ = transform(before, MatmulAddToGemm())
    assert ops(after) == ["Gemm"]
    assert [tuple(t.shape) for t in after.nodes[0].inputs[1:]] == [(4, 6), (6,)]
    assert_same_numbers(before, after)


def test_bias_and_weight_stay_for_others() -> None:
    text = """g (float[N, 4] x) => (float[N, 6] y, float[N, 6] z) {
        t = MatMul(x, w) y = Add(t, b) u = MatMul(x, w) v = Relu(u) z = Add(v, b) }"""
    before = parse(text, {"w": normal(4, 6), "b": normal(6)})
    after, _ = transform(before, MatmulAddToGemm())
    assert ops(after) == ["Gemm", "MatMul", "Relu", "Add"]
    assert_same_numbers(before, after)


@pytest.mark.parametrize(
    ("text", "weight", "bias", "reason"),
    [
        (
            TEXT.replace("[N, 4]", "[N, 3, 4]").replace("[N, 6]", "[N, 3, 6]"),
            *((4, 6), (6,), "'x', input of MatMul 'n0_MatMul', has rank 3; Gemm takes matrices"),
        ),
        (
            TEXT.replace("[N, 4]", "[4]").replace("[N, 6]", "[6]"),
            *((4, 6), (6,), "'x', input of MatMul 'n0_MatMul', has rank 1; Gemm takes matrices"),
        ),
        (
            TEXT.replace("[N, 6]", "[M, N, 6]"),
            *((3, 4, 6), (6,), "'w', input of MatMul 'n0_MatMul', has rank 3; Gemm takes matrices"),
        ),
        (TEXT.replace("N", "2"), (4, 6), (2, 6), "constant 'b' of shape [2, 6] varies over more than channels"),
        (TEXT, (4, 1), (6,), "constant 'b' of shape [6] does not fit 1 channels on axis -1"),
        (
            TEXT.replace("[N, 6]", "[M, N, 6]"),
            *((4, 6), (3, 1, 6), "constant 'b' of shape [3, 1, 6] may enlarge a tensor of rank 2"),
        ),
    ],
)
def test_refuses(text: str, weight: tuple[int, ...], bias: tuple[int, ...], reason: str) -> None:
    after, records = transform(parse(text, {"w": normal(*weight), "b": normal(*bias)}), MatmulAddToGemm())
    assert ops(after) == ["MatMul", "Add"]
    assert refusals(records) == [reason]


def test_refuses_a_computed_weight_an_unknown_rank_and_integers() -> None:
    text = "g (float[N, 4] x, float[4, 6] w) => (float[N, 6] y) { t = MatMul(x, w) y = Add(t, b) }"
    _, records = transform(parse(text, {"b": normal(6)}), MatmulAddToGemm())
    assert refusals(records) == ["weight 'w' of MatMul 'n0_MatMul' is not constant"]
    text = """g (float[N, 4] z, int64[R] r) => (float[P, Q] y) {
        x = Reshape(z, r) t = MatMul(x, w) a = Add(t, b) y = Flatten(a) }"""
    model = parse(text, {"w": normal(4, 6), "b": normal(6)})
    for node in model.nodes[:3]:
        node.outputs[0].shape = None
    _, records = transform(model, MatmulAddToGemm())
    assert refusals(records) == ["rank of 'x', input of MatMul 'n1_MatMul', is not known"]
    model = parse(TEXT.replace("float", "int32"), {"w": np.ones((4, 6), np.int32), "b": np.ones(6, np.int32)})
    _, records = transform(model, MatmulAddToGemm())
    assert refusals(records) == ["weight 'w' of MatMul 'n0_MatMul' is int32, not float"]
