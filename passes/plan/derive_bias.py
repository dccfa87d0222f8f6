"""Bias b of y = W x + b: scale(b) = scale(x) * scale(w), zero point 0, int32, as the integer kernels add it.

A bias code must fit in int32: where |b| / (scale(x) * scale(w)) would exceed 2^30, the scale of that weight channel is
raised until it does not. Without this the code wraps or saturates, silently.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from qcompiler import ir
from qcompiler.errors import InternalError
from qcompiler.pipeline import PassRecord, PlanPass
from qcompiler.quant import Encoding, QuantPlan, Site, SitePlan

MAX_BIAS_CODE = 2.0**30
SMALLEST_SCALE = np.finfo(np.float32).tiny


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
            raised = raise_scales(w, bias / (MAX_BIAS_CODE * float(x.scale)))
            if raised is not None:
                w = raised
                done[decision.derived.w] = replace(plan.sites[decision.derived.w], encoding=w)
                record.notes.append(f"scales of {decision.derived.w.tensor!r} raised so that bias {site.tensor!r} fits")
            scale = np.asarray(np.maximum(x.scale * w.scale, SMALLEST_SCALE), np.float32)
            encoding = Encoding(decision.choice, scale, np.zeros(scale.shape, np.int32), "derived")
            done[site] = replace(decision, encoding=encoding)
        record.changes = len(done)
        return plan.with_sites(done)


def raise_scales(weight: Encoding, least: npt.NDArray[np.float64]) -> Encoding | None:
    """The weight's encoding with no scale under `least`, which has one entry per channel; None where none is.

    Codes of optimised rounding belong to the old scales and are dropped.
    """
    if not weight.scale.ndim:
        least = np.asarray(least.max(initial=0.0))
    # next float32 above, so that rounding does not bring the scale under its bound
    bound = np.nextafter(least.astype(np.float32), np.float32(np.inf))
    if (weight.scale >= least).all():
        return None
    return replace(
        weight, scale=np.asarray(np.where(weight.scale < least, bound, weight.scale), np.float32), codes=None
    )
