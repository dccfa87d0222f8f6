"""useful-range: what readers cannot tell apart, proved by the numbers that they give."""

from __future__ import annotations

import math

import numpy as np
import pytest

from qcompiler import ir
from qcompiler.passes.plan.useful_range import useful_ranges
from tests.graphs import run
from tests.small import graph

C = {"c3": np.float32(3), "c6": np.float32(6), "sixth": np.float32(1 / 6), "minus2": np.float32(-2)}
INTEGER = "s = Add(a, c3) l = Clip(s, zero, c6) g = Mul(l, sixth) y = Mul(a, g)"
CASES = pytest.mark.parametrize(
    ("body", "low", "high"),
    [
        ("y = HardSwish(a)", -3, math.inf),
        ("y = HardSigmoid(a)", -2.5, 2.5),
        ("y = HardSigmoid<alpha = 0.5, beta = 0.25>(a)", -0.5, 1.5),
        (INTEGER, -3, math.inf),
        ("g = HardSigmoid(a) y = Mul(a, g)", -2.5, math.inf),
        ("y = Relu(a)", 0, math.inf),
        ("y = Clip(a, minus, six)", -1, 6),
        ("y = Clip(a, one, six)", 0, 6),
        ("t = Mul(a, half) y = Clip(t, minus, one)", -2, 2),
        ("t = Add(a, c3) y = Clip(t, minus, one)", -4, 0),
        ("t = MaxPool<kernel_shape = [2, 2]>(a) y = HardSigmoid(t)", -2.5, 2.5),
        ("t = Relu(a) y = HardSigmoid(t)", 0, 2.5),
        ("t = HardSigmoid(a) v = HardSwish(a) y = Add(t, v)", -3, math.inf),
    ],
)


def model(body: str) -> ir.Model:
    return graph(f"a = Identity(x) {body}", constants=C)


@CASES
def test_beyond_it_nothing_changes(body: str, low: float, high: float) -> None:
    found = model(body)
    ends = useful_ranges(found)["a"]
    assert ends == pytest.approx((low, high))
    x = np.random.default_rng(0).normal(size=(1, 4, 16, 16)).astype(np.float32) * 6
    clipped = np.clip(x, *ends).astype(np.float32)
    assert (x != clipped).any()
    np.testing.assert_allclose(run(found, {"x": clipped})[0], run(found, {"x": x})[0], atol=2e-6)


@pytest.mark.parametrize(
    ("body", "low", "high", "error"),
    [
        ("y = Sigmoid(a)", -8, 8, 4e-4),
        ("g = Sigmoid(a) y = Mul(a, g)", -10, math.inf, 5e-4),
        ("y = Tanh(a)", -8, 8, 1e-6),
    ],
)
def test_smooth_saturation_costs_next_to_nothing(body: str, low: float, high: float, error: float) -> None:
    found = model(body)
    assert useful_ranges(found)["a"] == (low, high)
    x = np.linspace(-40, 40, 4 * 256, dtype=np.float32).reshape(1, 4, 16, 16)
    np.testing.assert_allclose(run(found, {"x": np.clip(x, low, high)})[0], run(found, {"x": x})[0], atol=error)


@pytest.mark.parametrize(
    "body",
    [
        "t = Relu(a) y = Add(t, a)",
        "y = LeakyRelu(a)",
        "t = Mul(a, minus2) y = Relu(t)",
        "t = Add(a, four) y = Clip(t, minus, one)",
        "y = Clip(a, a1, six)",
        "g = HardSigmoid(x) y = Mul(a, g)",
        "s = Add(a, c3) l = Clip(s, minus, c6) y = Mul(a, l)",
    ],
)
def test_readers_that_tell_everything_apart(body: str) -> None:
    body = f"a1 = ReduceMin<keepdims = 0>(x) a = Identity(x) {body}"
    found = graph(body, constants={**C, "four": np.ones((4, 1, 1), np.float32)})
    assert "a" not in useful_ranges(found)


def test_a_mask_of_many_values_only_lowers() -> None:
    mask = np.triu(np.full((16, 16), -1e30, np.float32), 1)
    found = graph("a = Identity(x) t = Add(a, mask) y = Clip(t, minus, one)", constants={**C, "mask": mask})
    assert useful_ranges(found)["a"] == (-1, math.inf)


def test_outputs_of_the_model_are_read_by_everybody() -> None:
    found = graph("a = Identity(x) y = Relu(a)", outputs="float[N, M, P, Q] y, float[N, M, P, Q] a")
    assert useful_ranges(found) == {}
    assert useful_ranges(graph("a = Identity(x) y = Relu(a)")) == {"x": (0, math.inf), "a": (0, math.inf)}


def test_parts_of_a_concat_are_read_like_the_whole() -> None:
    found = graph("a = Relu(x) b = Identity(x) t = Concat<axis = 1>(b, a) y = HardSwish(t)")
    assert useful_ranges(found)["b"] == (-3, math.inf)
    assert useful_ranges(found)["x"] == (-3, math.inf)
