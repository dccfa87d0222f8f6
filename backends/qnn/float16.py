"""What stays float between quantized nodes is written in float16: f(x) -> Cast(f16(Cast(x))).

The provider decides by pattern, not by plan: a node between DequantizeLinear and QuantizeLinear is computed in integers
where it can be, whatever it was planned as, and that is wrong for some (Log, CumSum: fact sheet, section 3). A float16
node is no such pattern, and ONNX Runtime on the CPU rounds it as the processor does. Neighbours that are float both
pass float16 on; constants become float16, too.

Only inputs and outputs whose type the operator leaves open are turned (`onnx.defs`): scales of Resize stay float32.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx
from onnx import TensorProto

from qcompiler import ir
from qcompiler.passes.prepare.purity import NAMED
from qcompiler.pipeline import GraphPass, PassRecord

HALF = np.dtype(np.float16)
LARGEST = float(np.finfo(np.float16).max)
LEFT = NAMED | {"QuantizeLinear", "DequantizeLinear", "Cast", "Identity"}


@dataclass(frozen=True)
class Float16Islands(GraphPass):
    """Turns some nodes of a graph with Q and DQ.

    Attributes:
        nodes: names.
    """

    name: ClassVar[str] = "float16-islands"
    nodes: frozenset[str]

    def apply(self, model: ir.Model, record: PassRecord) -> None:
        """Each node that was turned is a change."""
        edit = ir.Editor(model, model.graph)
        halves: dict[str, ir.Tensor] = {}
        for node in model.nodes:
            if node.name in self.nodes and node.op not in LEFT and not any(True for _ in node.subgraphs()):
                record.changes += turn(edit, node, halves)
        # a Cast there and back is left where one turned node reads another
        for node in model.nodes:
            if node.op == "Cast" and node.outputs and not edit.uses(node.outputs[0]):
                edit.erase(node)


def turn(edit: ir.Editor, node: ir.Node, halves: dict[str, ir.Tensor]) -> int:
    """Gives one node float16 operands and results; 0 where it has none that could be."""
    inputs, outputs = open_ports(edit.model, node)
    if not inputs and not outputs:
        return 0
    for port in inputs:
        tensor = node.inputs[port]
        if tensor.name not in halves:
            halves[tensor.name] = half(edit, tensor)
        edit.set_input(node, port, halves[tensor.name])
    results = list(node.outputs)
    for port in outputs:
        result = results[port]
        results[port] = edit.variable(f"{result.name}_f16", HALF, result.shape)
        halves[result.name] = results[port]
    old = [node.outputs[port] for port in outputs]
    edit.set_outputs(node, results)
    for port, result in zip(outputs, old, strict=True):
        edit.add(
            "Cast", [results[port]], name=f"{result.name}_f32", attrs={"to": int(TensorProto.FLOAT)}, outputs=[result]
        )
    return 1


def half(edit: ir.Editor, tensor: ir.Tensor) -> ir.Tensor:
    """A float32 value in float16; finite constants stay finite."""
    if isinstance(tensor, ir.Constant):
        values = ir.array(tensor)
        clipped = np.where(np.isfinite(values), np.clip(values, -LARGEST, LARGEST), values)
        return edit.constant(f"{tensor.name}_f16", clipped.astype(HALF))
    value = edit.variable(f"{tensor.name}_f16", HALF, tensor.shape)
    edit.add("Cast", [tensor], name=f"{tensor.name}_to_f16", attrs={"to": int(TensorProto.FLOAT16)}, outputs=[value])
    return value


def open_ports(model: ir.Model, node: ir.Node) -> tuple[list[int], list[int]]:
    """The inputs and outputs that hold float32 and may hold float16."""
    versions = {entry.domain: entry.version for entry in model.header.opset_import}
    schema = ir.schema(node.op, versions.get(node.domain or "", 1), node.domain or "")
    if schema is None:
        return [], []
    may = {c.type_param_str for c in schema.type_constraints if "tensor(float16)" in c.allowed_type_strs}

    def fitting(formal: Sequence[onnx.defs.OpSchema.FormalParameter], tensors: Sequence[ir.Tensor]) -> Iterator[int]:
        for port, tensor in enumerate(tensors):
            kind = formal[min(port, len(formal) - 1)].type_str
            if tensor.name and kind in may and tensor.dtype == np.float32:
                yield port

    return list(fitting(schema.inputs, node.inputs)), list(fitting(schema.outputs, node.outputs))
