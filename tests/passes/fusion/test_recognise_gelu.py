"""recognise-gelu: the exact and the approximate form, in the ways exporters write them."""

from __future__ import annotations

import math

import numpy as np
import pytest

from qcompiler.passes.fusion.recognise_gelu import RecogniseGelu
from tests.graphs import assert_same_numbers, ops, parse, refusals, transform

FEED = [{"x": np.linspace(-6, 6, 40, dtype=np.float32).reshape(5, 8)}]
CONSTANTS = {
    "root": math.sqrt(2), "inverse": math.sqrt(0.5), "one": 1.0, "half": 0.5, "two": 2.0, "three": 3.0,
    "k": 0.7978845608, "d": 0.044715, "kd": 0.7978845608 * 0.044715, "other": 1.3,
}  # fmt: skip


def graph(body: str, opset: int = 21, shape: tuple[int, ...] = ()):
    words = set(body.replace("(", " ").replace(")", " ").replace(",", " ").split())
    constants = {k: np.full(shape, v, np.float32) for k, v in CONSTANTS.items() if k in words}
    return parse(f"g (float[N, 8] x) => (float[N, 8] y) {{ {body} }}", constants, opset)


ERF = "z = Div(x, root) e = Erf(z) b = Add(e, one) "
TANH = "c = Pow(x, three) s = Mul(c, d) t = Add(x, s) z = Mul(t, k) e = Tanh(z) b = Add(one, e) "
OUTSIDE = [
    "m = Mul(x, b) y = Mul(m, half)",  # torch: x * (1 + erf) * 0.5
    "h = Mul(x, half) y = Mul(h, b)",  # 0.5 * x * (1 + erf)
    "h = Mul(half, b) y = Mul(x, h)",  # x * Phi(x)
    "h = Div(x, two) y = Mul(b, h)",
    "m = Mul(b, x) y = Div(m, two)",
]


@pytest.mark.parametrize("outside", OUTSIDE)
@pytest.mark.parametrize("inside", [ERF, "z = Mul(inverse, x) e = Erf(z) b = Add(one, e) "])
@pytest.mark.parametrize("shape", [(), (1,)])
def test_erf(inside: str, outside: str, shape: tuple[int, ...]) -> None:
    before = graph(inside + outside, shape=shape)
    after, _ = transform(before, RecogniseGelu())
    assert ops(after) == ["Gelu"]
    assert after.nodes[0].attrs["approximate"] == "none"
    assert_same_numbers(before, after, FEED)


def test_erf_with_the_half_inside_the_bracket() -> None:
    before = graph("z = Mul(x, inverse) e = Erf(z) h = Mul(e, half) b = Add(h, half) y = Mul(x, b)")
    after, _ = transform(before, RecogniseGelu())
    assert ops(after) == ["Gelu"]
    assert_same_numbers(before, after, FEED)


@pytest.mark.parametrize("outside", OUTSIDE)
def test_tanh(outside: str) -> None:
    before = graph(TANH + outside)
    after, _ = transform(before, RecogniseGelu())
    assert ops(after) == ["Gelu"]
    assert after.nodes[0].attrs["approximate"] == "tanh"
    assert_same_numbers(before, after, FEED)


@pytest.mark.parametrize(
    "inside",
    [
        "q = Mul(x, x) c = Mul(q, x) s = Mul(d, c) t = Add(s, x) z = Mul(k, t) ",
        "q = Mul(x, x) s = Mul(q, d) t = Add(one, s) u = Mul(x, k) z = Mul(u, t) ",  # transformers, gelu_fast
        "q = Mul(d, x) r = Mul(q, x) s = Mul(r, x) t = Add(x, s) z = Mul(t, k) ",
        "q = Pow(x, two) s = Mul(q, kd) t = Add(s, k) z = Mul(t, x) ",
    ],
)
def test_tanh_arguments(inside: str) -> None:
    before = graph(inside + "e = Tanh(z) b = Add(e, one) h = Mul(x, half) y = Mul(h, b)")
    after, _ = transform(before, RecogniseGelu())
    assert ops(after) == ["Gelu"]
    assert_same_numbers(before, after, FEED)


def test_a_cube_with_another_reader_stays_for_it() -> None:
    text = TANH + "h = Mul(x, half) w = Mul(h, b) y = Add(w, c)"
    before = graph(text)
    after, _ = transform(before, RecogniseGelu())
    assert ops(after) == ["Pow", "Gelu", "Add"] or ops(after) == ["Gelu", "Pow", "Add"]
    assert_same_numbers(before, after, FEED)


def test_refuses_another_argument() -> None:
    before = graph("z = Mul(x, other) e = Erf(z) b = Add(e, one) m = Mul(x, b) y = Mul(m, half)")
    after, records = transform(before, RecogniseGelu())
    assert ops(after) == ops(before)
    assert refusals(records) == ["the argument of Erf 'n1_Erf' is not x / sqrt(2) with x = 'x'"]


def test_refuses_an_argument_of_another_tensor() -> None:
    text = "g (float[N, 8] x, float[N, 8] u) => (float[N, 8] y) { z = Div(u, root) e = Erf(z) b = Add(e, one)"
    text += " m = Mul(x, b) y = Mul(m, half) }"
    before = parse(text, {name: np.float32(CONSTANTS[name]) for name in ("root", "one", "half")})
    after, records = transform(before, RecogniseGelu())
    assert ops(after) == ops(before)
    assert refusals(records) == ["the argument of Erf 'n1_Erf' is not x / sqrt(2) with x = 'x'"]


def test_refuses_an_old_opset() -> None:
    before = graph(ERF + OUTSIDE[0], 17)
    after, records = transform(before, RecogniseGelu())
    assert ops(after) == ops(before)
    assert refusals(records) == ["opset 17 has no Gelu, which came with opset 20"]
