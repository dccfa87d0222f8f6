"""`GraphProto` to `gs.Graph`, with nothing lost.

onnx-graphsurgeon's own importer drops what it has no place for (metadata, doc strings of nodes, attributes of type
TYPE_PROTO, SPARSE_TENSOR, TENSORS and GRAPHS, the types of sequences and optionals). Here each graph object keeps the
remainder of the proto that it came from:

- `node.extra`: a `NodeProto` with doc_string, overload, metadata, and notes on attributes (doc strings, the type of
  empty lists);
- `tensor.origin`: the `ValueInfoProto` of a tensor as loaded; `variable.type_proto`: the `TypeProto` of anything that
  is not a dense tensor;
- `node.home`: the graph that holds the node;
- `graph.extra`: a `GraphProto` with doc string, metadata and quantization annotations; `graph.declared`: its
  initializers;
- an attribute that Python values cannot express stays an `AttributeProto`.

Left out on purpose: value_info of names that no node produces, and dimensions below zero, which old exporters wrote for
"unknown".
"""

from __future__ import annotations

from collections import ChainMap, OrderedDict
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_graphsurgeon as gs
from onnx import AttributeProto, GraphProto, NodeProto, TensorProto, TypeProto, ValueInfoProto, helper
from onnx_graphsurgeon.ir.tensor import LazyValues

from qcompiler.ir.weights import Lazy, dense

Tensors = ChainMap[str, gs.Tensor]
Values = Callable[[TensorProto], LazyValues | npt.NDArray[np.generic]]
Shape = list[int | str | None] | None

# Fields of a NodeProto and a GraphProto that the graph objects themselves express.
_NODE = {"input", "output", "name", "op_type", "domain", "attribute"}
_GRAPH = {"node", "name", "initializer", "sparse_initializer", "input", "output", "value_info"}


@dataclass(frozen=True, eq=False)
class Origin:
    """A tensor's `ValueInfoProto` as loaded, with what was read from it."""

    info: ValueInfoProto
    dtype: Any
    shape: Shape

    def holds(self, tensor: gs.Tensor) -> bool:
        """Whether the tensor still has the type and shape that were loaded."""
        return bool(self.dtype == tensor.dtype and self.shape == tensor.shape)


def import_graph(proto: GraphProto, values: Values, outer: Tensors | None = None) -> gs.Graph:
    """The graph of `proto`; names not defined in it are looked up in `outer`, the enclosing scopes."""
    scope: Tensors = outer.new_child() if outer is not None else ChainMap({})
    here = scope.maps[0]
    for tensor in [*proto.initializer, *(dense(s) for s in proto.sparse_initializer)]:
        here[tensor.name] = gs.Constant(tensor.name, values(tensor))
    for info in [*proto.input, *proto.output]:
        import_info(info, here)
    produced = {name: None for node in proto.node for name in node.output if name}
    for info in proto.value_info:
        if info.name in produced:
            import_info(info, here)
    for name in produced:
        if name not in here:
            here[name] = untyped(name)
    graph = gs.Graph(name=proto.name)
    graph.nodes.extend([import_node(node, scope, values) for node in proto.node])
    for node in graph.nodes:
        node.home = graph
    graph.inputs = [here[info.name] for info in proto.input]
    graph.outputs = [here[info.name] for info in proto.output]
    graph.extra = GraphProto()
    remainder(proto, graph.extra, _GRAPH)
    graph.declared = [tensor for tensor in here.values() if isinstance(tensor, gs.Constant)]
    return graph


def remainder(source: Any, target: Any, known: set[str]) -> None:
    """Copies the fields that are set in one message to another, except those in `known`."""
    for entry, value in source.ListFields():
        if entry.name in known:
            continue
        if isinstance(value, str | bytes | int | float):
            setattr(target, entry.name, value)
        else:
            getattr(target, entry.name).MergeFrom(value)


def untyped(name: str) -> gs.Variable:
    """A tensor of which only the name is known."""
    variable = gs.Variable(name)
    variable.type_proto = variable.origin = None
    return variable


def import_info(info: ValueInfoProto, here: MutableMapping[str, gs.Tensor]) -> None:
    """Adds the tensor that `info` describes; where it is described twice, the first description counts."""
    dtype, shape, type_proto = read_type(info.type)
    if not all(map(_sound, info.type.tensor_type.shape.dim)):
        info = ValueInfoProto.FromString(info.SerializeToString())
        for dim in info.type.tensor_type.shape.dim:
            if not _sound(dim):
                dim.Clear()
    if info.name not in here:
        variable = untyped(info.name)
        variable.dtype, variable.shape, variable.type_proto = dtype, shape, type_proto
        here[info.name] = variable
    tensor = here[info.name]
    if getattr(tensor, "origin", None) is None:
        tensor.origin = Origin(info, dtype, None if shape is None else list(shape))


def read_type(proto: TypeProto) -> tuple[Any, Shape, TypeProto | None]:
    """The dtype and shape of a dense tensor, as far as known; the proto itself for other types."""
    if not proto.HasField("tensor_type"):
        return None, None, TypeProto.FromString(proto.SerializeToString()) if proto.ByteSize() else None
    tensor = proto.tensor_type
    dtype = helper.tensor_dtype_to_np_dtype(tensor.elem_type) if tensor.elem_type else None
    if not tensor.HasField("shape"):
        return dtype, None, None
    return dtype, [d.dim_value if _is_size(d) else _symbol(d) for d in tensor.shape.dim], None


def _is_size(dim: onnx.TensorShapeProto.Dimension) -> bool:
    return bool(dim.HasField("dim_value") and dim.dim_value >= 0)


def _symbol(dim: onnx.TensorShapeProto.Dimension) -> str | None:
    """The name of a size; "?" and the like, which some exporters give every size that they do not know, name none."""
    return dim.dim_param if any(c.isalnum() for c in dim.dim_param) else None


def _sound(dim: onnx.TensorShapeProto.Dimension) -> bool:
    """Whether a dimension is a size, has a name, or is left open."""
    return _is_size(dim) or _symbol(dim) is not None or dim.WhichOneof("value") is None


def import_node(proto: NodeProto, scope: Tensors, values: Values) -> gs.Node:
    """A node whose inputs and outputs are the tensors of `scope`; unknown names become untyped variables."""
    here = scope.maps[0]

    def find(name: str) -> gs.Tensor:
        if not name:
            return gs.Variable.empty()
        for names in scope.maps:
            if name in names:
                return names[name]
        here[name] = untyped(name)
        return here[name]

    node = gs.Node(
        proto.op_type,
        proto.name,
        OrderedDict((a.name, read_attribute(a, scope, values)) for a in proto.attribute),
        [find(name) for name in proto.input],
        [here[name] if name else gs.Variable.empty() for name in proto.output],
        proto.domain if proto.domain != "ai.onnx" else "",
    )
    node.extra = NodeProto()
    remainder(proto, node.extra, _NODE)
    for attribute in proto.attribute:
        value = node.attrs[attribute.name]
        if attribute.doc_string or (isinstance(value, list) and not value):
            node.extra.attribute.add(name=attribute.name, type=attribute.type, doc_string=attribute.doc_string)
    return node


def import_attribute(proto: AttributeProto, scope: Tensors, base_dir: Path | None) -> Any:
    """A Python value where one carries the same meaning, else the proto itself."""
    return read_attribute(proto, scope, lambda tensor: Lazy(tensor, base_dir))


def read_attribute(proto: AttributeProto, scope: Tensors, values: Values) -> Any:
    """As `import_attribute`, with the choice of what tensors become."""
    if proto.ref_attr_name:
        return proto
    match proto.type:
        case AttributeProto.GRAPH:
            return import_graph(proto.g, values, scope)
        case AttributeProto.TENSOR:
            return gs.Constant(proto.t.name, values(proto.t))
        case AttributeProto.FLOAT | AttributeProto.INT | AttributeProto.FLOATS | AttributeProto.INTS:
            return helper.get_attribute_value(proto)
        case AttributeProto.STRING:
            return proto.s.decode("utf-8", "surrogateescape")
        case AttributeProto.STRINGS:
            return [s.decode("utf-8", "surrogateescape") for s in proto.strings]
        case _:
            return proto
