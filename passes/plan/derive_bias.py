"""Bias b of y = W x + b: scale(b) = scale(x) * scale(w), zero point 0, int32, as the integer kernels add it.

A bias code must fit in int32: where |b| / (scale(x) * scale(w)) would exceed 2^30, the scale of that weight channel is
raised until it does not. Without this the code wraps or saturates, silently.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from qcompiler import ir
from qcompiler.errors import InternalError
from qcompiler.pipeline import PassRecord, PlanPass
from qcompiler.quant import Encoding, QuantPlan, Site, SitePlan

MAX_BIAS_CODE = 2.0**30


@dataclass(frozen=True)
class DeriveBias(PlanPass):
    """Encodes every bias from the final scales of its operands."""

    name: ClassVar[str] = "derive-bias"

    def apply(self, model: ir.Model, plan: QuantPlan, record: PassRecord) -> QuantPlan:
        """The plan with biases encoded; a note tells of each weight whose scales had to be raised."""
        constants = {constant.name: constant for constant in model.constants()}
        done: dict[Site, SitePlan] = {}
        for site, decision in plan.sites.items():
            if decision.derived is None or decision.choice is None:
                continue
            x, w = plan.sites[decision.derived.x].encoding, plan.sites[decision.derived.w].encoding
            if x is None or w is None:
                raise InternalError("a bias has no scales to follow", where=str(site))
            bias = np.abs(ir.array(constants[site.tensor]).astype(np.float64).reshape(-1))
            least = (bias / (MAX_BIAS_CODE * float(x.scale))).astype(np.float32)
            if (w.scale < least).any():
                w = replace(w, scale=np.maximum(w.scale, least))
                done[decision.derived.w] = replace(plan.sites[decision.derived.w], encoding=w)
                record.notes.append(f"scales of {decision.derived.w.tensor!r} raised so that bias {site.tensor!r} fits")
            scale = np.asarray(x.scale * w.scale, np.float32)
            encoding = Encoding(decision.choice, scale, np.zeros(scale.shape, np.int32), "derived")
            done[site] = replace(decision, encoding=encoding)
        record.changes = len(done)
        return plan.with_sites(done)
