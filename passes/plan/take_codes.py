"""Codes of weights as another plan of the same weights has them, where their scales agree.

Several forms of a model (at other input shapes, say) share a binary only as far as their weights are the same bits.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from qcompiler import ir
from qcompiler.pipeline import PassRecord, PlanPass
from qcompiler.quant import QuantPlan, Site, SitePlan


@dataclass(frozen=True)
class TakeCodes(PlanPass):
    """Runs in place of rounding, when scales are final.

    Attributes:
        other: the plan to take from.
    """

    name: ClassVar[str] = "take-codes"
    other: QuantPlan

    def apply(self, model: ir.Model, plan: QuantPlan, record: PassRecord) -> QuantPlan:
        """The plan with the codes; `changes` counts weights."""
        shapes = {constant.name: tuple(constant.shape) for constant in model.constants()}
        done: dict[Site, SitePlan] = {}
        for site, decision in plan.quantized():
            twin = self.other.sites.get(site)
            mine, theirs = decision.encoding, None if twin is None else twin.encoding
            if mine is None or theirs is None or theirs.codes is None or theirs.codes.shape != shapes.get(site.tensor):
                continue
            if mine.spec == theirs.spec and np.array_equal(mine.scale, theirs.scale):
                done[site] = replace(decision, encoding=replace(mine, codes=theirs.codes))
        record.changes = len(done)
        return plan.with_sites(done)
