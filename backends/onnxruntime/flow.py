"""How ONNX Runtime's optimizers look at a graph with Q and DQ: what they move through, and what they see then.

Q moves up and DQ down through operators that only move values; a Relu or Clip before Q is dropped where the grid says
the same. So "behind DequantizeLinear" and "before QuantizeLinear" mean more than the neighbour. Source: optimizers
QDQPropagationTransformer, WeightBiasQuantization, QDQSelectorActionTransformer of ONNX Runtime 1.31.
"""

from __future__ import annotations

from qcompiler import ir

MOVES = frozenset({"MaxPool", "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Slice"})
BOUNDS = frozenset({"Relu", "Clip"})


def readers(edit: ir.Editor, tensor: ir.Tensor) -> list[ir.Node] | None:
    """The nodes that use a tensor, one entry a use; None where it is a graph output."""
    nodes = [use.node for use in edit.uses(tensor)]
    return None if any(node is None for node in nodes) else [node for node in nodes if node is not None]


def only_reader(edit: ir.Editor, tensor: ir.Tensor) -> ir.Node | None:
    """The node of the same graph that uses a tensor, if that is its only use in all."""
    node = edit.only_use(tensor)
    return node if node is not None and edit.holds(node) else None


def quantizer(edit: ir.Editor, tensor: ir.Tensor, through: frozenset[str] = MOVES | BOUNDS) -> ir.Node | None:
    """The QuantizeLinear that ONNX Runtime sees as the only reader of a tensor."""
    node = only_reader(edit, tensor)
    while node is not None and node.op in through and not node.domain and node.inputs[0] is tensor:
        tensor = node.outputs[0]
        node = only_reader(edit, tensor)
    return node if node is not None and node.op == "QuantizeLinear" else None


def dequantizer(tensor: ir.Tensor) -> ir.Node | None:
    """The DequantizeLinear that ONNX Runtime sees as the producer of a tensor."""
    while tensor.inputs and tensor.inputs[0].op in MOVES and not tensor.inputs[0].domain:
        tensor = tensor.inputs[0].inputs[0]
    node = tensor.inputs[0] if tensor.inputs else None
    return node if node is not None and node.op == "DequantizeLinear" else None
