"""Biases that take back what rounding the weights adds on average.

    y = W x + b,   Wq = W + D:   E[y_q] - E[y] = D E[x]   ->   b - D E[x]

with E[x] the mean of each input channel, or its level where it spreads over orders of magnitude (`taps.py`), summed
over the taps of a Conv; a tap counts for the share of places at which it lies inside the input. Inputs of a network's
layers are far from centred (after Relu they are never negative, after HardSwish many channels hardly move), so that
most of the error of rounded weights is this mean. The bias is stored in 32 bits: the correction costs nothing at run
time.

Source: Nagel, van Baalen, Blankevoort, Welling, "Data-free quantization through weight equalization and bias
correction" (ICCV 2019), section 4.2, with measured means in place of those from batch normalisation; Finkelstein,
Almog, Grobman, "Fighting quantization bias with bias" (2019). Measured on MobileNetV3: noise of one layer's weights at
the output 7 to 18 dB lower.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from qcompiler import ir
from qcompiler.numerics.affine import quantize
from qcompiler.passes.lower.codes import axis_of, codes_of, values_of
from qcompiler.passes.plan.encode import Ranges
from qcompiler.passes.plan.taps import Reading, Readings, input_axis
from qcompiler.pipeline import PassRecord, PlanPass
from qcompiler.quant import Encoding, QuantPlan, Site, SitePlan
from qcompiler.rewrite import Refusal

F64 = npt.NDArray[np.float64]
MAX_BIAS_CODE = 2.0**30


@dataclass(frozen=True)
class CorrectBias(PlanPass):
    """Chooses codes for biases of Conv and Gemm. Runs last: when the codes of weights are final.

    Attributes:
        stats: with the channels of what the nodes read; a node without is passed over.
        aliases: as in `encode`.
    """

    name: ClassVar[str] = "correct-bias"
    stats: Ranges | None = None
    aliases: Mapping[str, str] = field(default_factory=dict)

    def apply(self, model: ir.Model, plan: QuantPlan, record: PassRecord) -> QuantPlan:
        """The plan with corrected codes for biases."""
        nodes, known = {node.name: node for node in model.nodes}, Readings(self.stats, self.aliases)
        done: dict[Site, SitePlan] = {}
        for site, decision in plan.quantized():
            node, bias = nodes.get(site.consumer), decision.encoding
            if node is None or decision.derived is None or bias is None or node.op not in ("Conv", "Gemm"):
                continue
            weight = plan.sites[decision.derived.w].encoding
            if weight is None or weight.method == "given" or bias.codes is not None:
                continue
            reading = known.of(node)
            if reading is None:
                reason = f"the channels of {node.inputs[0].name!r} were not observed"
                record.refusals.append(Refusal(self.name, node.name, reason))
                continue
            done[site] = replace(decision, encoding=replace(bias, codes=corrected(node, bias, weight, reading)))
        record.changes = len(done)
        return plan.with_sites(done)


def corrected_by(model: ir.Model, plan: QuantPlan) -> dict[str, int]:
    """The values whose channel means are needed, each with its channel axis."""
    nodes = {node.name: node for node in model.nodes}
    derived = [
        nodes[site.consumer] for site, decision in plan.quantized() if decision.derived and site.consumer in nodes
    ]
    return {node.inputs[0].name: input_axis(node) for node in derived if node.op in ("Conv", "Gemm")}


def corrected(node: ir.Node, bias: Encoding, weight: Encoding, reading: Reading) -> npt.NDArray[np.int32]:
    """Codes of the bias minus D x at the levels of the input."""
    exact = ir.array(node.inputs[1])
    stored = values_of(codes_of(node.inputs[1], weight), weight)
    shift = response(node, stored.astype(np.float64) - exact, reading)
    values = ir.array(node.inputs[2]).astype(np.float64)
    limit = MAX_BIAS_CODE * bias.scale.astype(np.float64)
    wanted = np.clip(values - shift.reshape(values.shape), -limit, limit)
    spec = bias.spec
    codes = quantize(
        wanted, bias.scale, bias.zero_point, qmin=spec.low, qmax=spec.high, dtype=np.int32, axis=axis_of(bias)
    )
    return np.asarray(codes, np.int32)


def response(node: ir.Node, weight: F64, reading: Reading) -> F64:
    """Result, by output channel, of a Conv, Gemm or MatMul without bias on an input with these levels."""
    if node.op != "Conv":
        rows = weight if node.attrs.get("transB", 0) else weight.T
        return np.asarray((rows * reading.levels).sum(axis=1))
    taps = (weight * reading.shares).sum(axis=tuple(range(2, weight.ndim)))
    group = int(node.attrs.get("group", 1))
    groups = taps.reshape(group, -1, taps.shape[1]) * reading.levels.reshape(group, 1, -1)
    return np.asarray(groups.sum(axis=2).reshape(-1))
