"""Masks: what Softmax cannot see does not cost steps of the grid."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qcompiler import ir
from qcompiler.numerics.histogram import Histogram
from qcompiler.passes.plan.encode import Encode
from qcompiler.passes.plan.masks import OUT_OF_SIGHT, lowest_in_sight
from qcompiler.passes.plan.useful_range import useful_ranges
from tests.graphs import parse, run
from tests.quantized import Seen

MASK = pytest.mark.parametrize("mask", [-1e3, -1e4, float(np.finfo(np.float32).min)])
ADDED = "g (float[4,8] x, float[1,8] m) => (float[4,8] y) { a = Add(x, m) y = Softmax(a) }"
CHOSEN = "g (float[4,8] x, bool[1,8] b) => (float[4,8] y) { w = Where(b, c, x) y = Softmax(w) }"


def scores(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(4, 8), scale=4).astype(np.float32)


@MASK
def test_the_gap_is_found(mask: float) -> None:
    x = scores()
    masked = x.copy()
    masked[:, 5:] = mask
    assert lowest_in_sight(Histogram.of(masked)) == pytest.approx(x[:, :5].min() - OUT_OF_SIGHT, abs=0.2)


@given(st.integers(0, 100), st.floats(0.1, 1e4))
def test_without_a_mask_there_is_none(seed: int, scale: float) -> None:
    assert lowest_in_sight(Histogram.of(np.random.default_rng(seed).normal(size=4096) * scale)) == -math.inf


@pytest.mark.parametrize("values", [[], [3.0], [0.0, 1.0, 15.0]])
def test_few_values_are_no_mask(values: list[float]) -> None:
    assert lowest_in_sight(Histogram.of(np.float32(values))) == -math.inf


@MASK
def test_nothing_changes_below_what_is_seen(mask: float) -> None:
    """An added mask: both operands may saturate, each where the sum stays out of sight."""
    model, x = parse(ADDED), scores()
    m = np.float32([[0, 0, 0, 0, 0, mask, mask, mask]])
    stats = Seen.of(model, ["x", "m", "a"], [{"x": x, "m": m}])
    ends = useful_ranges(model, stats.histogram)
    assert ends["a"][0] > x.min() - 2 * OUT_OF_SIGHT
    assert ends["a"][0] - x.max() == pytest.approx(ends["m"][0]) and ends["x"][0] == ends["a"][0]
    clipped = {"x": x.clip(*ends["x"]).astype(np.float32), "m": m.clip(*ends["m"]).astype(np.float32)}
    np.testing.assert_allclose(run(model, clipped)[0], run(model, {"x": x, "m": m})[0], atol=1e-6)


def test_a_mask_in_place_of_scores() -> None:
    model, x = parse(CHOSEN, {"c": np.float32(-1e4)}), scores()
    b = np.arange(8)[None] > 4
    ends = useful_ranges(model, Seen.of(model, ["x", "w"], [{"x": x, "b": b}]).histogram)
    assert ends["w"] == ends["x"] and -2 * OUT_OF_SIGHT < ends["w"][0] < x[:, :5].min()


def test_a_constant_mask_ends_there_too() -> None:
    text = "g (float[4,8] x) => (float[4,8] y) { a = Add(x, m) y = Softmax(a) }"
    mask = np.float32([[0, 0, 0, 0, 0, -1e9, -1e9, -1e9]])
    model = parse(text, {"m": mask})
    ends = useful_ranges(model, Seen.of(model, ["x", "a"], [{"x": scores()}]).histograms.get)
    assert ends["m"][0] == pytest.approx(ends["a"][0] - scores().max())


def test_without_statistics_nothing_is_known() -> None:
    assert useful_ranges(parse(ADDED)) == {}


def test_the_grid_holds_the_scores_alone() -> None:
    from qcompiler.backends.qnn.backend import Qnn
    from tests.backends.qnn.helper import drafted

    model, x = parse(ADDED), scores()
    feed = {"x": x, "m": np.float32([[0, 0, 0, 0, 0, -1e4, -1e4, -1e4]])}
    draft = drafted(model, "w8a8", Qnn())
    stats = Seen.of(draft.model, ["x", "m", "a", "y"], [feed])
    from qcompiler.pipeline import Pipeline

    plan = Pipeline().plan(draft.model, draft.plan, [Encode(stats, "minmax")])
    grids = {site.tensor: decision.encoding for site, decision in plan.quantized()}
    low, high = grids["a"].range  # type: ignore[union-attr]
    assert isinstance(draft.model, ir.Model) and high - low < x.max() - x.min() + 2 * OUT_OF_SIGHT
