"""Optimizers of ONNX Runtime that end the process on some models, found before a session is made.

ONNX Runtime 1.31 folds a Transpose that moves the first axis behind the others into the MatMul that reads it. The CPU
has no MatMul in float16, so a Cast stands between the two there, and the process dies of a segmentation fault. The
exporters of PyTorch write this form for the projections of attention. Without the fusion the model runs, and computes
the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onnx import GraphProto, NodeProto

    from qcompiler.analysis.payload import Payload

FUSION = "MatmulTransposeFusion"


def crashing(payload: Payload) -> tuple[str, ...]:
    """The optimizers that a session of a model must do without: none, as a rule."""
    if b"Transpose" not in payload.content or b"MatMul" not in payload.content:
        return ()
    graphs = list(_graphs(payload.proto().graph))
    return (FUSION,) if any(map(_has_half, graphs)) and any(map(_fused_across_cast, graphs)) else ()


def _graphs(graph: GraphProto) -> Iterator[GraphProto]:
    """A graph and those inside it."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else ())):
                yield from _graphs(inner)


def _has_half(graph: GraphProto) -> bool:
    """Whether a graph states a value in float16."""
    from onnx import TensorProto

    half = TensorProto.FLOAT16
    return (
        any(value.type.tensor_type.elem_type == half for value in (*graph.input, *graph.value_info))
        or any(tensor.data_type == half for tensor in graph.initializer)
        or any(node.op_type == "Cast" and node.attribute[0].i == half for node in graph.node if node.attribute)
    )


def _fused_across_cast(graph: GraphProto) -> bool:
    """Whether a MatMul reads a Transpose, as it is or cast, that the fusion would take in with its first axis."""
    producers = {name: node for node in graph.node for name in node.output}
    for node in graph.node:
        if node.op_type == "MatMul":
            for name in node.input:
                behind = producers.get(name)
                if behind is not None and behind.op_type == "Cast":
                    behind = producers.get(behind.input[0])
                if behind is not None and behind.op_type == "Transpose" and _moves_first(behind):
                    return True
    return False


def _moves_first(node: NodeProto) -> bool:
    perm = next((list(attribute.ints) for attribute in node.attribute if attribute.name == "perm"), [])
    return len(perm) > 2 and perm[0] != 0
