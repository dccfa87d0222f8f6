"""derive-bias: scales of biases follow from their operands, and codes fit in int32."""

from __future__ import annotations

import numpy as np
import pytest

from qcompiler import ir
from qcompiler.numerics.histogram import Histogram
from qcompiler.passes.plan.derive_bias import DeriveBias
from qcompiler.passes.plan.encode import Encode
from qcompiler.pipeline import Pipeline
from qcompiler.quant import Encoding, PerTensor, QSpec, QuantPlan, Site
from qcompiler.quant.qtype import INT8, UINT8
from tests.graphs import run
from tests.quantized import Seen, annotate, quantize
from tests.small import FIRST, graph, normal


def derived(
    model: ir.Model, ranges: dict[str, tuple[float, float]], given: dict[Site, Encoding] | None = None
) -> tuple[QuantPlan, list[str]]:
    plan, _ = annotate(model, given=given)
    stats = Seen(
        {site.tensor: Histogram.of(np.asarray(ranges.get(site.tensor, (-1, 1)), np.float32)) for site in plan.sites}
    )
    pipeline = Pipeline()
    plan = pipeline.plan(model, plan, [Encode(stats, "minmax"), DeriveBias()])
    return plan, pipeline.trace.notes


def at(plan: QuantPlan, site: str) -> Encoding:
    encoding = plan.sites[Site.parse(site)].encoding
    assert encoding is not None
    return encoding


def test_the_scale_is_the_product() -> None:
    plan, notes = derived(graph(f"{FIRST} y = Conv(a, v, c)"), {})
    for x, w, b in (("x@Conv_a:0", "w@Conv_a:1", "b@Conv_a:2"), ("a", "v@Conv_y:1", "c@Conv_y:2")):
        found = at(plan, b)
        np.testing.assert_array_equal(found.scale, at(plan, x).scale * at(plan, w).scale)
        assert found.scale.dtype == np.float32
        assert found.scale.shape == (8,)
        assert not found.zero_point.any()
        assert found.zero_point.shape == (8,)
    assert notes == []


def test_a_scaled_input_counts_with_its_gain() -> None:
    plan, _ = derived(graph(f"{FIRST} s = Mul(a, half) y = Conv(s, v, c)"), {})
    np.testing.assert_array_equal(
        at(plan, "c@Conv_y:2").scale, at(plan, "a").scale * np.float32(0.5) * at(plan, "v@Conv_y:1").scale
    )


def test_the_use_counts_not_the_first_use() -> None:
    """Two readers of one float value that were trained with two encodings."""
    mine = {
        Site("t", name, 0): Encoding(QSpec(UINT8), np.asarray(scale, np.float32), np.asarray(128, np.int32), "given")
        for name, scale in (("Conv_d", 0.25), ("Conv_i", 0.5))
    }
    body = "t = Tanh(x) d = Conv(t, w, b) i = Conv(t, w, b) g = Add(d, i) y = Conv(g, v)"
    plan, _ = derived(graph(body), {}, mine)
    np.testing.assert_array_equal(at(plan, "b@Conv_i:2").scale, np.float32(0.5) * at(plan, "w@Conv_i:1").scale)
    np.testing.assert_array_equal(at(plan, "b@Conv_d:2").scale, np.float32(0.25) * at(plan, "w@Conv_d:1").scale)


def test_a_bias_that_would_not_fit_raises_the_weight_scale() -> None:
    weight = normal(8, 4, 3, 3, spread=1e-4)
    weight[3] *= 1e-6
    bias = np.full(8, 100, np.float32)
    model = graph("y = Conv(x, w, b)", constants={"w": weight, "b": bias})
    plan, notes = derived(model, {"x": (-1e-3, 1e-3)})
    assert notes == ["scales of 'w' raised so that bias 'b' fits"]
    codes = bias / at(plan, "b@Conv_y:2").scale.astype(np.float64)
    assert codes.max() <= 2**30
    assert codes[3] > 2**30 * 0.99
    natural = np.abs(weight).max((1, 2, 3)) / 127
    raised = at(plan, "w@Conv_y:1").scale > natural * 1.01
    assert raised[3]
    found = quantize(model, feeds=[{"x": normal(1, 4, 16, 16, spread=1e-3)}])
    expected = run(model, found.feeds[0])[0]
    np.testing.assert_allclose(found.outputs()[0], expected, rtol=0.01)
    np.testing.assert_allclose(found.outputs(optimize=True)[0], expected, rtol=0.01)


def test_a_weight_with_one_scale_keeps_one_scale() -> None:
    bias = np.array([0, 0, 0, 0, 0, 0, 0, 1e6], np.float32)
    model = graph("y = Conv(x, w, b)", constants={"b": bias})
    one = Encoding(
        QSpec(INT8, PerTensor(), symmetric=True), np.asarray(1e-5, np.float32), np.asarray(0, np.int32), "given"
    )
    plan, notes = derived(model, {"x": (-1e-3, 1e-3)}, {Site("w", "Conv_y", 1): one})
    assert len(notes) == 1
    assert at(plan, "w@Conv_y:1").scale.shape == ()
    assert at(plan, "b@Conv_y:2").scale.shape == ()
    assert 1e6 / float(at(plan, "b@Conv_y:2").scale) <= 2**30


def test_dead_channels_and_tiny_values_keep_scales_normal() -> None:
    weight = np.zeros((8, 4, 3, 3), np.float32)
    weight[1] = 1e-30
    model = graph("y = Conv(x, w, b)", constants={"w": weight, "b": np.array([1, 0, 2, 0, 0, 0, 0, -3], np.float32)})
    feeds = [{"x": normal(1, 4, 16, 16, spread=1e-20)}]
    found = quantize(model, feeds=feeds)
    scale = at(found.plan, "b@Conv_y:2").scale
    assert (scale >= np.finfo(np.float32).tiny).all()
    for optimize in (False, True):
        np.testing.assert_allclose(found.outputs(optimize=optimize)[0], run(model, feeds[0])[0], atol=0.02)


@pytest.mark.parametrize("op", ["Gemm(x, m, n)", "Gemm<transB = 1>(x, mm, nn)"])
def test_gemm(op: str) -> None:
    model = graph(f"y = {op}", "float[5, 16] x", "float[P, Q] y", {"mm": normal(10, 16), "nn": normal(10)})
    found = quantize(model)
    expected = run(model, found.feeds[0])[0]
    for optimize in (False, True):
        np.testing.assert_allclose(found.outputs(optimize=optimize)[0], expected, atol=0.03 * np.abs(expected).max())
    assert found.optimised().fallback == ()
