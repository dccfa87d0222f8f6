"""fold-scale-through-shift: a factor goes past a term that has to stay before a padded operator."""

from __future__ import annotations

import numpy as np
import pytest

from qcompiler import ir
from qcompiler.passes.fusion.fold_scale_through_shift import FoldScaleThroughShift
from tests.graphs import assert_same_numbers, ops, parse, refusals, transform

RNG = np.random.default_rng(37)


def normal(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


def factor(*shape: int) -> np.ndarray:
    return (RNG.uniform(0.5, 3, shape) * RNG.choice([-1, 1], shape)).astype(np.float32)


def text(scale: str, shift: str, op: str = "Conv <pads = [1, 1, 1, 1]> (q, w, b)") -> str:
    return f"g (float[N, 4, 8, 8] x) => (float[N, 6, P, Q] y) {{ p = {scale} q = {shift} y = {op} }}"


@pytest.mark.parametrize("scale", ["Mul(x, s)", "Mul(s, x)", "Div(x, s)"])
@pytest.mark.parametrize("shift", ["Add(p, t)", "Add(t, p)", "Sub(p, t)", "Sub(t, p)"])
@pytest.mark.parametrize(
    "shapes", [((), ()), ((4, 1, 1), ()), ((), (1, 4, 1, 1)), ((4, 1, 1), (4, 1, 1)), ((1,), (1, 1))]
)
def test_folds_into_a_padded_conv(scale: str, shift: str, shapes: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    constants = {"s": factor(*shapes[0]), "t": normal(*shapes[1]), "w": normal(6, 4, 3, 3), "b": normal(6)}
    before = parse(text(scale, shift), constants)
    after, records = transform(before, FoldScaleThroughShift())
    assert ops(after) == ["Add", "Conv"] and records[0].changes == 1
    assert_same_numbers(before, after)


@pytest.mark.parametrize(
    ("op", "weight"),
    [("ConvTranspose <group = 2, strides = [2, 2]> (q, w)", (4, 3, 3, 3)), ("MatMul(q, w)", (8, 3))],
)
def test_folds_into_other_operators(op: str, weight: tuple[int, ...]) -> None:
    body = text("Mul(x, s)", "Add(p, t)", op).replace("float[N, 6, P, Q]", "float[N, C, P, Q]")
    before = parse(body, {"s": factor(), "t": normal(), "w": normal(*weight)})
    after, _ = transform(before, FoldScaleThroughShift())
    assert ops(after) == ["Add", op.split("(")[0].split()[0]]
    assert_same_numbers(before, after)


def test_the_new_term() -> None:
    """2 x - 1 before a Conv is x - 0.5 before one of twice the weights."""
    constants = {"s": np.float32(2), "t": np.float32(1), "w": normal(6, 4, 3, 3), "b": normal(6)}
    after, _ = transform(parse(text("Mul(x, s)", "Sub(p, t)"), constants), FoldScaleThroughShift())
    values = {c.name: ir.array(c) for c in after.constants()}
    assert values["t_scaled"] == np.float32(-0.5) and values["t_scaled"].shape == ()
    np.testing.assert_array_equal(values["w_scaled"], constants["w"] * 2)


SPREAD = np.float32([1, 20, 1, 1]).reshape(4, 1, 1)


@pytest.mark.parametrize(
    ("scale", "s", "t", "reason"),
    [
        ("Mul(x, s)", np.float32(0), np.float32(1), "'s' holds a zero, which 't' cannot be divided by"),
        ("Mul(x, s)", np.float32(1e-7), np.float32(1), "'t' / 's' is so large that adding it rounds"),
        ("Div(s, x)", np.float32(2), np.float32(1), "Div of a constant by a tensor is not linear"),
        ("Mul(x, s)", np.float32(2), normal(8, 8), "constant 't' of shape [8, 8] varies over more than channels"),
        ("Mul(x, s)", normal(8, 8), np.float32(2), "constant 's' of shape [8, 8] varies over more than channels"),
        ("Mul(x, s)", SPREAD, np.float32(1), "factors in 's' differ by more than 16 between channels"),
    ],
)
def test_refuses(scale: str, s: np.ndarray, t: np.ndarray, reason: str) -> None:
    constants = {"s": s, "t": t, "w": normal(6, 4, 3, 3), "b": normal(6)}
    after, records = transform(parse(text(scale, "Add(p, t)"), constants), FoldScaleThroughShift())
    assert len(after.nodes) == 3
    assert refusals(records) == [reason]


def test_refuses_what_others_read() -> None:
    body = """g (float[N, 4, 8, 8] x) => (float[N, 6, P, Q] y, float[N, 4, 8, 8] z) {
        p = Mul(x, s) q = Add(p, t) y = Conv <pads = [1, 1, 1, 1]> (q, w) z = Relu(q) }"""
    _, records = transform(
        parse(body, {"s": factor(), "t": normal(), "w": normal(6, 4, 3, 3)}), FoldScaleThroughShift()
    )
    assert refusals(records) == ["'q', output of Add 'n1_Add', is also used by 'n3_Relu'"]
