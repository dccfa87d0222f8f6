"""Reshape(Transpose(Reshape(x, [N, g, C/g, ...]), [0, 2, 1, ...]), [N, C, ...]) -> Gather(x, order; axis = 1).

The channel shuffle of ShuffleNet: channel j of the result is channel order[j] of x, where order counts a (g, C/g) table
down its columns. It pays inside a quantized region: ONNX Runtime transposes 5-D uint8 tensors by a generic kernel (fact
sheet, rule 17; 64 x 40 x 40 between two 1 x 1 Convs: 133 us against 460 us).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from qcompiler import ir
from qcompiler.passes.condition.integer_forms import region_with_forms, shuffle_of
from qcompiler.pipeline import GraphPass, PassRecord
from qcompiler.quant import QSpec
from qcompiler.rewrite import Refusal
from qcompiler.targets import TargetSpec


@dataclass(frozen=True)
class ShuffleToGather(GraphPass):
    """Rewrites the channel shuffles that stand in a quantized region.

    Attributes:
        target: decides which nodes those are.
        spec: how activations are stored.
        keep_float: as in `annotate`.
    """

    name: ClassVar[str] = "shuffle-to-gather"
    target: TargetSpec
    spec: QSpec
    keep_float: tuple[str, ...] = ()

    def apply(self, model: ir.Model, record: PassRecord) -> None:
        """Rewrites the shuffles of the main graph; the last node and the result keep their names."""
        shuffles = [trio for node in model.nodes if (trio := shuffle_of(node)) is not None]
        if not shuffles:
            return
        region = region_with_forms(model, self.target, self.spec, self.keep_float)
        edit = ir.Editor(model, model.graph)
        for before, transpose, behind in shuffles:
            float_node = next((n for n in (before, transpose, behind) if n.name not in region.rules), None)
            outputs = [before.outputs[0], transpose.outputs[0]]
            if float_node is not None:
                record.refusals.append(Refusal(self.name, transpose.name, region.refused[float_node.name]))
            elif any(edit.is_output(tensor) for tensor in outputs):
                record.refusals.append(Refusal(self.name, transpose.name, "a step of the shuffle is a graph output"))
            else:
                groups, size = transpose.inputs[0].shape[1:3]
                order = np.arange(groups * size, dtype=np.int64).reshape(groups, size).T.reshape(-1)
                behind.op = "Gather"
                behind.attrs.clear()
                behind.attrs["axis"] = 1
                edit.set_inputs(behind, [before.inputs[0], edit.constant(f"{behind.name}_order", order)])
                edit.erase(transpose)
                edit.erase(before)
                record.changes += 1
