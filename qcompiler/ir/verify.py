"""Invariants that hold between any two passes."""

from __future__ import annotations

from collections import Counter

import onnx_graphsurgeon as gs

from qcompiler.errors import VerifyError
from qcompiler.ir.dag import topological
from qcompiler.ir.model import Model


def verify(model: Model) -> None:
    """Checks names, producers, consumer lists, order and reachability of outputs.

    Raises:
        VerifyError: naming the node or tensor that breaks an invariant.
    """
    nodes = list(model.all_nodes())
    twice = [name for name, count in Counter(node.name for node in nodes).items() if count > 1 or not name]
    if twice:
        raise VerifyError("node name is empty or used twice", where=repr(twice[0]))
    tensors: dict[str, gs.Tensor] = {}
    visible: set[int] = set()
    for graph in model.graphs():
        visible.update(map(id, graph.inputs), map(id, graph.declared))
        for node in graph.nodes:
            visible.update(map(id, node.outputs))
            for tensor in [*node.inputs, *node.outputs]:
                if tensor.name and tensors.setdefault(tensor.name, tensor) is not tensor:
                    raise VerifyError("two tensors share this name", where=tensor.name)
        topological(graph)
    for node in nodes:
        for tensor in node.inputs:
            if tensor.name and sum(other is node for other in tensor.outputs) != sum(t is tensor for t in node.inputs):
                raise VerifyError(f"consumer list of {tensor.name!r} disagrees with the node", where=node.name)
            if tensor.name and not isinstance(tensor, gs.Constant) and id(tensor) not in visible:
                raise VerifyError(f"input {tensor.name!r} has no producer", where=node.name)
        for tensor in node.outputs:
            if tensor.name and (len(tensor.inputs) != 1 or tensor.inputs[0] is not node):
                raise VerifyError(f"output {tensor.name!r} has {len(tensor.inputs)} producers", where=node.name)
    for graph in model.graphs():
        for output in graph.outputs:
            if not isinstance(output, gs.Constant) and id(output) not in visible:
                raise VerifyError("graph output has no producer", where=output.name)
