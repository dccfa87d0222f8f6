"""Pow(x, 2) -> Mul(x, x), for targets whose product keeps more of a value than their power does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from qcompiler import ir
from qcompiler.passes.plan.useful_range import number
from qcompiler.pipeline import GraphPass, PassRecord

SQUARE = 2.0


@dataclass(frozen=True)
class SquareToMul(GraphPass):
    """Rewrites the powers of the main graph; node and result keep their names."""

    name: ClassVar[str] = "square-to-mul"

    def apply(self, model: ir.Model, record: PassRecord) -> None:
        """Each square is a change."""
        edit = ir.Editor(model, model.graph)
        for node in model.nodes:
            if node.op != "Pow" or node.domain or number(node.inputs[1]) != SQUARE:
                continue
            x, name, outputs = node.inputs[0], node.name, list(node.outputs)
            edit.set_outputs(node, [])
            edit.erase(node)
            edit.add("Mul", [x, x], name=name, outputs=outputs)
            record.changes += 1
