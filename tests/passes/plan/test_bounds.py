"""bounds: grids that say what Relu and Clip say."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from qcompiler.passes.plan.bounds import Bounds, bounds, expressible, fits, within
from qcompiler.passes.plan.encode import affine, given_within
from qcompiler.quant import Encoding, QSpec
from qcompiler.quant.qtype import UINT8
from tests.small import graph

U8 = QSpec(UINT8)


def grid(scale: float, zero_point: int, method: str = "minmax") -> Encoding:
    return Encoding(U8, np.asarray(scale, np.float32), np.asarray(zero_point, np.int32), method)


def numbers(encoding: Encoding) -> tuple[float, int]:
    return float(encoding.scale), int(encoding.zero_point)


@pytest.mark.parametrize(
    ("node", "expected", "says"),
    [
        ("Relu(x)", (0, math.inf), True),
        ("Clip(x, zero, six)", (0, 6), True),
        ("Clip(x, minus, one)", (-1, 1), True),
        ("Clip(x, , one)", (-math.inf, 1), True),
        ("Clip(x, minus)", (-1, math.inf), False),
        ("Clip(x)", (-math.inf, math.inf), False),
        ("Clip(x, one, five)", (1, 5), False),
        ("Clip(x, minus, zero)", (-1, 0), False),
        ("Clip(x, x0, six)", None, False),
        ("Sigmoid(x)", None, False),
    ],
)
def test_bounds_of_activations(node: str, expected: Bounds | None, says: bool) -> None:
    model = graph(f"y = {node}", "float[4] x, float x0", "float[4] y")
    activation = model.nodes[0]
    assert bounds(activation) == expected
    assert expressible(activation, activation.inputs[0]) is says
    assert not expressible(activation, model.outputs[0])


@pytest.mark.parametrize(
    ("encoding", "limit", "expected"),
    [
        (grid(0.1, 0), (0, math.inf), True),
        (grid(0.1, 1), (0, math.inf), False),
        (grid(6 / 255, 0), (0, 6), True),
        (grid(6.01 / 255, 0), (0, 6), True),
        (grid(6.05 / 255, 0), (0, 6), False),
        (grid(3 / 255, 0), (0, 6), True),
        (grid(2 / 255, 128), (-1, 1), False),
        (grid(1 / 128, 128), (-1, 1), True),
        (grid(1 / 255, 255), (-1, 1), True),
        (grid(0.5, 100), (-math.inf, 10), False),
        (grid(0.05, 100), (-math.inf, 10), True),
        (grid(1e-9, 0), (0, 6), False),
    ],
)
def test_fits(encoding: Encoding, limit: Bounds, expected: bool) -> None:
    assert fits(encoding, limit) is expected


def test_within_keeps_what_fits() -> None:
    encoding = grid(6 / 255, 0)
    assert within(encoding, (0, 6)) is encoding


def test_within_shrinks_to_the_bounds() -> None:
    assert numbers(within(grid(2 / 255, 128), (-1, 1))) == (pytest.approx(1 / 128), 128)
    assert numbers(within(grid(8 / 255, 0), (0, 6))) == (pytest.approx(6 / 255), 0)
    assert numbers(within(grid(0.1, 128), (0, math.inf))) == (pytest.approx(0.1 * 127 / 255), 0)
    assert numbers(within(grid(1.0, 128), (0, 6))) == (pytest.approx(6 / 255), 0)
    assert numbers(within(grid(1e-12, 0), (0, 6))) == (pytest.approx(6 / 2**30), 0)


ends = st.floats(1e-3, 1e3)


@given(ends, ends, st.floats(0, 1), st.floats(0, 1))
def test_any_range_inside_the_bounds_gives_a_grid_that_fits(low: float, high: float, start: float, end: float) -> None:
    limit = (-low, high)
    encoding = affine(-low * start, high * end, U8, "minmax")
    found = within(encoding, limit)
    assert fits(found, limit)
    # at most half a step is lost at either end, on top of what the zero point's rounding moved
    assert float(found.scale) >= float(encoding.scale) * (1 - 1.01 / 128) or float(found.scale) >= high / 2.0**30
    assert fits(within(found, limit), limit)


@given(st.floats(1e-3, 10), st.integers(0, 255), st.just(0.0) | ends.map(lambda v: -v), st.just(math.inf) | ends)
def test_any_grid_can_be_brought_within_the_bounds(scale: float, zero: int, low: float, high: float) -> None:
    assume(low == 0 or zero > 0)
    found = within(grid(scale, zero), (low, high))
    assert fits(found, (low, high))
    assert found.range[1] <= max(high, 0) * 1.01
    assert found.range[0] >= low * 1.01


# ---- symmetric grids behind Relu, from models trained with quantization
def test_a_given_grid_keeps_its_steps_where_nothing_saturated() -> None:
    found = given_within(grid(0.1, 128, "given"), (0, math.inf), largest=12.7)
    assert numbers(found) == (pytest.approx(0.1), 0)


def test_a_given_grid_keeps_its_end_where_values_saturated() -> None:
    found = given_within(grid(0.1, 128, "given"), (0, math.inf), largest=13.0)
    assert numbers(found) == (pytest.approx(12.7 / 255), 0)


def test_a_given_grid_keeps_to_the_bounds_of_clip() -> None:
    assert numbers(given_within(grid(0.1, 128, "given"), (0, 6), largest=6.0)) == (pytest.approx(6 / 255), 0)
