"""graph(x, w) with w = initializer -> graph(x): an initializer listed as an input is a constant, not a default.

Up to IR version 3 every initializer had to be listed as an input; later, listing one offers to override it, which no
compiled model can serve. Source: ONNX IR standard, Graphs, `initializer`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from qcompiler import ir
from qcompiler.pipeline import GraphPass, PassRecord, some

FIRST_IR_WITHOUT_LISTING = 4
SHOWN = 4


@dataclass(frozen=True)
class StripInputInitializers(GraphPass):
    """Takes initializers off the inputs of the model and notes which."""

    name: ClassVar[str] = "strip-input-initializers"

    def apply(self, model: ir.Model, record: PassRecord) -> None:
        """Changes the inputs of the main graph; subgraph inputs are bound by position and stay."""
        edit = next(ir.editors(model))
        listed = [tensor for tensor in model.graph.inputs if isinstance(tensor, ir.Constant)]
        for tensor in listed:
            ir.drop_input(edit, tensor)
        record.changes += len(listed)
        if listed and model.header.ir_version >= FIRST_IR_WITHOUT_LISTING:
            names = some([repr(tensor.name) for tensor in listed], SHOWN)
            record.notes.append(f"initializers listed as inputs are constants now: {names}")
        model.header.ir_version = max(model.header.ir_version, FIRST_IR_WITHOUT_LISTING)
