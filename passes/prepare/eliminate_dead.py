"""What no output depends on goes: nodes, outputs of If and Loop and what computes them, optional outputs, constants.

Every operator of ONNX is free of side effects, so a node without a used output is dead; operators of other domains are
taken to be so too, as ONNX Runtime does. Source: ONNX IR standard, Graphs; operator standard, If and Loop.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from onnx import defs

from qcompiler import ir
from qcompiler.pipeline import GraphPass, PassRecord

LOOP_INPUTS_BEFORE_STATE = 2
"""Trip count and condition; a body's outputs begin with the condition."""


@dataclass(frozen=True)
class EliminateDead(GraphPass):
    """Removes dead nodes, dead outputs and unused initializers in all scopes."""

    name: ClassVar[str] = "eliminate-dead"

    def apply(self, model: ir.Model, record: PassRecord) -> None:
        """Each node, output or initializer that goes is a change."""
        before = -1
        while record.changes != before:
            before = record.changes
            for edit in ir.editors(model):
                if any(edit.graph is graph for graph in model.graphs()):
                    record.changes += _erase_dead(edit) + _trim(edit, model.opset)
        count = sum(len(graph.declared) for graph in model.graphs())
        next(ir.editors(model)).drop_unused_constants()
        record.changes += count - sum(len(graph.declared) for graph in model.graphs())


def _erase_dead(edit: ir.Editor) -> int:
    """Erases nodes without used outputs, last first, so that whole chains go in one sweep."""
    count = 0
    for node in reversed(ir.topological(edit.graph)):
        if not any(tensor.name and edit.uses(tensor) for tensor in node.outputs):
            edit.erase(node)
            count += 1
    return count


def _trim(edit: ir.Editor, opset: int) -> int:
    """Drops outputs without a use where the operator lets them be absent."""
    count = 0
    for node in list(edit.graph.nodes):
        for port in reversed(range(len(node.outputs))):
            tensor = node.outputs[port]
            if len(node.outputs) == 1 or (tensor.name and edit.uses(tensor)):
                continue
            if node.op == "If" or (node.op == "Loop" and port >= len(node.inputs) - LOOP_INPUTS_BEFORE_STATE):
                ir.drop_output(edit, node, port, port + (1 if node.op == "Loop" else 0))
            elif port == len(node.outputs) - 1 and _optional(node, port, opset):
                edit.set_outputs(node, list(node.outputs)[:-1])
            else:
                continue
            count += 1
    return count


def _optional(node: ir.Node, port: int, opset: int) -> bool:
    """Whether the operator standard lets output `port` be absent.

    Its schema says so of BatchNormalization's statistics, too, which shape inference demands in training mode.
    """
    if node.op == "BatchNormalization" and node.attrs.get("training_mode", 0):
        return False
    schema = None if node.domain else ir.schema(node.op, opset)
    outputs = [] if schema is None else schema.outputs
    return port < len(outputs) and outputs[port].option == defs.OpSchema.FormalParameterOption.Optional
