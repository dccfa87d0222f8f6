"""f(x) -> x wherever f provably changes neither values nor shape nor type.

Identity; Dropout in inference form; Cast and CastLike to the type that is there; Transpose without permutation;
Reshape, Expand and Flatten to the shape that is there; Pad by zero; Slice of everything; Concat, Sum, Max, Min, Mean of
one; Split into one; Mul and Div by 1, Add and Sub of 0; Squeeze of Unsqueeze and the reverse on the same axes.
Shapes that decide are those that follow from the model's inputs (`infer_shapes.infer`).

An output of the graph keeps its name: what computes x takes the name over. Where x is an input, a constant or another
output, the node stays to carry the name, and only its other readers get x. Source: ONNX operator standard.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from qcompiler import ir
from qcompiler.passes.prepare.infer_shapes import Shape, dims, infer
from qcompiler.passes.prepare.no_ops import CANDIDATES, same_as
from qcompiler.pipeline import GraphPass, PassRecord


@dataclass(frozen=True)
class RemoveIdentity(GraphPass):
    """Removes nodes that do nothing, in all scopes."""

    name: ClassVar[str] = "remove-identity"

    def apply(self, model: ir.Model, record: PassRecord) -> None:
        """Each node that is bypassed is a change."""
        if not any(node.op in CANDIDATES for node in model.all_nodes()):
            return
        shapes: dict[str, Shape | None] = {name: dims(type_proto) for name, type_proto in infer(model).items()}
        shapes |= {tensor.name: tensor.shape for tensor in [*model.inputs, *model.constants()]}
        for edit in ir.editors(model):
            for node in list(edit.graph.nodes):
                source = same_as(node, shapes, model.opset) if node.op in CANDIDATES and not node.domain else None
                if source is not None and not any(edit.uses(tensor) for tensor in node.outputs[1:]):
                    record.changes += _bypass(edit, node, source, shapes)


def _bypass(edit: ir.Editor, node: ir.Node, source: ir.Tensor, shapes: dict[str, Shape | None]) -> int:
    """Gives `source` to the readers of the node's first output; whether that changed anything."""
    output = node.outputs[0]
    if not edit.is_output(output) or _can_take_name(edit, source):
        name, shape = output.name, shapes.get(source.name)
        edit.replace_uses(output, source)
        if source.name == name:
            shapes[name] = shape
        edit.erase(node)
        return 1
    readers = [use for use in edit.uses(output) if use.node is not None]
    for reader, port in readers:
        edit.set_input(reader, port, source)
    return int(bool(readers))


def _can_take_name(edit: ir.Editor, source: ir.Tensor) -> bool:
    """Whether `source` is computed in this graph and is not an output under a name of its own."""
    computed_here = any(edit.holds(producer) for producer in source.inputs)
    return computed_here and not isinstance(source, ir.Constant) and not edit.is_output(source)
