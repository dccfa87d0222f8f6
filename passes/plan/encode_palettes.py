"""Palettes of weights by what their inputs are like: k-means that counts inputs, then codes that correct each other.

    MatMul x W (K, N), Gemm with transB (N, K)  ->  rows of K, a palette for each group of rows
    Conv W (O, I, taps...)                      ->  rows of I * taps

A value counts as the mean square of the input that it is multiplied with; the codes are those of `gptq`, which takes
back the error of a column by those that follow. Without second moments `encode` finds palettes from values alone.

Sources: Kim et al., "SqueezeLLM" (2024), for k-means that counts what matters; `gptq` for the codes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from qcompiler import ir
from qcompiler.numerics.gptq import gptq, proxy_loss
from qcompiler.numerics.palette import PaletteGrid
from qcompiler.pipeline import PassRecord, PlanPass
from qcompiler.quant import Encoding, PerBlock, PerGroup, QSpec, QuantPlan, Site
from qcompiler.targets.spec import reduced_axis

F64 = npt.NDArray[np.float64]

WIDEST = 2304
"""Numbers in a row of a convolution, at most: 256 channels of 3 x 3."""


@dataclass(frozen=True)
class EncodePalettes(PlanPass):
    """Encodes the weights that the plan stores by palettes and whose inputs are known.

    Attributes:
        moments: sum of x x^T by the name of the value that a matrix product reads.
        patches: the same by the name of a convolution.
    """

    name: ClassVar[str] = "encode-palettes"
    moments: Mapping[str, F64] = field(default_factory=dict)
    patches: Mapping[str, F64] = field(default_factory=dict)

    def apply(self, model: ir.Model, plan: QuantPlan, record: PassRecord) -> QuantPlan:
        """The plan with codes; a note says what they lose."""
        nodes, done, losses = {node.name: node for node in model.nodes}, {}, []
        for site in palettes(model, plan):
            decision, node = plan.sites[site], nodes[site.consumer]
            conv = node.op == "Conv"
            moments = self.patches.get(node.name) if conv else self.moments.get(node.inputs[0].name)
            if decision.choice is None or decision.encoding is not None or moments is None:
                continue
            encoding, loss = by_inputs(ir.array(node.inputs[1]), decision.choice, reduced_axis(node), moments)
            losses.append(loss)
            done[site] = replace(decision, encoding=encoding, why=f"{decision.why}, {encoding.method}")
        record.changes = len(done)
        if losses:
            lost = f"{np.mean(losses):.3%} of the outputs' energy on average"
            record.notes.append(f"{len(losses)} weights by palettes, which lose {lost}")
        return plan.with_sites(done)


def palettes(model: ir.Model, plan: QuantPlan) -> list[Site]:
    """The weights of products, and of convolutions without groups, that the plan stores by palettes."""
    nodes = {node.name: node for node in model.nodes}
    return [
        site
        for site, decision in plan.quantized()
        if decision.choice is not None
        and decision.choice.qtype.kind == "codebook"
        and not isinstance(decision.choice.granularity, PerBlock)
        and site.port == 1
        and site.consumer in nodes
        and rounded(nodes[site.consumer])
    ]


def rounded(node: ir.Node) -> bool:
    """Whether rows of the weight of a node are multiplied with rows of its input, or patches."""
    if not isinstance(node.inputs[1], ir.Constant):
        return False
    if node.op == "Conv":
        return int(node.attrs.get("group", 1)) == 1 and math.prod(node.inputs[1].shape[1:]) <= WIDEST
    return node.op in ("MatMul", "Gemm") and not node.attrs.get("transA", 0) and len(node.inputs[1].shape) == 2


def by_inputs(values: npt.NDArray[np.floating], spec: QSpec, reduced: int, moments: F64) -> tuple[Encoding, float]:
    """The encoding of a matrix, and the squared error of its outputs as a share of their squares."""
    turned = np.moveaxis(values, reduced, -1) if values.ndim == 2 else values.reshape(len(values), -1)
    rows = np.ascontiguousarray(turned, np.float32)
    run = spec.granularity.size if isinstance(spec.granularity, PerGroup) else len(rows)
    grid = PaletteGrid.of(rows, 2**spec.qtype.bits, run, np.diag(moments))
    found, whole = gptq(rows, moments, grid), proxy_loss(rows, moments)
    codes = found.codes.astype(np.uint8)
    codes = np.ascontiguousarray(np.moveaxis(codes, -1, reduced)) if values.ndim == 2 else codes.reshape(values.shape)
    encoding = Encoding(spec, np.ones((), np.float32), np.zeros((), np.int32), "k-means, gptq", codes, grid.table)
    return encoding, found.loss / whole if whole > 0 else 0.0
