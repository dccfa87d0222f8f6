"""`gs.Graph` back to `GraphProto`: the inverse of `importer`, field for field.

Initializers are written in the order in which the graph declares them and nodes in the stable topological order, so
that the same graph gives the same bytes. What a constant becomes is the caller's choice (`Store`): its values, a
reference to a file, or a stub.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from onnx import AttributeProto, GraphProto, NodeProto, TensorProto, ValueInfoProto, helper

from qcompiler.ir.dag import topological
from qcompiler.ir.weights import to_proto

Store = Callable[[gs.Constant], TensorProto]


def export_graph(
    graph: gs.Graph,
    proto: GraphProto,
    store: Store = to_proto,
    outer: frozenset[int] = frozenset(),
    *,
    initializers: bool = True,
) -> None:
    """Writes `graph` into an empty proto.

    Args:
        graph: left as it is.
        proto: filled.
        store: what becomes of a constant.
        outer: ids of constants that an enclosing graph declares.
        initializers: whether to write the graph's own initializers; those of subgraphs are always written.
    """
    own = declared(graph, outer)
    inner = outer | frozenset(map(id, own))
    proto.MergeFrom(graph.extra)
    proto.name = graph.name or "graph"
    for node in topological(graph):
        write_node(node, proto.node.add(), store, inner)
    for tensor in own if initializers else ():
        proto.initializer.append(store(tensor))
    proto.input.extend([export_variable(tensor) for tensor in graph.inputs])
    proto.output.extend([export_variable(tensor) for tensor in graph.outputs])
    ends = set(map(id, [*graph.inputs, *graph.outputs]))
    produced = (tensor for node in graph.nodes for tensor in node.outputs)
    proto.value_info.extend([export_variable(t) for t in produced if t.name and id(t) not in ends and typed(t)])


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
    """Name, type and shape of a tensor, as far as known; the type as it was loaded where nothing changed it."""
    info = ValueInfoProto()
    origin = getattr(tensor, "origin", None)
    if origin is not None:
        info.CopyFrom(origin.info)
    info.name = tensor.name
    type_proto = getattr(tensor, "type_proto", None)
    if type_proto is not None:
        info.type.CopyFrom(type_proto)
    elif origin is None or not origin.holds(tensor):
        info.ClearField("type")
        if tensor.dtype is not None:
            export_type(info.type.tensor_type, tensor.dtype, tensor.shape)
    return info


def export_type(proto: onnx.TypeProto.Tensor, dtype: Any, shape: Sequence[Any] | None) -> None:
    """Writes the type of a dense tensor into an empty proto."""
    proto.elem_type = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    if shape is not None:
        proto.shape.SetInParent()
        for size in shape:
            dim = proto.shape.dim.add()
            if isinstance(size, str):
                dim.dim_param = size
            elif size is not None and size >= 0:
                dim.dim_value = int(size)


def export_node(node: gs.Node, outer: frozenset[int] = frozenset()) -> NodeProto:
    """The proto of one node, its subgraphs included."""
    proto = NodeProto()
    write_node(node, proto, to_proto, outer)
    return proto


def write_node(node: gs.Node, proto: NodeProto, store: Store, outer: frozenset[int]) -> None:
    """Writes a node into an empty proto."""
    proto.MergeFrom(node.extra)
    proto.ClearField("attribute")
    proto.op_type = node.op
    if node.name:
        proto.name = node.name
    if node.domain:
        proto.domain = node.domain
    proto.input.extend([tensor.name for tensor in node.inputs])
    proto.output.extend([tensor.name for tensor in node.outputs])
    notes = {note.name: note for note in node.extra.attribute}
    for name, value in node.attrs.items():
        attribute = proto.attribute.add()
        kind = attribute_type(node.op, node.domain or "", name)
        if name in notes:
            attribute.CopyFrom(notes[name])
            kind = attribute.type if isinstance(value, list) and not value else kind
        write_attribute(name, value, attribute, kind, store, outer)


def export_attribute(name: str, value: Any, outer: frozenset[int] = frozenset()) -> AttributeProto:
    """Inverse of `importer.import_attribute`."""
    proto = AttributeProto()
    write_attribute(name, value, proto, 0, to_proto, outer)
    return proto


def write_attribute(
    name: str, value: Any, proto: AttributeProto, kind: int, store: Store, outer: frozenset[int]
) -> None:
    """Writes an attribute into a proto that holds at most its notes; `kind` is its declared type, 0 where unknown."""
    proto.name = name
    if isinstance(value, AttributeProto):
        proto.CopyFrom(value)
    elif isinstance(value, gs.Graph):
        proto.type = AttributeProto.GRAPH
        export_graph(value, proto.g, store, outer)
    elif isinstance(value, gs.Constant):
        proto.type = AttributeProto.TENSOR
        proto.t.CopyFrom(store(value))
    else:
        proto.MergeFrom(export_value(name, value, kind))


def export_value(name: str, value: Any, kind: int) -> AttributeProto:
    """An attribute from a Python value; `kind` is its declared type, 0 where unknown."""
    if isinstance(value, str):
        return AttributeProto(name=name, type=AttributeProto.STRING, s=value.encode("utf-8", "surrogateescape"))
    if isinstance(value, list | tuple):
        if not value:
            return AttributeProto(name=name, type=AttributeProto.AttributeType.Name(kind or AttributeProto.INTS))
        if isinstance(value[0], str):
            strings = [s.encode("utf-8", "surrogateescape") for s in value]
            return AttributeProto(name=name, type=AttributeProto.STRINGS, strings=strings)
        if kind == AttributeProto.FLOATS:
            value = [float(v) for v in value]
    elif kind == AttributeProto.FLOAT:
        value = float(value)
    return helper.make_attribute(name, value)


@cache
def attribute_type(op: str, domain: str, name: str) -> int:
    """The type that the newest ONNX operator standard gives to an attribute, 0 where it knows none."""
    if not onnx.defs.has(op, domain):
        return 0
    found = onnx.defs.get_schema(op, domain).attributes.get(name)
    return int(found.type.value) if found is not None else 0  # type: ignore[attr-defined]
