"""recognise-sigmoid, -silu, -swish, -hardsigmoid, -hardswish."""

from __future__ import annotations

import numpy as np
import pytest

from qcompiler.passes.fusion import RECOGNISER_RULES
from qcompiler.passes.fusion.recognise_hardsigmoid import RecogniseHardsigmoid
from qcompiler.passes.fusion.recognise_hardswish import RecogniseHardswish
from qcompiler.passes.fusion.recognise_sigmoid import RecogniseSigmoid
from qcompiler.passes.fusion.recognise_silu import RecogniseSilu
from qcompiler.passes.fusion.recognise_swish import RecogniseSwish
from tests.graphs import assert_same_numbers, ops, parse, refusals, transform

FEED = [{"x": np.linspace(-9, 9, 40, dtype=np.float32).reshape(5, 8)}]
NUMBERS = {
    "zero": 0.0, "one": 1.0, "minus": -1.0, "three": 3.0, "six": 6.0, "sixth": 1 / 6, "half": 0.5, "fifth": 0.2,
    "five": 5.0, "two": 2.0,
}  # fmt: skip


def graph(body: str, opset: int = 21, shape: tuple[int, ...] = (), dtype: str = "float"):
    used = {name: value for name, value in NUMBERS.items() if name in body.replace("(", " ").replace(",", " ")}
    kind = {"float": np.float32, "float16": np.float16, "double": np.float64}[dtype]
    constants = {name: np.full(shape if name not in ("zero",) else (), value, kind) for name, value in used.items()}
    return parse(f"g ({dtype}[N, 8] x) => ({dtype}[N, 8] y) {{ {body} }}", constants, opset)


SIGMOID = "e = Exp(n) p = Add(e, one) "


@pytest.mark.parametrize("shape", [(), (1,), (1, 1)])
@pytest.mark.parametrize(
    "body",
    [
        f"n = Neg(x) {SIGMOID} y = Div(one, p)",
        f"n = Mul(minus, x) {SIGMOID} y = Reciprocal(p)",
        f"n = Sub(zero, x) {SIGMOID} y = Reciprocal(p)",
        f"n = Div(x, minus) {SIGMOID} y = Pow(p, minus)",
    ],
)
def test_sigmoid(body: str, shape: tuple[int, ...]) -> None:
    before = graph(body, shape=shape)
    after, _ = transform(before, *RECOGNISER_RULES)
    assert ops(after) == ["Sigmoid"]
    assert_same_numbers(before, after, FEED)


def test_sigmoid_refuses_an_exponential_with_another_reader() -> None:
    before = graph(f"n = Neg(x) {SIGMOID} r = Reciprocal(p) y = Mul(e, r)")
    after, records = transform(before, RecogniseSigmoid())
    assert ops(after) == ops(before)
    assert refusals(records) == ["'e', output of Exp 'n1_Exp', is also used by 'n4_Mul'"]


def test_sigmoid_refuses_constants_that_broaden() -> None:
    text = "g (float[8] x) => (float[2, 8] y) { n = Neg(x) e = Exp(n) p = Add(e, ones) y = Reciprocal(p) }"
    after, records = transform(parse(text, {"ones": np.ones((2, 1), np.float32)}), RecogniseSigmoid())
    assert "Exp" in ops(after)
    assert refusals(records) == ["constant 'ones' of shape [2, 1] may broaden 'x'"]


@pytest.mark.parametrize("opset", [21, 24])
def test_silu(opset: int) -> None:
    before = graph(f"n = Neg(x) {SIGMOID} y = Div(x, p)", opset)
    after, _ = transform(before, RecogniseSilu(), RecogniseSwish())
    assert ops(after) == (["Swish"] if opset >= 24 else ["Sigmoid", "Mul"])
    assert_same_numbers(before, after, FEED)


@pytest.mark.parametrize("opset", [21, 24])
def test_a_swish_with_beta_stays(opset: int) -> None:
    before = graph("b = Mul(x, two) s = Sigmoid(b) y = Mul(x, s)", opset)
    after, records = transform(before, *RECOGNISER_RULES)
    assert ops(after) == ["Mul", "Sigmoid", "Mul"]
    assert refusals(records) == []


def test_swish_refuses_float64() -> None:
    after, records = transform(graph("s = Sigmoid(x) y = Mul(x, s)", 24, dtype="double"), RecogniseSwish())
    assert ops(after) == ["Sigmoid", "Mul"]
    assert refusals(records) == ["'x' is float64, for which Swish is not written"]


@pytest.mark.parametrize(
    ("body", "alpha", "beta"),
    [
        ("p = Add(x, three) c = Clip(p, zero, six) y = Div(c, six)", 1 / 6, 0.5),
        ("p = Add(three, x) c = Clip(p, zero, six) y = Mul(c, sixth)", 1 / 6, 0.5),
        ("p = Add(x, three) r = Relu(p) c = Min(r, six) y = Div(c, six)", 1 / 6, 0.5),
        ("p = Add(x, three) r = Max(p, zero) c = Min(r, six) y = Div(c, six)", 1 / 6, 0.5),
        ("p = Add(x, three) r = Min(six, p) c = Relu(r) y = Mul(sixth, c)", 1 / 6, 0.5),
        ("m = Mul(x, fifth) p = Add(m, half) y = Clip(p, zero, one)", 0.2, 0.5),
        ("m = Div(x, five) p = Add(m, half) y = Clip(p, zero, one)", 0.2, 0.5),
        ("p = Add(x, three) m = Mul(p, sixth) y = Clip(m, zero, one)", 1 / 6, 0.5),
        ("p = Add(x, three) m = Div(p, six) r = Max(zero, m) y = Min(r, one)", 1 / 6, 0.5),
        ("c = Clip(x, zero, six) y = Div(c, six)", 1 / 6, 0.0),
    ],
)
def test_hardsigmoid(body: str, alpha: float, beta: float) -> None:
    before = graph(body)
    after, _ = transform(before, *RECOGNISER_RULES)
    assert ops(after) == ["HardSigmoid"]
    attrs = after.nodes[0].attrs
    np.testing.assert_allclose([attrs["alpha"], attrs["beta"]], [alpha, beta], rtol=1e-5)
    assert_same_numbers(before, after, FEED)


def test_hardsigmoid_refuses_a_negative_slope() -> None:
    before = graph("m = Mul(x, minus) p = Add(m, half) y = Clip(p, zero, one)")
    after, records = transform(before, RecogniseHardsigmoid())
    assert ops(after) == ops(before)
    assert refusals(records) == ["the slope inside Clip is -1"]


def test_hardsigmoid_refuses_a_slope_per_channel() -> None:
    text = "g (float[N, 8] x) => (float[N, 8] y) { m = Mul(x, a) p = Add(m, half) y = Clip(p, zero, one) }"
    constants = {"a": np.arange(8, dtype=np.float32)} | {k: np.float32(NUMBERS[k]) for k in ("half", "zero", "one")}
    after, records = transform(parse(text, constants), RecogniseHardsigmoid())
    assert ops(after) == ["Mul", "Add", "Clip"]
    assert refusals(records) == ["constant 'a' of shape [8] may broaden 'x'"]


def test_hardsigmoid_refuses_float64() -> None:
    before = graph("c = Clip(x, zero, six) y = Div(c, six)", dtype="double")
    after, records = transform(before, RecogniseHardsigmoid())
    assert ops(after) == ["Clip", "Div"]
    assert refusals(records) == ["'x' is float64, for which HardSigmoid is not written"]


RELU6 = "p = Add(x, three) c = Clip(p, zero, six) "


@pytest.mark.parametrize(
    "body",
    [
        f"{RELU6} m = Mul(x, c) y = Div(m, six)",
        f"{RELU6} m = Mul(c, x) y = Mul(sixth, m)",
        f"{RELU6} g = Div(c, six) y = Mul(x, g)",
        f"{RELU6} g = Mul(c, sixth) y = Mul(g, x)",
        f"s = Mul(x, sixth) {RELU6} y = Mul(s, c)",
        f"s = Div(x, six) {RELU6} y = Mul(c, s)",
        "m = Mul(x, sixth) p = Add(m, half) c = Clip(p, zero, one) y = Mul(x, c)",
        "p = Add(x, three) m = Div(p, six) c = Clip(m, zero, one) y = Mul(c, x)",
        "p = Add(x, three) r = Relu(p) c = Min(r, six) m = Mul(x, c) y = Div(m, six)",
        "h = HardSigmoid <alpha = 0.16666667, beta = 0.5> (x) y = Mul(x, h)",
    ],
)
@pytest.mark.parametrize("dtype", ["float", "float16"])
def test_hardswish(body: str, dtype: str) -> None:
    before = graph(body, dtype=dtype)
    after, _ = transform(before, *RECOGNISER_RULES)
    assert ops(after) == ["HardSwish"]
    feed = [{"x": FEED[0]["x"].astype(after.inputs[0].dtype)}]
    assert_same_numbers(before, after, feed, **({} if dtype == "float" else {"rtol": 5e-3, "atol": 5e-3}))


def test_hardswish_refuses_another_slope() -> None:
    after, records = transform(graph("h = HardSigmoid(x) y = Mul(x, h)"), RecogniseHardswish())
    assert ops(after) == ["HardSigmoid", "Mul"]
    assert refusals(records) == ["HardSigmoid 'n0_HardSigmoid' has alpha 0.2, beta 0.5; HardSwish has 1/6, 1/2"]


def test_hardswish_refuses_an_old_opset() -> None:
    before = graph(f"{RELU6} m = Mul(x, c) y = Div(m, six)", 13)
    after, records = transform(before, RecogniseHardswish())
    assert ops(after) == ops(before)
    assert refusals(records) == ["opset 13 has no HardSwish, which came with opset 14"]


def test_a_gate_on_another_tensor_is_no_hardswish() -> None:
    text = f"g (float[N, 8] x, float[N, 8] z) => (float[N, 8] y) {{ {RELU6} g = Div(c, six) y = Mul(z, g) }}"
    before = parse(text, {name: np.float32(NUMBERS[name]) for name in ("zero", "three", "six")})
    after, _ = transform(before, *RECOGNISER_RULES)
    assert ops(after) == ["HardSigmoid", "Mul"]
    assert_same_numbers(before, after)
