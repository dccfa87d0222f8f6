"""LayerNormalization(x, g) -> LayerNormalization(x, g, 0): with zeros, for targets that want a bias."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from qcompiler import ir
from qcompiler.pipeline import GraphPass, PassRecord

BIAS = 2


@dataclass(frozen=True)
class NormBias(GraphPass):
    """Adds the bias where there is none and the scale is constant."""

    name: ClassVar[str] = "norm-bias"

    def apply(self, model: ir.Model, record: PassRecord) -> None:
        """Each norm is a change."""
        edit = ir.Editor(model, model.graph)
        for node in model.nodes:
            if node.op != "LayerNormalization" or node.domain or (len(node.inputs) > BIAS and node.inputs[BIAS].name):
                continue
            scale = node.inputs[1]
            if isinstance(scale, ir.Constant):
                edit.set_input(node, BIAS, edit.constant(f"{node.name}_bias", np.zeros(scale.shape, scale.dtype)))
                record.changes += 1
