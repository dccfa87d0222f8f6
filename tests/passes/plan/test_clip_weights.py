"""clip-weights: no channel's error is larger than with min-max, and one large weight no longer costs the others."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from qcompiler.numerics.affine import fake_quantize
from qcompiler.passes.plan.clip_weights import ClipWeights
from qcompiler.passes.plan.encode import Encode, wanted
from qcompiler.pipeline import Pipeline
from qcompiler.quant import QuantPlan, Site
from tests.graphs import feed_for, parse
from tests.quantized import Seen, annotate


def plans(weights: np.ndarray) -> tuple[QuantPlan, QuantPlan, Site]:
    rows = weights.shape[0]
    model = parse(f"g (float[2, {rows}] x) => (float[2, 8] y) {{ y = MatMul (x, w) }}", {"w": weights})
    plan, _ = annotate(model)
    stats = Seen.of(model, wanted(model, plan), [feed_for(model)])
    pipeline = Pipeline()
    before = pipeline.plan(model, plan, [Encode(stats)])
    after = pipeline.plan(model, before, [ClipWeights()])
    return before, after, next(site for site in before.sites if site.tensor == "w")


def errors(weights: np.ndarray, plan: QuantPlan, site: Site) -> np.ndarray:
    encoding = plan.sites[site].encoding
    assert encoding is not None
    stored = fake_quantize(weights, encoding.scale, encoding.zero_point, qmin=-128, qmax=127, axis=1)
    return np.asarray(np.square(stored - weights, dtype=np.float64).sum(0))


@given(st.integers(0, 10**6), st.floats(1.1, 5.0))
def test_no_channel_is_worse_than_with_min_max(seed: int, freedom: float) -> None:
    weights = np.random.default_rng(seed).standard_t(freedom, (300, 8)).astype(np.float32)
    before, after, site = plans(weights)
    assert (errors(weights, after, site) <= errors(weights, before, site) * (1 + 1e-6)).all()


def test_a_large_weight_costs_the_others_less() -> None:
    weights = np.random.default_rng(1).uniform(-1, 1, (4096, 8)).astype(np.float32)
    weights[7] = 4.0
    before, after, site = plans(weights)
    assert errors(weights, after, site).sum() < errors(weights, before, site).sum()
    assert after.sites[site].encoding.method == "mse"  # type: ignore[union-attr]
    assert (after.sites[site].encoding.scale <= before.sites[site].encoding.scale).all()  # type: ignore[union-attr]


def test_ranges_that_fit_stay() -> None:
    even = np.where(np.random.default_rng(2).random((64, 8)) < 0.5, -1.0, 1.0).astype(np.float32)
    before, after, site = plans(even)
    assert after.sites[site] is before.sites[site]
