"""taps: which taps of a Conv read its input, and what a channel is nearly everywhere."""

from __future__ import annotations

import numpy as np
import pytest

from qcompiler import ir
from qcompiler.numerics.channel_histogram import ChannelHistogram
from qcompiler.numerics.histogram import Histogram
from qcompiler.passes.plan.correct_bias import CorrectBias
from qcompiler.passes.plan.derive_bias import DeriveBias
from qcompiler.passes.plan.encode import Encode
from qcompiler.passes.plan.round_kernels import RoundKernels
from qcompiler.passes.plan.taps import Reading, Readings, shares
from qcompiler.pipeline import Pipeline
from qcompiler.quant import Site
from tests.graphs import parse
from tests.quantized import annotate
from tests.small import graph, normal


class Seen:
    """Statistics of one value, whatever it is called."""

    def __init__(self, values: np.ndarray) -> None:
        self.values = values

    def histogram(self, tensor: str) -> Histogram:
        return Histogram.of(self.values)

    def channels(self, tensor: str, axis: int) -> ChannelHistogram | None:
        return ChannelHistogram(axis).update(self.values)

    def shape(self, tensor: str) -> tuple[int | None, ...] | None:
        return self.values.shape


def test_shares_multiply_over_axes() -> None:
    model = graph("y = Conv<pads = [1, 0, 1, 0]>(x, h, e)", inputs="float[1, 4, 2, 9] x")
    np.testing.assert_allclose(shares(model.nodes[0]), [[0.5] * 3, [1] * 3, [0.5] * 3])


def test_sizes_that_the_graph_leaves_open_are_those_of_samples() -> None:
    node = graph("y = Conv<pads = [1, 1, 1, 1]>(x, h, e)", inputs="float[1, 4, A, B] x").nodes[0]
    assert shares(node).all()
    np.testing.assert_allclose(shares(node, (1, 4, 1, 1)), [[0, 0, 0], [0, 1, 0], [0, 0, 0]])
    np.testing.assert_allclose(shares(node, (1, 4, None, 1)), [[0, 1, 0]] * 3)
    np.testing.assert_allclose(shares(node, (1, 4)), np.ones((3, 3)))


def test_the_level_is_the_mean_of_what_hardly_moves_and_little_of_what_spreads() -> None:
    rng = np.random.default_rng(0)
    spread = np.exp(rng.normal(0, 2.0, 4000))
    x = np.stack([3 + 0.01 * rng.normal(size=4000), rng.normal(size=4000), spread, np.zeros(4000)]).astype(np.float32)
    node = graph("y = Conv(x, h, e)").nodes[0]
    found = Readings(Seen(x.reshape(1, 4, 40, 100))).of(node)
    assert found is not None
    np.testing.assert_allclose(found.means[[0, 2]], x.mean(1)[[0, 2]], rtol=0.1)
    assert found.levels[0] == pytest.approx(3, rel=0.02) and found.levels[3] == 0
    assert abs(found.levels[1]) < 0.01 and found.levels[2] < 0.01 * found.means[2]


def test_a_relative_error_is_least_at_the_level() -> None:
    """Of a lognormal distribution, for which the formula is exact."""
    sigma = 0.8
    x = np.exp(np.random.default_rng(1).normal(0, sigma, 1 << 20))
    level = Reading(x.mean(keepdims=True), np.square(x).mean(keepdims=True), np.ones(())).levels[0]
    error = [float(np.square(1 - t / x).mean()) for t in (0.9 * level, level, 1.1 * level)]
    assert error[1] == min(error)


def short() -> ir.Model:
    """A convolution over one frame: two of three taps only ever read padding."""
    text = "g (float[1, 4, T] x) => (float[1, 6, T] y) { y = Conv <pads = [1, 1]> (x, w, b) }"
    return parse(text, {"w": normal(6, 4, 3), "b": normal(6)})


def test_over_one_frame_only_the_middle_tap_counts() -> None:
    model = short()
    rng = np.random.default_rng(2)
    frames = (np.float32([2, -1, 0.5, 5])[:, None] + 0.001 * rng.normal(size=(4, 1))).astype(np.float32)[None]
    stats = Seen(frames)
    plan, _ = annotate(model)
    steps = [Encode(stats, "minmax"), DeriveBias(), RoundKernels(stats), CorrectBias(stats)]
    plan = Pipeline().plan(model, plan, steps)
    node = model.nodes[0]
    weight, bias = plan.sites[Site("w", node.name, 1)].encoding, plan.sites[Site("b", node.name, 2)].encoding
    assert weight is not None and weight.codes is not None and bias is not None and bias.codes is not None
    exact = ir.array(node.inputs[1]).astype(np.float64)
    steps_ = exact / weight.scale[:, None, None]
    np.testing.assert_array_equal(weight.codes[:, :, 1], np.rint(steps_[:, :, 1]))
    error = (weight.codes * weight.scale[:, None, None].astype(np.float64) - exact)[:, :, 1]
    shift = bias.codes * bias.scale.astype(np.float64) - ir.array(node.inputs[2])
    np.testing.assert_allclose(shift, -error @ frames[0, :, 0], atol=0.02 * np.abs(error @ frames[0, :, 0]).max())
