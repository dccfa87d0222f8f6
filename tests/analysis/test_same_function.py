"""same-function: rounding is no difference, another function is, and what cannot be compared is said to be so."""

from __future__ import annotations

import numpy as np
import pytest

from qcompiler import ir
from qcompiler.analysis.same_function import ROUNDING, SameFunction, made_up
from tests.graphs import parse

RNG = np.random.default_rng(5)
FEED = {"x": RNG.normal(size=(1, 4, 10, 10)).astype(np.float32)}


def graph(body: str, out: str = "float[a, b, c, d]", **constants: np.ndarray) -> ir.Model:
    return parse(f"g (float[1, 4, 10, 10] x) => ({out} y) {{ {body} }}", constants)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("y = Mul (x, x)", "output 'y' differs by"),
        ("t = Concat <axis = 1> (x, x) y = Identity (t)", "output 'y' is of another kind"),
        ("t = Sub (x, x) z = Div (x, t) y = Identity (z)", "not finite"),
        ("t = Abs (x) s = Neg (t) y = Neg (s)", "output 'y' differs by"),
    ],
)
def test_other_functions_are_told_apart(body: str, said: str) -> None:
    before, after = graph("y = Identity (x)"), graph(body)
    for feed in (FEED, None):
        reason = SameFunction(feed).difference(before, after)
        assert reason is not None and said in reason
    assert SameFunction().difference(before, before.copy()) is None


def test_a_sum_in_another_order_is_the_same() -> None:
    w = RNG.normal(size=(1, 4, 1, 1)).astype(np.float32)
    before, after = graph("t = Add (x, w) y = Mul (t, w)", w=w), graph("t = Mul (x, w) y = Add (t, v)", w=w, v=w * w)
    assert SameFunction(FEED).difference(before, after) is None


@pytest.mark.parametrize("factor", [1 + ROUNDING / 4, 1 + ROUNDING * 4])
def test_where_rounding_ends(factor: float) -> None:
    after = graph("y = Mul (x, f)", f=np.float32(factor))
    assert (SameFunction(FEED).difference(graph("y = Identity (x)"), after) is None) == (factor < 1 + ROUNDING)


def test_a_code_at_the_edge_is_no_difference_and_another_scale_is() -> None:
    body = "t = Mul (x, f) q = QuantizeLinear (t, s, z) y = DequantizeLinear (q, s, z)"

    def coded(factor: float, scale: float = 0.5) -> ir.Model:
        zero = np.uint8(128)
        return graph(body, f=np.float32(factor), s=np.float32(scale), z=zero)

    edge = {"x": np.full((1, 4, 10, 10), 0.25, np.float32)}
    assert SameFunction(edge).difference(coded(1), coded(1 + 1e-6)) is None
    assert SameFunction(FEED).difference(coded(1), coded(1, 0.4)) is not None


def test_a_rank_among_near_ties_is_no_difference() -> None:
    out = "int64[a, b, c, d]"
    near = {"x": np.ones((1, 4, 10, 10), np.float32)}
    before = graph("t = Mul (x, f) y = ArgMax <axis = 1> (t)", out, f=np.ones((4, 1, 1), np.float32))
    slight = np.array([1, 1, 1, 1 + 2e-7], np.float32).reshape(4, 1, 1)
    after = graph("t = Mul (x, f) y = ArgMax <axis = 1> (t)", out, f=slight)
    other = graph("t = Neg (x) y = ArgMax <axis = 1> (t)", out)
    assert SameFunction(near).difference(before, after) is None
    assert SameFunction(FEED).difference(before, other) == "output 'y' differs"


def test_random_numbers_say_nothing() -> None:
    body = "r = RandomNormalLike (x) y = Add (x, r)"
    assert SameFunction(FEED).difference(graph(body), graph(body)) is None


def test_short_floats_round_more() -> None:
    text = "g (float[2, 8] x) => (float[a, b] y) { h = Cast <to = 10> (x) t = Mul (h, k) y = Cast <to = 1> (t) }"
    feed = {"x": RNG.normal(size=(2, 8)).astype(np.float32)}
    before = parse(text, {"k": np.float16(1.0)})
    assert SameFunction(feed).difference(before, parse(text, {"k": np.float16(1.01)})) is None
    assert SameFunction(feed).difference(before, parse(text, {"k": np.float16(1.1)})) is not None


def test_what_cannot_run_is_said() -> None:
    before, after = graph("y = Identity (x)"), graph("y = Identity (x)")
    same = SameFunction({"x": np.zeros((1, 4, 3, 3), np.float32)})
    assert same.difference(before, after) is None
    assert "could not be compared" in same.note and "Got: 3 Expected: 10" in same.note
    broken = graph("y = Reshape (x, s)", s=np.array([1, 1, 7, 7]))
    assert "cannot be run" in str(SameFunction(FEED).difference(before, broken))


def test_open_dimensions_are_tried_until_the_model_runs() -> None:
    text = "g (float[n, 3, h, w] x, int64[n] i) => (float[a, b, c, d] y) { y = Conv (x, k) }"
    model = parse(text, {"k": np.ones((2, 3, 50, 50), np.float32)})
    same = SameFunction()
    assert same.difference(model, model.copy()) is None
    assert same.feed is not None and same.feed["x"].shape == (1, 3, 64, 64) and same.feed["i"].shape == (1,)
    assert next(iter(made_up(model)))["x"].shape == (1, 3, 32, 32) and not same.note
