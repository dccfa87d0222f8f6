"""What makes an ONNX file unusable, said in one line, before anything is built from it.

The checks of this module name the node or tensor and what to do; `onnx.checker` then has the last word on attributes
and arities (see `load`). Weights are measured here, never read. Source: ONNX standard, "Open Neural Network Exchange
Intermediate Representation".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import onnx
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, TypeProto, helper

from qcompiler.errors import ModelError
from qcompiler.ir.external import external_span
from qcompiler.ir.weights import BITS, byte_size

# The first IR version whose models declare their opsets.
OPSET_IR_VERSION = 3

# Operators that ONNX Runtime knows in the ONNX domain beside the standard, or before it; its own tools write them.
RUNTIME_OPERATORS = frozenset({"SimplifiedLayerNormalization", "LayerNormalization"})

# Elements of the typed field that one value takes; elsewhere a value takes one.
_PER_VALUE: dict[int, int] = {TensorProto.COMPLEX64: 2, TensorProto.COMPLEX128: 2}
_KNOWN_TYPES = frozenset(TensorProto.DataType.values()) - {TensorProto.UNDEFINED}


def check_text(message: Any) -> None:
    """Refuses names and other strings, however deep, that are not UTF-8; protobuf hands them out as bytes.

    Raises:
        ModelError: there is one.
    """
    if isinstance(message, TensorProto):
        fields = [(message.DESCRIPTOR.fields_by_name["name"], message.name), *_entries(message)]
    else:
        fields = message.ListFields()
    for entry, value in fields:
        several = (value,) if isinstance(value, str | bytes) or hasattr(value, "ListFields") else value
        if entry.type == entry.TYPE_STRING and any(isinstance(text, bytes) for text in several):
            raise ModelError(f"{entry.name} is not valid UTF-8: {next(t for t in several if isinstance(t, bytes))!r}")
        if entry.type == entry.TYPE_MESSAGE:
            for part in several:
                check_text(part)


def _entries(tensor: TensorProto) -> list[tuple[Any, Any]]:
    """The fields of a tensor that hold text, without touching its values."""
    names = ("doc_string", "external_data", "metadata_props")
    return [(tensor.DESCRIPTOR.fields_by_name[name], getattr(tensor, name)) for name in names]


def plain_domain(domain: str) -> str:
    """The domain with "ai.onnx" under its shorter name."""
    return "" if domain == "ai.onnx" else domain


def check_header(proto: ModelProto) -> dict[str, int]:
    """The opset of each domain.

    Raises:
        ModelError: no graph, no or unknown versions.
    """
    if not proto.HasField("graph"):
        raise ModelError("this is not an ONNX model: it has no graph")
    if proto.ir_version < OPSET_IR_VERSION:
        raise ModelError(
            f"IR version {proto.ir_version} is not supported" if proto.ir_version else "the model has no IR version",
            hint=f"export the model with IR version {OPSET_IR_VERSION} or later",
        )
    if proto.ir_version > onnx.IR_VERSION:
        raise ModelError(
            f"IR version {proto.ir_version} is newer than the installed onnx package knows ({onnx.IR_VERSION})",
            hint="upgrade onnx, or export the model for an older version",
        )
    opsets: dict[str, int] = {}
    for entry in proto.opset_import:
        domain = plain_domain(entry.domain)
        if opsets.setdefault(domain, entry.version) != entry.version:
            raise ModelError(f"opset of domain {domain or 'ai.onnx'!r} is given twice, with different versions")
    newest = onnx.defs.onnx_opset_version()
    if not opsets:
        raise ModelError("the model declares no opset", hint="export it again, or set opset_import")
    if not 0 < opsets.get("", newest) <= newest:
        raise ModelError(
            f"opset {opsets['']} is not one that the installed onnx package knows (1 to {newest})",
            hint="upgrade onnx, or export the model for an older opset",
        )
    return opsets


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
    """

    opsets: dict[str, int]
    base_dir: Path | None
    known: set[tuple[str, str]] = field(default_factory=set)

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
    try:
        schema = onnx.defs.get_schema(op, version, domain)
    except onnx.defs.SchemaError:
        return "is newer than" if onnx.defs.has(op, domain) else "is unknown in"
    return "was removed in or before" if schema.deprecated else ""


def _amounts(tensor: TensorProto) -> tuple[int, int, str]:
    """What a tensor holds and what its type and shape need, in bytes or values."""
    count = 1
    for size in tensor.dims:
        count *= size
    if tensor.data_type == TensorProto.STRING:
        return len(tensor.string_data), count, "strings"
    if tensor.HasField("raw_data"):
        return len(tensor.raw_data), byte_size(tensor.data_type, tensor.dims), "bytes"
    bits = BITS.get(tensor.data_type, 8)
    per_entry = 8 // bits if bits in (2, 4) else 1
    needed = -(-count // per_entry) * _PER_VALUE.get(tensor.data_type, 1)
    return len(getattr(tensor, helper.tensor_dtype_to_field(tensor.data_type))), needed, "values"
