"""fold-shift-forward: Add and Sub of constants disappear into the bias of the Conv or Gemm behind them."""

from __future__ import annotations

import numpy as np
import pytest

from qcompiler.passes.fusion.fold_shift_forward import FoldShiftForward
from tests.graphs import assert_same_numbers, ops, parse, refusals, transform

RNG = np.random.default_rng(17)


def normal(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


X4, Y4 = "float[N, 4, 8, 8] x", "float[N, 6, P, Q] y"
CASES = {
    "conv": ("Conv <strides = [2, 2]> (t, w, b)", (6, 4, 3, 3), X4, Y4, (4, 1, 1)),
    "conv valid": ('Conv <auto_pad = "VALID", group = 2> (t, w)', (6, 2, 3, 3), X4, Y4, (1, 4, 1, 1)),
    "conv zero pads": ("Conv <pads = [0, 0]> (t, w)", (6, 4, 3), "float[N, 4, 8] x", "float[N, 6, P] y", (4, 1)),
    "gemm": ("Gemm <alpha = 0.5, beta = 2.0> (t, w, b)", (4, 6), "float[N, 4] x", "float[N, 6] y", (4,)),
    "gemm transB": ("Gemm <transB = 1, alpha = 3.0> (t, w)", (6, 4), "float[N, 4] x", "float[N, 6] y", (1, 4)),
    "gemm transA": ("Gemm <transA = 1> (t, w, b)", (4, 6), "float[4, N] x", "float[N, 6] y", (4, 1)),
}  # fmt: skip


@pytest.mark.parametrize("before", ["t = Add(x, c)", "t = Add(c, x)", "t = Sub(x, c)", "t = Sub(c, x)"])
@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("kind", CASES)
def test_folds(kind: str, per_channel: bool, before: str) -> None:
    op, weight, x, y, shape = CASES[kind]
    constants = {"w": normal(*weight), "c": normal(*shape) if per_channel else normal()}
    first = parse(f"g ({x}) => ({y}) {{ {before} y = {op} }}", constants | ({"b": normal(6)} if "b)" in op else {}))
    result, records = transform(first, FoldShiftForward())
    assert len(result.nodes) == 1 and records[0].changes == 1
    assert_same_numbers(first, result)


@pytest.mark.parametrize("attrs", ["pads = [0, 0, 0, 1]", 'auto_pad = "SAME_LOWER"'])
def test_refuses_a_padded_conv(attrs: str) -> None:
    text = f"g (float[N, 4, 8, 8] x) => (float[N, 6, P, Q] y) {{ t = Add(x, c) y = Conv <{attrs}> (t, w) }}"
    result, records = transform(parse(text, {"w": normal(6, 4, 3, 3), "c": normal()}), FoldShiftForward())
    assert ops(result) == ["Add", "Conv"]
    assert refusals(records) == ["Conv 'n1_Conv' pads with zeros, which 'c' is not added to"]


def test_a_transposed_conv_and_a_matmul_are_left_alone() -> None:
    text = "g (float[N, 4, 8, 8] x) => (float[N, 6, P, Q] y) { t = Add(x, c) y = ConvTranspose(t, w) }"
    result, _ = transform(parse(text, {"w": normal(4, 6, 3, 3), "c": normal()}), FoldShiftForward())
    assert ops(result) == ["Add", "ConvTranspose"]
    text = "g (float[N, 4] x) => (float[N, 6] y) { t = Add(x, c) y = MatMul(t, w) }"
    result, _ = transform(parse(text, {"w": normal(4, 6), "c": normal()}), FoldShiftForward())
    assert ops(result) == ["Add", "MatMul"]


@pytest.mark.parametrize(
    ("weight", "shift", "reason"),
    [
        (1.0, 2.0**22, "constant 'c' is so large that adding it rounds"),
        (3e38, 2.0, "bias of Gemm 'n1_Gemm' overflows float32 in channel 0"),
        (np.inf, 2.0, "weight 'w' of Gemm 'n1_Gemm' holds NaN or infinity"),
        (1.0, np.nan, "shift for Gemm 'n1_Gemm' is not finite in channel 0"),
    ],
)
def test_refuses_bad_numbers(weight: float, shift: float, reason: str) -> None:
    text = "g (float[N, 4] x) => (float[N, 6] y) { t = Add(x, c) y = Gemm(t, w) }"
    model = parse(text, {"w": np.full((4, 6), weight, np.float32), "c": np.float32(shift)})
    _, records = transform(model, FoldShiftForward())
    assert refusals(records) == [reason]


def test_refuses_a_sum_that_is_a_graph_output() -> None:
    text = "g (float[N, 4] x) => (float[N, 4] t, float[N, 6] y) { t = Add(x, c) y = Gemm(t, w) }"
    _, records = transform(parse(text, {"w": normal(4, 6), "c": normal()}), FoldShiftForward())
    assert refusals(records) == ["'t', output of Add 'n0_Add', is a graph output"]
