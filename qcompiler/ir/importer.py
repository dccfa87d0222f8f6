"""`GraphProto` to `gs.Graph`, with nothing lost.

onnx-graphsurgeon's own importer drops what it has no place for (metadata, doc strings of nodes, attributes of type
TYPE_PROTO, SPARSE_TENSOR, TENSORS and GRAPHS, the types of sequences and optionals). Here each graph object keeps the
remainder of the proto that it came from:

- `node.extra`: a `NodeProto` with doc_string, overload and metadata;
- `variable.type_proto`: the `TypeProto` of anything that is not a dense tensor;
- `graph.extra`: a `GraphProto` with metadata and quantization annotations; `graph.declared`: its initializers;
- an attribute that Python values cannot express stays an `AttributeProto`.
"""

from __future__ import annotations

from collections import ChainMap, OrderedDict
from pathlib import Path
from typing import Any

import onnx
import onnx_graphsurgeon as gs
from onnx import AttributeProto, GraphProto, NodeProto, TypeProto, helper

from qcompiler.ir.weights import Lazy, dense

Tensors = ChainMap[str, gs.Tensor]


def import_graph(proto: GraphProto, base_dir: Path | None, outer: Tensors | None = None) -> gs.Graph:
    """The graph of `proto`; names not defined in it are looked up in `outer`, the enclosing scopes."""
    scope: Tensors = outer.new_child() if outer is not None else ChainMap({})
    here = scope.maps[0]
    for tensor in [*proto.initializer, *(dense(s) for s in proto.sparse_initializer)]:
        here[tensor.name] = gs.Constant(tensor.name, Lazy(tensor, base_dir))
    for info in [*proto.input, *proto.output, *proto.value_info]:
        if info.name not in here:
            here[info.name] = import_variable(info)
    graph = gs.Graph(name=proto.name, doc_string=proto.doc_string)
    graph.nodes.extend([import_node(node, scope, base_dir) for node in proto.node])
    graph.inputs = [here[info.name] for info in proto.input]
    graph.outputs = [scope[info.name] for info in proto.output]
    graph.extra = GraphProto(metadata_props=proto.metadata_props, quantization_annotation=proto.quantization_annotation)
    graph.declared = [tensor for tensor in here.values() if isinstance(tensor, gs.Constant)]
    return graph


def import_variable(info: onnx.ValueInfoProto) -> gs.Variable:
    """A tensor with the type and shape that `info` states; either may be unknown."""
    variable = gs.Variable(info.name)
    variable.type_proto = None
    set_type(variable, info.type)
    return variable


def set_type(variable: gs.Variable, proto: TypeProto) -> None:
    """Writes the type and shape of `proto` onto the variable."""
    if not proto.HasField("tensor_type"):
        variable.type_proto = TypeProto.FromString(proto.SerializeToString()) if proto.ByteSize() else None
        return
    tensor = proto.tensor_type
    variable.dtype = helper.tensor_dtype_to_np_dtype(tensor.elem_type) if tensor.elem_type else None
    if tensor.HasField("shape"):
        variable.shape = [d.dim_value if d.HasField("dim_value") else (d.dim_param or None) for d in tensor.shape.dim]


def import_node(proto: NodeProto, scope: Tensors, base_dir: Path | None) -> gs.Node:
    """A node whose inputs and outputs are the tensors of `scope`; unknown names become untyped variables."""
    here = scope.maps[0]

    def tensor(name: str, *, local: bool) -> gs.Tensor:
        if not name:
            return gs.Variable.empty()
        if name in here or (not local and name in scope):
            return scope[name]
        here[name] = gs.Variable(name)
        here[name].type_proto = None
        return here[name]

    node = gs.Node(
        proto.op_type,
        proto.name,
        OrderedDict((a.name, import_attribute(a, scope, base_dir)) for a in proto.attribute),
        [tensor(name, local=False) for name in proto.input],
        [tensor(name, local=True) for name in proto.output],
        proto.domain if proto.domain != "ai.onnx" else "",
    )
    node.extra = NodeProto(metadata_props=proto.metadata_props)
    for entry in ("doc_string", "overload"):
        if getattr(proto, entry):
            setattr(node.extra, entry, getattr(proto, entry))
    return node


def import_attribute(proto: AttributeProto, scope: Tensors, base_dir: Path | None) -> Any:
    """A Python value where one carries the same meaning, else the proto itself."""
    if proto.ref_attr_name or proto.doc_string:
        return proto
    match proto.type:
        case AttributeProto.GRAPH:
            return import_graph(proto.g, base_dir, scope)
        case AttributeProto.TENSOR:
            return gs.Constant(proto.t.name, Lazy(proto.t, base_dir))
        case AttributeProto.FLOAT | AttributeProto.INT:
            return helper.get_attribute_value(proto)
        case AttributeProto.STRING:
            return proto.s.decode("utf-8", "surrogateescape")
        case AttributeProto.FLOATS | AttributeProto.INTS if proto.floats or proto.ints:
            return list(helper.get_attribute_value(proto))
        case AttributeProto.STRINGS if proto.strings:
            return [s.decode("utf-8", "surrogateescape") for s in proto.strings]
        case _:
            return proto
