"""merge-constants: two additions of, or two multiplications by, constants become one."""

from __future__ import annotations

import numpy as np
import pytest

from qcompiler import ir
from qcompiler.passes.fusion.merge_constants import MergeConstants
from tests.graphs import assert_same_numbers, ops, parse, refusals, transform

TEXT = "g (float[N, 3, 4] x) => (float[N, 3, 4] y) {{ t = {inner} y = {outer} }}"
SUMS = ["Add({}, {c})", "Add({c}, {})", "Sub({}, {c})", "Sub({c}, {})"]
PRODUCTS = ["Mul({}, {c})", "Mul({c}, {})", "Div({}, {c})", "Div({c}, {})"]
A, B = np.float32([[0.5], [1.5], [2.5]]), np.float32(0.75)


@pytest.mark.parametrize(("inner", "outer"), [(i, o) for family in (SUMS, PRODUCTS) for i in family for o in family])
def test_every_pair(inner: str, outer: str) -> None:
    before = parse(TEXT.format(inner=inner.format("x", c="a"), outer=outer.format("t", c="b")), {"a": A, "b": B})
    after, records = transform(before, MergeConstants())
    assert len(after.nodes) == 1 and records[0].changes == 1
    assert_same_numbers(before, after)


def test_what_the_numbers_are() -> None:
    before = parse(TEXT.format(inner="Sub(x, a)", outer="Sub(b, t)"), {"a": A, "b": B})
    after, _ = transform(before, MergeConstants())
    assert ops(after) == ["Sub"] and after.nodes[0].inputs[1].name == "x"
    np.testing.assert_array_equal(ir.array(after.nodes[0].inputs[0]), B + A)


def test_three_in_a_row_become_one_that_keeps_the_name_of_the_last() -> None:
    text = "g (float[N, 3, 4] x) => (float[N, 3, 4] y) { t = Add(x, a) u = Sub(t, b) y = Add(a, u) }"
    before = parse(text, {"a": A, "b": B})
    after, records = transform(before, MergeConstants())
    assert [node.name for node in after.nodes] == ["n2_Add"] and records[0].changes == 2
    assert_same_numbers(before, after)


def test_sums_and_products_do_not_mix() -> None:
    after, _ = transform(parse(TEXT.format(inner="Add(x, a)", outer="Mul(t, b)"), {"a": A, "b": B}), MergeConstants())
    assert ops(after) == ["Add", "Mul"]


@pytest.mark.parametrize(
    ("inner", "outer", "a", "b", "reason"),
    [
        ("Add(x, a)", "Add(t, b)", np.ones((3, 1)), np.ones((1, 4)), "constants 'a' and 'b' together take 12 values"),
        ("Add(x, a)", "Sub(t, b)", 1.5 * 2**23, 1.5 * 2**23, "constant 'a' is so large that adding it rounds"),
        ("Sub(x, a)", "Add(t, b)", 1.0, 2.0**24, "constant 'b' is so large that adding it rounds"),
        ("Mul(x, a)", "Mul(t, b)", 1e30, 1e30, "constants 'a' and 'b' together leave the range of float32"),
        ("Mul(x, a)", "Div(t, b)", 1e-30, 1e30, "constants 'a' and 'b' together leave the range of float32"),
        ("Div(a, x)", "Div(b, t)", 0.0, 1.0, "constants 'a' and 'b' together leave the range of float32"),
        ("Div(x, a)", "Mul(t, b)", 0.0, 1.0, "constants 'a' and 'b' together leave the range of float32"),
    ],
)
def test_refuses(inner: str, outer: str, a: float, b: float, reason: str) -> None:
    model = parse(TEXT.format(inner=inner, outer=outer), {"a": np.float32(a), "b": np.float32(b)})
    after, records = transform(model, MergeConstants())
    assert len(after.nodes) == 2
    assert refusals(records) == [reason]


def test_refuses_integers_and_other_readers() -> None:
    text = TEXT.replace("float", "int64").format(inner="Div(x, a)", outer="Mul(t, b)")
    _, records = transform(parse(text, {"a": np.int64(2), "b": np.int64(3)}), MergeConstants())
    assert refusals(records) == ["constant 'a' is int64, not float"]
    text = "g (float[N] x) => (float[N] y, float[N] z) { t = Add(x, a) y = Add(t, b) z = Relu(t) }"
    _, records = transform(parse(text, {"a": np.float32(1), "b": B}), MergeConstants())
    assert refusals(records) == ["'t', output of Add 'n0_Add', is also used by 'n2_Relu'"]


def test_float16_is_rounded_once() -> None:
    text = TEXT.replace("float", "float16").format(inner="Mul(x, a)", outer="Mul(t, b)")
    after, _ = transform(parse(text, {"a": np.float16(0.1), "b": np.float16(3)}), MergeConstants())
    (constant,) = after.constants()
    assert ir.array(constant) == np.float16(np.float64(np.float16(0.1)) * 3)
