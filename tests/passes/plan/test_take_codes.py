"""Weights rounded as in another plan."""

from dataclasses import replace

import numpy as np

from qcompiler.passes.plan.take_codes import TakeCodes
from qcompiler.pipeline import Pipeline
from qcompiler.quant import Site
from tests.graphs import parse
from tests.quantized import quantize


def test_codes_are_taken_where_scales_agree() -> None:
    weight = np.random.default_rng(0).normal(size=(4, 3, 3, 3)).astype(np.float32)
    model = parse("g (float[1,3,8,8] x) => (float[1,4,6,6] y) { y = Conv(x, w) }", {"w": weight})
    plan = quantize(model).plan
    site = Site("w", model.nodes[0].name, 1)
    encoding = plan.sites[site].encoding
    assert encoding is not None
    codes = np.zeros(weight.shape, np.int8)
    other = plan.with_sites({site: replace(plan.sites[site], encoding=replace(encoding, codes=codes))})
    taken = Pipeline().plan(model, plan, [TakeCodes(other)]).sites[site].encoding
    assert taken is not None and taken.codes is codes
    coarse = replace(encoding, scale=encoding.scale * np.float32(2), codes=codes)
    other = plan.with_sites({site: replace(plan.sites[site], encoding=coarse)})
    kept = Pipeline().plan(model, plan, [TakeCodes(other)]).sites[site].encoding
    assert kept is not None and kept.codes is not codes
