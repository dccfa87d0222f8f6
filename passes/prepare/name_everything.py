"""Every node has a name of its own, and so has every tensor, in all scopes.

A node without a name becomes `Op_i`, i its position in its graph. A name that occurs again, in another branch or inside
a branch that shadows it, gets a suffix. Inputs and outputs of the model, and names that clash with nothing, stay.
Source: the ONNX IR standard, Names Within a Graph, allows what is undone here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from qcompiler import ir
from qcompiler.pipeline import GraphPass, PassRecord


@dataclass(frozen=True)
class NameEverything(GraphPass):
    """Gives stable unique names to nodes and tensors; must run before any other pass."""

    name: ClassVar[str] = "name-everything"

    def apply(self, model: ir.Model, record: PassRecord) -> None:
        """Renames in place; each new name is a change."""
        nodes: set[str] = set()
        tensors: dict[str, ir.Tensor] = {tensor.name: tensor for tensor in [*model.graph.inputs, *model.graph.outputs]}
        for edit in ir.editors(model):
            for tensor in _tensors(edit.graph):
                if tensor.name and tensors.setdefault(tensor.name, tensor) is not tensor:
                    edit.rename(tensor, tensor.name)
                    tensors[tensor.name] = tensor
                    record.changes += 1
            for position, node in enumerate(edit.graph.nodes):
                if not node.name or node.name in nodes:
                    edit.rename(node, node.name or f"{node.op}_{position}")
                    record.changes += 1
                nodes.add(node.name)


def _tensors(graph: ir.Graph) -> list[ir.Tensor]:
    """Tensors that this graph declares or computes, in order; others belong to an enclosing graph."""
    computed = [tensor for node in graph.nodes for tensor in node.outputs]
    return [*graph.inputs, *graph.declared, *computed]
