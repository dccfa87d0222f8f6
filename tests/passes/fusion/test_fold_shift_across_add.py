"""fold-shift-across-add: a term on one side of a sum goes into the bias on the other."""

from __future__ import annotations

import numpy as np
import pytest

from qcompiler.passes.fusion.fold_shift_across_add import FoldShiftAcrossAdd
from tests.graphs import assert_same_numbers, ops, parse, refusals, transform

RNG = np.random.default_rng(59)


def normal(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


def text(body: str) -> str:
    return f"g (float[N, 4, 5, 5] x, float[N, 4, 5, 5] z) => (float[N, 4, 5, 5] y) {{ {body} }}"


@pytest.mark.parametrize("op", ["Add(a, s)", "Add(s, a)", "Sub(a, s)", "Sub(s, a)"])
@pytest.mark.parametrize("term", ["Add(z, t)", "Add(t, z)"])
@pytest.mark.parametrize("t", [normal(4, 1, 1), normal(1, 4, 1, 1), np.float32(0.5)])
@pytest.mark.parametrize("conv", ["Conv(x, w)", "Conv(x, w, b)"])
def test_term_goes_into_the_bias(op: str, term: str, t: np.ndarray, conv: str) -> None:
    before = parse(text(f"a = {conv} s = {term} y = {op}"), {"w": normal(4, 4, 1, 1), "t": t, "b": normal(4)})
    after, _ = transform(before, FoldShiftAcrossAdd())
    assert ops(after) == ["Conv", op[:3]]
    assert_same_numbers(before, after)


def test_a_sum_that_others_read_stays_for_them() -> None:
    before = parse(
        text("a = Conv(x, w) s = Add(z, t) r = Add(a, s) y = Mul(r, s)"),
        {"w": normal(4, 4, 1, 1), "t": normal(4, 1, 1)},
    )
    after, _ = transform(before, FoldShiftAcrossAdd())
    assert after.nodes[2].inputs[1].name == "z"
    assert_same_numbers(before, after)


@pytest.mark.parametrize(
    ("t", "body", "reason"),
    [
        (normal(5, 5), "a = Conv(x, w) s = Add(z, t) y = Add(a, s)", "varies over more than channels"),
        (normal(4, 1, 1) * 1e8, "a = Conv(x, w) s = Add(z, t) y = Add(a, s)", "is so large that adding it rounds"),
        (normal(4, 1, 1), "a = Conv(x, q) s = Add(z, t) y = Add(a, s)", "not constant"),
    ],
)
def test_refusals(t: np.ndarray, body: str, reason: str) -> None:
    body = f"q = Neg(w) {body}" if "q)" in body else body
    before = parse(text(body), {"w": normal(4, 4, 1, 1), "t": t})
    after, records = transform(before, FoldShiftAcrossAdd())
    assert ops(after) == ops(before)
    assert [reason in found for found in refusals(records)] == [True]
