"""What makes an ONNX file unusable, said in one line, before anything is built from it.

The checks of this module name the node or tensor and what to do; `onnx.checker` then has the last word on attributes
and arities (see `load`). Weights are measured here, never read. Source: ONNX standard, "Open Neural Network Exchange
Intermediate Representation".
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import onnx
from onnx import AttributeProto, GraphProto, NodeProto, TensorProto, TypeProto, helper

from qcompiler.errors import ModelError
from qcompiler.ir.external import external_span
from qcompiler.ir.header import plain_domain
from qcompiler.ir.schemas import schema
from qcompiler.ir.weights import BITS, DENSE_LIMIT, byte_size

# Operators that ONNX Runtime knows in the ONNX domain beside the standard, or before it; its own tools write them.
RUNTIME_OPERATORS = frozenset({"SimplifiedLayerNormalization", "LayerNormalization"})

# What NumPy can address.
MAX_RANK = 64
MAX_VALUES = 1 << 58

# Elements of the typed field that one value takes; elsewhere a value takes one.
_PER_VALUE: dict[int, int] = {TensorProto.COMPLEX64: 2, TensorProto.COMPLEX128: 2}
_KNOWN_TYPES = frozenset(TensorProto.DataType.values()) - {TensorProto.UNDEFINED}


@dataclass
class Names:
    """Names that a graph and the graphs around it define."""

    outer: Names | None = None
    here: set[str] = field(default_factory=set)

    def __contains__(self, name: str) -> bool:
        scope: Names | None = self
        while scope is not None:
            if name in scope.here:
                return True
            scope = scope.outer
        return False


def label(node: NodeProto) -> str:
    """How a message names a node."""
    if node.name:
        return f"node {node.name!r}"
    return f"unnamed {node.op_type} node (output {next(filter(None, node.output), '')!r})"


@dataclass
class Check:
    """Checks graphs of one model.

    Attributes:
        opsets: version of each domain.
        base_dir: folder of external data.
        known: operators found good so far.
        dense_bytes: what the sparse initializers so far need when expanded.
    """

    opsets: dict[str, int]
    base_dir: Path | None
    known: set[tuple[str, str]] = field(default_factory=set)
    dense_bytes: int = 0

    def graph(self, graph: GraphProto, outer: Names | None = None) -> None:
        """Checks one graph and those inside it.

        Raises:
            ModelError: naming the node or tensor.
        """
        names = Names(outer)
        for tensor in graph.initializer:
            self.tensor(tensor)
            _define(tensor.name, names.here, "initializer")
        for sparse in graph.sparse_initializer:
            for part in (sparse.values, sparse.indices):
                if part.data_location == TensorProto.EXTERNAL or part.data_type == TensorProto.STRING:
                    raise ModelError("sparse initializer of this kind is not supported", where=sparse.values.name)
                self.tensor(part)
            _define(sparse.values.name, names.here, "initializer")
            self.dense_bytes += byte_size(sparse.values.data_type, [abs(d) for d in sparse.dims])
            if self.dense_bytes > DENSE_LIMIT:
                raise ModelError("sparse initializers are too large to expand", where=sparse.values.name)
        self.inputs(graph, names)
        for node in graph.node:
            for name in filter(None, node.output):
                if name in names:
                    raise ModelError(f"{label(node)} produces {name!r}, which already exists")
                names.here.add(name)
        for node in graph.node:
            self.node(node, names)
        for info in graph.output:
            if info.name not in names.here:
                outside = outer is not None and info.name in outer
                raise ModelError(
                    f"graph output {info.name!r} is not produced in its graph",
                    where=graph.name if outer is not None else "",
                    hint="put an Identity in between" if outside else "",
                )
            self.element_type(info)

    def inputs(self, graph: GraphProto, names: Names) -> None:
        """Inputs of the main graph need a type; no graph may list one twice."""
        seen: set[str] = set()
        for info in graph.input:
            _define(info.name, seen, "graph input")
            if names.outer is None and info.type.WhichOneof("value") is None and info.name not in names.here:
                raise ModelError("graph input has no type", where=info.name)
            self.element_type(info)
        names.here |= seen
        for info in graph.value_info:
            self.element_type(info)

    def element_type(self, info: onnx.ValueInfoProto) -> None:
        """Refuses element types that the onnx package does not know, also inside sequences and maps."""
        for number in _element_types(info.type):
            if number and number not in _KNOWN_TYPES:
                raise ModelError(f"unknown element type {number}", where=info.name)

    def node(self, node: NodeProto, names: Names) -> None:
        """Operator, inputs and attributes of one node."""
        self.operator(node)
        for name in filter(None, node.input):
            if name not in names:
                raise ModelError(f"{label(node)} reads {name!r}, which nothing produces")
        seen: set[str] = set()
        for attribute in node.attribute:
            if attribute.name in seen:
                raise ModelError(f"{label(node)} has attribute {attribute.name!r} twice")
            seen.add(attribute.name)
            self.attribute(attribute, node, names)

    def attribute(self, attribute: AttributeProto, node: NodeProto, names: Names) -> None:
        """Tensors and graphs inside an attribute."""
        if attribute.ref_attr_name:
            raise ModelError(f"{label(node)} refers to attribute {attribute.ref_attr_name!r} of a function around it")
        if attribute.type == AttributeProto.GRAPH:
            self.graph(attribute.g, names)
        for graph in attribute.graphs:
            self.graph(graph)  # without the names around it: edits could not follow a captured tensor
        if attribute.type == AttributeProto.TENSOR:
            self.tensor(attribute.t, label(node))
        for tensor in attribute.tensors:
            self.tensor(tensor, label(node))

    def operator(self, node: NodeProto) -> None:
        """Refuses operators that the declared opsets do not have."""
        domain = plain_domain(node.domain)
        if (domain, node.op_type) in self.known:
            return
        version = self.opsets.get(domain)
        if version is None:
            raise ModelError(
                f"{label(node)}: operator {node.op_type!r} is of domain {domain or 'ai.onnx'!r}, "
                "of which the model declares no opset"
            )
        if (domain == "" or domain.startswith("ai.onnx.")) and not (domain == "" and node.op_type in RUNTIME_OPERATORS):
            problem = _missing(node.op_type, domain, version)
            if problem:
                where = "the ONNX operators" if domain == "" else domain
                raise ModelError(f"{label(node)}: operator {node.op_type!r} {problem} opset {version} of {where}")
        self.known.add((domain, node.op_type))

    def tensor(self, tensor: TensorProto, where: str = "") -> None:
        """Type, shape and amount of data of one tensor, without reading its values."""
        where = tensor.name or where
        if tensor.data_type not in _KNOWN_TYPES:
            raise ModelError(f"unknown element type {tensor.data_type}", where=where)
        if any(d < 0 for d in tensor.dims):
            raise ModelError(f"tensor has a negative dimension in its shape {list(tensor.dims)}", where=where)
        if len(tensor.dims) > MAX_RANK or math.prod(max(d, 1) for d in tensor.dims) > MAX_VALUES:
            raise ModelError(f"no array can have the shape {list(tensor.dims)}", where=where)
        if tensor.HasField("segment"):
            raise ModelError("tensors in segments are not supported", where=where)
        if tensor.data_location == TensorProto.EXTERNAL:
            if tensor.data_type == TensorProto.STRING:
                raise ModelError("strings cannot be external data", where=where)
            external_span(tensor, self.base_dir, byte_size(tensor.data_type, tensor.dims))
            return
        held, needed, unit = _amounts(tensor)
        if held != needed:
            name = TensorProto.DataType.Name(tensor.data_type).lower()
            raise ModelError(
                f"tensor of type {name} and shape {list(tensor.dims)} needs {needed} {unit} and holds {held}",
                where=where,
            )


def _define(name: str, names: set[str], what: str) -> None:
    if not name:
        raise ModelError(f"an {what} has no name" if what[0] in "aeiou" else f"a {what} has no name")
    if name in names:
        raise ModelError(f"two of the model's {what}s have this name", where=name)
    names.add(name)


def _element_types(proto: TypeProto) -> Iterator[int]:
    kind = proto.WhichOneof("value")
    if kind in ("tensor_type", "sparse_tensor_type"):
        yield getattr(proto, kind).elem_type
    elif kind in ("sequence_type", "optional_type"):
        yield from _element_types(getattr(proto, kind).elem_type)
    elif kind == "map_type":
        yield proto.map_type.key_type
        yield from _element_types(proto.map_type.value_type)


def _missing(op: str, domain: str, version: int) -> str:
    """Why an operator cannot be used at a version, "" where it can."""
    found = schema(op, version, domain)
    if found is None:
        return "is newer than" if onnx.defs.has(op, domain) else "is unknown in"
    return "was removed in or before" if found.deprecated else ""


def _amounts(tensor: TensorProto) -> tuple[int, int, str]:
    """What a tensor holds and what its type and shape need, in bytes or values."""
    count = math.prod(tensor.dims)
    if tensor.data_type == TensorProto.STRING:
        return len(tensor.string_data), count, "strings"
    if tensor.HasField("raw_data"):
        return len(tensor.raw_data), byte_size(tensor.data_type, tensor.dims), "bytes"
    bits = BITS.get(tensor.data_type, 8)
    per_entry = 8 // bits if bits in (2, 4) else 1
    needed = -(-count // per_entry) * _PER_VALUE.get(tensor.data_type, 1)
    return len(getattr(tensor, helper.tensor_dtype_to_field(tensor.data_type))), needed, "values"
