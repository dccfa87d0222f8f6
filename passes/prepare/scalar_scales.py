"""QuantizeLinear(x, [s], [z]) -> QuantizeLinear(x, s, z), and the same for DequantizeLinear.

PyTorch's exporter writes the scale of a whole tensor as a vector of one number. ONNX takes it, and so does ONNX Runtime
until it makes QLinearAdd and its kin of it, which it then refuses to load ("Scale and Zero-point must be a scalar").
This comes before everything, since the model as given has to run, too. Source: ONNX operator standard, QuantizeLinear.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from qcompiler import ir
from qcompiler.passes.prepare.lift_constants import constant_value
from qcompiler.passes.prepare.purity import GRID
from qcompiler.pipeline import GraphPass, PassRecord


@dataclass(frozen=True)
class ScalarScales(GraphPass):
    """Makes scalars of scales and zero points that are vectors of one number, in all scopes."""

    name: ClassVar[str] = "scalar-scales"

    def apply(self, model: ir.Model, record: PassRecord) -> None:
        """Each node is a change."""
        made: dict[int, ir.Constant] = {}
        for edit in ir.editors(model):
            for node in edit.graph.nodes:
                if node.op not in GRID or node.attrs.get("block_size", 0):
                    continue
                before = record.changes
                for port, tensor in enumerate(node.inputs[1:], 1):
                    if (vector := constant(tensor)) is None or list(vector.shape) != [1]:
                        continue
                    if id(tensor) not in made:
                        made[id(tensor)] = edit.constant(f"{tensor.name}_scalar", vector.load().reshape(()))
                    edit.set_input(node, port, made[id(tensor)])
                    record.changes = before + 1


def constant(tensor: ir.Tensor) -> ir.Lazy | None:
    """The value of a tensor that is stored in the model, behind Identity as well, or in a Constant node."""
    while tensor.inputs and tensor.inputs[0].op == "Identity":
        tensor = tensor.inputs[0].inputs[0]
    if isinstance(tensor, ir.Constant):
        return ir.lazy(tensor)
    maker = tensor.inputs[0] if tensor.inputs else None
    value = constant_value(maker) if maker is not None and maker.op == "Constant" and not maker.domain else None
    return value if isinstance(value, ir.Lazy) else None
