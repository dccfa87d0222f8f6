"""simplify-powers: roots and reciprocals in one form."""

from __future__ import annotations

import numpy as np
import pytest

from qcompiler.passes.fusion.simplify_powers import SimplifyPowers
from tests.graphs import assert_same_numbers, ops, parse, refusals, transform

FEED = [{"x": np.linspace(0.1, 5, 8, dtype=np.float32)[None]}]


@pytest.mark.parametrize(
    ("body", "constant", "wanted"),
    [
        ("y = Pow(x, c)", np.float32(0.5), ["Sqrt"]),
        ("y = Pow(x, c)", np.float32([-0.5]), ["Pow"]),
        ("y = Pow(x, c)", np.int64(-1), ["Reciprocal"]),
        ("y = Div(c, x)", np.float32(1), ["Reciprocal"]),
        ("y = Pow(x, c)", np.float32(2), ["Pow"]),
        ("y = Pow(x, c)", np.float32(0.25), ["Pow"]),
    ],
)
def test_powers(body: str, constant: np.ndarray, wanted: list[str]) -> None:
    before = parse(f"g (float[N, 8] x) => (float[N, 8] y) {{ {body} }}", {"c": np.asarray(constant)})
    after, _ = transform(before, SimplifyPowers())
    assert ops(after) == wanted
    assert_same_numbers(before, after, FEED, rtol=1e-6)


def test_refuses_a_row_of_ones() -> None:
    before = parse("g (float[N, 1] x) => (float[N, 4] y) { y = Div(c, x) }", {"c": np.ones(4, np.float32)})
    after, records = transform(before, SimplifyPowers())
    assert ops(after) == ["Div"]
    assert refusals(records) == ["constant 'c' of shape [4] may broaden 'x'"]
