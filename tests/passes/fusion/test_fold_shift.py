"""fold-shift: Add and Sub of constants disappear into the bias of the linear operator before them."""

from __future__ import annotations

import numpy as np
import pytest

from qcompiler.passes.fusion.fold_shift import FoldShift
from tests.graphs import assert_same_numbers, ops, parse, refusals, transform

RNG = np.random.default_rng(5)


def normal(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


CONV = "g (float[N, 4, 8, 8] x) => (float[N, 6, P, Q] y) {{ c = Conv <pads = [1, 1, 1, 1]> (x, w{bias}) {after} }}"
GEMM = "g (float[N, 4] x) => (float[N, 6] y) {{ c = Gemm <beta = 3.0, alpha = 0.5> (x, w{bias}) {after} }}"
TRANSPOSED = """g (float[N, 4, 5] x) => (float[N, 6, P] y) {{
    c = ConvTranspose <group = 2, strides = [2], output_padding = [1]> (x, w{bias}) {after} }}"""


@pytest.mark.parametrize("after", ["y = Add(c, t)", "y = Add(t, c)", "y = Sub(c, t)", "y = Sub(t, c)"])
@pytest.mark.parametrize("bias", ["", ", b"])
@pytest.mark.parametrize(
    ("text", "weight", "shapes"),
    [
        (CONV, (6, 4, 3, 3), [(), (1,), (6, 1, 1), (1, 6, 1, 1)]),
        (TRANSPOSED, (4, 3, 3), [(), (6, 1), (1, 6, 1)]),
        (GEMM, (4, 6), [(), (6,), (1, 6)]),
    ],
)
def test_folds(text: str, weight: tuple[int, ...], shapes: list[tuple[int, ...]], bias: str, after: str) -> None:
    for shape in shapes:
        constants = {"w": normal(*weight), "t": normal(*shape), **({"b": normal(6)} if bias else {})}
        before = parse(text.format(bias=bias, after=after), constants)
        result, records = transform(before, FoldShift())
        assert len(result.nodes) == 1 and records[0].changes == 1
        assert_same_numbers(before, result)


def test_the_weight_is_left_alone_unless_its_sign_changes() -> None:
    result, _ = transform(
        parse(CONV.format(bias="", after="y = Add(c, t)"), {"w": normal(6, 4, 3, 3), "t": normal()}), FoldShift()
    )
    assert [c.name for c in result.constants()] == ["w", "n0_Conv_bias_folded"]
    result, _ = transform(
        parse(CONV.format(bias="", after="y = Sub(t, c)"), {"w": normal(6, 4, 3, 3), "t": normal()}), FoldShift()
    )
    assert [c.name for c in result.constants()] == ["w_scaled", "n0_Conv_bias_folded"]


def test_two_in_a_row() -> None:
    before = parse(
        CONV.format(bias="", after="d = Add(c, t) y = Sub(d, u)"),
        {"w": normal(6, 4, 3, 3), "t": normal(6, 1, 1), "u": normal()},
    )
    result, records = transform(before, FoldShift())
    assert ops(result) == ["Conv"] and records[0].changes == 2
    assert_same_numbers(before, result)


@pytest.mark.parametrize(
    ("shape", "reason"),
    [
        ((8, 8), "constant 't' of shape [8, 8] varies over more than channels"),
        ((6, 8, 8), "constant 't' of shape [6, 8, 8] varies over more than channels"),
        ((3, 1, 6, 1, 1), "constant 't' of shape [3, 1, 6, 1, 1] may enlarge a tensor of rank 4"),
    ],
)
def test_refuses_what_is_not_per_channel(shape: tuple[int, ...], reason: str) -> None:
    text = CONV.format(bias="", after="y = Add(c, t)").replace(
        "float[N, 6, P, Q] y", f"float[{', '.join('ABCDE'[: max(4, len(shape))])}] y"
    )
    _, records = transform(parse(text, {"w": normal(6, 4, 3, 3), "t": normal(*shape)}), FoldShift())
    assert refusals(records) == [reason]


def test_refuses_a_shift_that_rounds() -> None:
    """x + 1.5 * 2**23 - 1.5 * 2**23 is x rounded to an integer, on purpose."""
    magic = np.float32(1.5 * 2**23)
    before = parse(CONV.format(bias="", after="d = Add(c, t) y = Sub(d, t)"), {"w": normal(6, 4, 3, 3), "t": magic})
    result, records = transform(before, FoldShift())
    assert ops(result) == ["Conv", "Add", "Sub"]
    assert refusals(records) == ["constant 't' is so large that adding it rounds"]


def test_refuses_a_computed_bias_and_overflow() -> None:
    text = """g (float[N, 4] x, float[6] b) => (float[N, 6] y) { c = Gemm(x, w, b) y = Add(c, t) }"""
    _, records = transform(parse(text, {"w": normal(4, 6), "t": normal()}), FoldShift())
    assert refusals(records) == ["bias 'b' of Gemm 'n0_Gemm' is not constant"]
    text = "g (float16[N, 4] x) => (float16[N, 6] y) { c = Gemm(x, w, b) y = Add(c, t) }"
    half = {"w": np.ones((4, 6), np.float16), "b": np.full(6, 65500, np.float16), "t": np.float16(200)}
    _, records = transform(parse(text, half), FoldShift())
    assert refusals(records) == ["bias of Gemm 'n0_Gemm' overflows float16 in channel 0"]


def test_a_matmul_is_left_to_another_rule() -> None:
    text = "g (float[N, 4] x) => (float[N, 6] y) { c = MatMul(x, w) y = Add(c, t) }"
    result, records = transform(parse(text, {"w": normal(4, 6), "t": normal(6)}), FoldShift())
    assert ops(result) == ["MatMul", "Add"] and refusals(records) == []


def test_a_residual_is_not_a_shift() -> None:
    text = "g (float[N, 4] x, float[N, 6] r) => (float[N, 6] y) { c = Gemm(x, w) y = Add(c, r) }"
    result, records = transform(parse(text, {"w": normal(4, 6)}), FoldShift())
    assert ops(result) == ["Gemm", "Add"] and refusals(records) == []
