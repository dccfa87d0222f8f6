"""AveragePool(x; k, s, p) -> Conv(x, 1 / |k|; k, s, p, group = C), or GlobalAveragePool(x) where k is the whole image.

Holds where every window is divided by the same number: without padding, or with padding that counts. Exact but for
rounding; the weight is one code per channel. It pays inside a quantized region: ONNX Runtime's integer average is 12 to
20 times slower than the float one, the integer depthwise Conv as fast (fact sheet, rule 10; 64 x 40 x 40 between two
1 x 1 Convs: 3 x 3 window 163 us, float between Q and DQ 212 us, QLinearAveragePool 655 us).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from qcompiler import ir
from qcompiler.passes.condition.integer_forms import region_with_forms
from qcompiler.pipeline import GraphPass, PassRecord
from qcompiler.quant import QSpec
from qcompiler.rewrite import Refusal
from qcompiler.targets import TargetSpec


@dataclass(frozen=True)
class AveragePoolToConv(GraphPass):
    """Rewrites the average pools that stand in a quantized region.

    Attributes:
        target: decides which nodes those are.
        spec: how activations are stored.
        keep_float: as in `annotate`.
    """

    name: ClassVar[str] = "average-pool-to-conv"
    target: TargetSpec
    spec: QSpec
    keep_float: tuple[str, ...] = ()

    def apply(self, model: ir.Model, record: PassRecord) -> None:
        """Rewrites AveragePool nodes of the main graph; node and result keep their names."""
        pools = [node for node in model.nodes if node.op == "AveragePool" and not node.domain]
        if not pools:
            return
        region = region_with_forms(model, self.target, self.spec, self.keep_float)
        edit = ir.Editor(model, model.graph)
        for node in pools:
            if node.name in region.rules:
                self._rewrite(edit, node)
                record.changes += 1
            else:
                record.refusals.append(Refusal(self.name, node.name, region.refused[node.name]))

    def _rewrite(self, edit: ir.Editor, node: ir.Node) -> None:
        x, kernel = node.inputs[0], [int(k) for k in node.attrs["kernel_shape"]]
        if list(x.shape[2:]) == kernel and not any(node.attrs.get("pads", [])):
            node.op = "GlobalAveragePool"
            node.attrs.clear()
            return
        channels = int(x.shape[1])
        for name in ("count_include_pad", "ceil_mode"):
            node.attrs.pop(name, None)
        node.op = "Conv"
        node.attrs["group"] = channels
        weight = np.full((channels, 1, *kernel), 1 / math.prod(kernel), np.float32)
        edit.set_inputs(node, [x, edit.constant(f"{node.name}_weight", weight)])
