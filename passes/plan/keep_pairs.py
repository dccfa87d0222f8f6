"""Codes chosen by rounding, for hardware that adds products in pairs in int16: none may saturate.

    |w0 + w1| X <= 32767 for every pair      (see `avoid_saturation`, which chose the scales for nearest codes)

Rounding moves codes by one, so that a pair at its bound may leave it. A channel with such a pair goes back to nearest
codes, which keep the bound; all others keep what rounding chose.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from qcompiler import ir
from qcompiler.passes.lower.codes import nearest
from qcompiler.passes.plan.avoid_saturation import (
    INT16,
    broken_pairs,
    channels_of,
    largest_code,
    paired,
)
from qcompiler.pipeline import PassRecord, PlanPass
from qcompiler.quant import QuantPlan, Site, SitePlan


@dataclass(frozen=True)
class KeepPairs(PlanPass):
    """Runs after the passes that choose codes of weights, before those that make good for them in biases."""

    name: ClassVar[str] = "keep-pairs"

    def apply(self, model: ir.Model, plan: QuantPlan, record: PassRecord) -> QuantPlan:
        """The plan with nearest codes where chosen ones could saturate; `changes` counts channels."""
        done: dict[Site, SitePlan] = {}
        for site, node, constant, old in paired(model, plan):
            if old.codes is None or old.method == "given":
                continue
            values = ir.array(constant).astype(np.float32, copy=False)
            broken = np.unique(broken_pairs(values, old, node, INT16 // largest_code(plan, node))[2])
            if broken.size:
                back = np.isin(channels_of(values.shape, old), broken)
                codes = np.where(back, nearest(values, old), old.codes).astype(old.codes.dtype)
                done[site] = replace(plan.sites[site], encoding=replace(old, codes=codes))
                record.changes += broken.size
        return plan.with_sites(done)
