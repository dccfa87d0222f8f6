"""`gs.Graph` back to `GraphProto`: the inverse of `importer`, field for field.

Initializers are written in the order in which the graph declares them, so that the same graph gives the same bytes.
"""

from __future__ import annotations

from typing import Any

import onnx
import onnx_graphsurgeon as gs
from onnx import AttributeProto, GraphProto, NodeProto, ValueInfoProto, helper

from qcompiler.ir.weights import to_proto


def export_graph(graph: gs.Graph, outer: frozenset[int] = frozenset()) -> GraphProto:
    """The proto of `graph`; constants whose id is in `outer` are declared by an enclosing graph."""
    own = declared(graph, outer)
    inner = outer | frozenset(map(id, own))
    proto = GraphProto(name=graph.name or "graph", doc_string=graph.doc_string or "")
    proto.MergeFrom(graph.extra)
    proto.node.extend([export_node(node, inner) for node in graph.nodes])
    proto.input.extend([export_variable(tensor) for tensor in graph.inputs])
    proto.output.extend([export_variable(tensor) for tensor in graph.outputs])
    proto.initializer.extend([to_proto(constant) for constant in own])
    ends = set(map(id, [*graph.inputs, *graph.outputs]))
    produced = (tensor for node in graph.nodes for tensor in node.outputs)
    proto.value_info.extend([export_variable(t) for t in produced if t.name and id(t) not in ends and typed(t)])
    return proto


def declared(graph: gs.Graph, outer: frozenset[int] = frozenset()) -> list[gs.Constant]:
    """The constants that belong to this graph: those it was loaded with or given, then others its nodes use.

    A constant that only subgraphs use belongs to the graph that lists it in `graph.declared`.
    """
    used = (tensor for node in graph.nodes for tensor in node.inputs)
    every = [*graph.declared, *used, *graph.inputs, *graph.outputs]
    return list({id(t): t for t in every if isinstance(t, gs.Constant) and id(t) not in outer}.values())


def typed(tensor: gs.Variable) -> bool:
    """Whether anything is known of the tensor's type."""
    return tensor.dtype is not None or getattr(tensor, "type_proto", None) is not None


def export_variable(tensor: gs.Tensor) -> ValueInfoProto:
    """Name, type and shape of a tensor, as far as known."""
    info = ValueInfoProto(name=tensor.name)
    type_proto = getattr(tensor, "type_proto", None)
    if type_proto is not None:
        info.type.CopyFrom(type_proto)
    elif tensor.dtype is not None:
        elem_type = helper.np_dtype_to_tensor_dtype(tensor.dtype)
        info.type.CopyFrom(helper.make_tensor_type_proto(elem_type, tensor.shape))
    return info


def export_node(node: gs.Node, outer: frozenset[int]) -> NodeProto:
    """The proto of one node, its subgraphs included."""
    proto = NodeProto(op_type=node.op, name=node.name)
    if node.domain:
        proto.domain = node.domain
    proto.MergeFrom(node.extra)
    proto.input.extend([tensor.name for tensor in node.inputs])
    proto.output.extend([tensor.name for tensor in node.outputs])
    proto.attribute.extend([export_attribute(name, value, outer) for name, value in node.attrs.items()])
    return proto


def export_attribute(name: str, value: Any, outer: frozenset[int]) -> AttributeProto:
    """Inverse of `importer.import_attribute`."""
    if isinstance(value, AttributeProto):
        return value
    if isinstance(value, gs.Graph):
        return helper.make_attribute(name, export_graph(value, outer))
    if isinstance(value, gs.Constant):
        return helper.make_attribute(name, to_proto(value))
    if isinstance(value, str):
        return AttributeProto(name=name, type=AttributeProto.STRING, s=value.encode("utf-8", "surrogateescape"))
    if isinstance(value, list) and value and isinstance(value[0], str):
        strings = [s.encode("utf-8", "surrogateescape") for s in value]
        return AttributeProto(name=name, type=AttributeProto.STRINGS, strings=strings)
    return onnx.helper.make_attribute(name, value)
