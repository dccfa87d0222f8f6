"""How ONNX Runtime's optimizers look at a graph with Q and DQ: what they move through, and what they see then.

Q moves up and DQ down through operators that only move values; a Relu or Clip before Q is dropped where the grid says
the same. So "behind DequantizeLinear" and "before QuantizeLinear" mean more than the neighbour. Source: optimizers
QDQPropagationTransformer, WeightBiasQuantization, QDQSelectorActionTransformer of ONNX Runtime 1.31.
"""

from __future__ import annotations

from qcompiler import ir

MOVES = frozenset({"MaxPool", "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Slice"})
BOUNDS = frozenset({"Relu", "Clip"})
FOLDED = frozenset({"Mul", "Add", "BatchNormalization"})
"""With constants, these go into the Conv before them."""


def readers(edit: ir.Editor, tensor: ir.Tensor) -> list[ir.Node] | None:
    """The nodes that use a tensor, one entry a use; None where it is a graph output."""
    nodes = [use.node for use in edit.uses(tensor)]
    return None if any(node is None for node in nodes) else [node for node in nodes if node is not None]


def only_reader(edit: ir.Editor, tensor: ir.Tensor, *, besides_output: bool = False) -> ir.Node | None:
    """The node of the same graph that uses a tensor, if that is its only use in all.

    Args:
        besides_output: being a graph output is no use, as WeightBiasQuantization has it.
    """
    uses = [use for use in edit.uses(tensor) if use.node is not None or not besides_output]
    node = uses[0].node if len(uses) == 1 else None
    return node if node is not None and edit.holds(node) else None


def folded(edit: ir.Editor, conv: ir.Node) -> ir.Tensor:
    """The result of a Conv behind the scales and shifts by constants that ONNX Runtime folds into it."""
    tensor = conv.outputs[0]
    while (node := only_reader(edit, tensor)) is not None and node.op in FOLDED and not node.domain:
        if not all(value is tensor or isinstance(value, ir.Constant) for value in node.inputs):
            break
        tensor = node.outputs[0]
    return tensor


def quantizer(edit: ir.Editor, tensor: ir.Tensor, *, besides_output: bool = False) -> ir.Node | None:
    """The QuantizeLinear that ONNX Runtime sees as the only reader of a tensor; options as for `only_reader`."""
    node = only_reader(edit, tensor, besides_output=besides_output)
    while node is not None and node.op in MOVES | BOUNDS and not node.domain and node.inputs[0] is tensor:
        tensor = node.outputs[0]
        node = only_reader(edit, tensor, besides_output=besides_output)
    return node if node is not None and node.op == "QuantizeLinear" else None


def dequantizer(tensor: ir.Tensor) -> ir.Node | None:
    """The DequantizeLinear that ONNX Runtime sees as the producer of a tensor."""
    while tensor.inputs and tensor.inputs[0].op in MOVES and not tensor.inputs[0].domain:
        tensor = tensor.inputs[0].inputs[0]
    node = tensor.inputs[0] if tensor.inputs else None
    return node if node is not None and node.op == "DequantizeLinear" else None
