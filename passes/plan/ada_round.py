"""Weights rounded so that the results of their layers are least off, given what the layers read.

    Conv, Gemm, MatMul:   minimise over codes   E |W x - scale * codes x|^2     (see `numerics/adaround`)

Where `correct-bias` takes the mean of the error into the bias, only its deviation from the mean is left to minimise,
and the moments are those about the mean.

Source: Nagel et al., "Up or down? Adaptive rounding for post-training quantization" (ICML 2020).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from qcompiler import ir
from qcompiler.analysis.patch_moments import Layer, Moments
from qcompiler.numerics.adaround import F64, adaround
from qcompiler.numerics.patches import Window
from qcompiler.pipeline import PassRecord, PlanPass
from qcompiler.quant import Encoding, PerAxis, PerTensor, QuantPlan, Site, SitePlan
from qcompiler.rewrite import Refusal
from qcompiler.targets import channel_axis

__all__ = ["AdaRound", "layers_of"]

OPS = ("Conv", "Gemm", "MatMul")


@dataclass(frozen=True)
class AdaRound(PlanPass):
    """Chooses codes for weights of at most 8 bits. Runs after `derive_bias`, before `round_kernels`.

    Attributes:
        moments: of the inputs, by node.
        centred: biases take the mean error.
    """

    name: ClassVar[str] = "adaround"
    moments: Mapping[str, Moments] = field(default_factory=dict)
    centred: bool = True

    def apply(self, model: ir.Model, plan: QuantPlan, record: PassRecord) -> QuantPlan:
        """The plan with codes for weights whose encoding did not come with the model."""
        done: dict[Site, SitePlan] = {}
        for node, site in weights(model, plan):
            decision = plan.sites[site]
            encoding, seen = decision.encoding, self.moments.get(node.name)
            if encoding is None or encoding.method == "given" or encoding.codes is not None:
                continue
            if seen is None:
                reason = f"the moments of {node.inputs[0].name!r} are too large, or were not observed"
                record.refusals.append(Refusal(self.name, node.name, reason))
                continue
            biased = len(node.inputs) > 2 and bool(node.inputs[2].name)
            second = seen.centred if self.centred and biased else seen.plain
            done[site] = replace(decision, encoding=replace(encoding, codes=codes(node, encoding, second)))
        record.changes = len(done)
        return plan.with_sites(done)


def weights(model: ir.Model, plan: QuantPlan) -> Iterator[tuple[ir.Node, Site]]:
    """The layers with one static activation and a symmetric integer weight, each with the site of its weight."""
    for node in model.nodes:
        if node.op not in OPS or node.domain or len(node.inputs) < 2:
            continue
        site = Site(node.inputs[1].name, node.name, 1)
        decision = plan.sites.get(site)
        spec = None if decision is None else decision.choice
        if spec is None or not isinstance(node.inputs[1], ir.Constant) or spec.qtype.kind != "int":
            continue
        whole = isinstance(spec.granularity, PerTensor) or spec.granularity == PerAxis(channel_axis(node))
        flat = node.op == "Conv" or len(node.inputs[1].shape) == 2
        if whole and flat and spec.symmetric and spec.qtype.bits <= 8 and reads(node, plan) is not None:
            yield node, site


def reads(node: ir.Node, plan: QuantPlan) -> Encoding | None:
    """The encoding of what a layer reads; None where it is float, dynamic, or not one scale."""
    name = node.inputs[0].name
    decision = plan.sites.get(Site(name, node.name, 0)) or plan.sites.get(Site(name))
    encoding = None if decision is None else decision.encoding
    if encoding is None or encoding.scale.ndim or encoding.spec.qtype.kind != "int" or encoding.spec.dynamic:
        return None
    return encoding if encoding.spec.qtype.bits <= 8 and not node.attrs.get("transA", 0) else None


def layers_of(model: ir.Model, plan: QuantPlan) -> dict[str, Layer]:
    """What `AdaRound` needs the moments of, by node."""
    found: dict[str, Layer] = {}
    for node, _ in weights(model, plan):
        encoding, window = reads(node, plan), window_of(node)
        if encoding is not None and window is not None:
            found[node.name] = Layer(node.inputs[0].name, window, encoding)
    return found


def window_of(node: ir.Node) -> Window | None:
    """The geometry of a layer; None where the padding is not stated."""
    if node.op != "Conv":
        return Window()
    kernel = tuple(node.inputs[1].shape[2:])
    rank = len(kernel)
    if str(node.attrs.get("auto_pad", "NOTSET")) not in ("NOTSET", "VALID"):
        return None
    numbers = {"strides": [1] * rank, "dilations": [1] * rank, "pads": [0] * 2 * rank}
    read = {name: tuple(map(int, node.attrs.get(name, default))) for name, default in numbers.items()}
    return Window(kernel, read["strides"], read["dilations"], read["pads"], int(node.attrs.get("group", 1)))


def codes(node: ir.Node, encoding: Encoding, second: F64) -> npt.NDArray[Any]:
    """Codes of the weight, of its shape."""
    rows = rows_of(node, encoding, ir.array(node.inputs[1]).astype(np.float64), second.shape[0])
    return codes_of(node, encoding, adaround(rows, second, low=encoding.spec.low, high=encoding.spec.high))


def rows_of(node: ir.Node, encoding: Encoding, values: F64, groups: int) -> F64:
    """Values of a weight's shape in units of its steps: (groups, rows, K), one row for each output channel."""
    axis = encoding.spec.granularity.axis if isinstance(encoding.spec.granularity, PerAxis) else None
    form = [-1 if i == axis and encoding.scale.ndim else 1 for i in range(values.ndim)]
    steps = values / encoding.scale.astype(np.float64).reshape(form)
    rows = steps.T if turned(node) else steps
    return rows.reshape(groups, rows.shape[0] // groups, -1)


def codes_of(node: ir.Node, encoding: Encoding, rows: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Codes of a weight's shape and type from those of its rows."""
    shape = tuple(node.inputs[1].shape)
    found = rows.reshape(shape[::-1]).T if turned(node) else rows.reshape(shape)
    return np.ascontiguousarray(found).astype(np.int8 if encoding.spec.low < 0 else np.uint8)


def turned(node: ir.Node) -> bool:
    """Whether the output channels of a matrix are its columns."""
    return node.op == "MatMul" or (node.op == "Gemm" and not node.attrs.get("transB", 0))
