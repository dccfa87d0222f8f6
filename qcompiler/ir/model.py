"""A model in memory: the graph, and everything about the file that is not the graph."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import onnx
import onnx_graphsurgeon as gs
from onnx import GraphProto, ModelProto, TensorProto

from qcompiler.ir.dag import subgraphs
from qcompiler.ir.exporter import Store, declared, export_graph
from qcompiler.ir.importer import Values, import_graph, remainder
from qcompiler.ir.weights import Lazy, nbytes, to_proto

ONNX_DOMAIN = ""

# For models that use only other domains.
DEFAULT_OPSET = 21

# The first IR version in which an initializer need not be a graph input.
LOOSE_INITIALIZERS = 4

# Bytes of weights up to which all may be held in memory.
LARGE = 1 << 31


@dataclass(eq=False)
class Model:
    """An ONNX model.

    Attributes:
        graph: the main graph; subgraphs hang on the attributes of its nodes.
        header: a `ModelProto` without a graph: opsets, IR version, producer, metadata.
        base_dir: the folder where external data lies; None for a model made in memory.
        counter: source of fresh names.
    """

    graph: gs.Graph
    header: ModelProto
    base_dir: Path | None = None
    counter: dict[str, int] = field(default_factory=dict)

    @staticmethod
    def from_proto(proto: ModelProto, base_dir: Path | None = None, values: Values | None = None) -> Model:
        """The model that `proto` describes, unchecked; functions must have been inlined. Weights are not copied.

        Args:
            base_dir: folder of external data.
            values: what holds the values of a tensor, in place of the tensor itself.
        """
        header = ModelProto()
        remainder(proto, header, {"graph", "functions", "opset_import"})
        domains = {o.domain if o.domain != "ai.onnx" else ONNX_DOMAIN: o.version for o in proto.opset_import}
        header.opset_import.extend(onnx.helper.make_opsetid(*entry) for entry in domains.items())
        found = values or (lambda tensor: Lazy(tensor, base_dir))
        return Model(import_graph(proto.graph, found), header, base_dir)

    def to_proto(self, store: Store = to_proto) -> ModelProto:
        """The model as one proto; external data stays external.

        Args:
            store: what becomes of a constant, initializer or attribute; by default its values, copied.
        """
        proto = self.head()
        export_graph(self.graph, proto.graph, store)
        return proto

    def head(self) -> ModelProto:
        """The header with an opset for every domain in use, and no graph."""
        proto = ModelProto()
        proto.CopyFrom(self.header)
        known = {opset.domain for opset in proto.opset_import}
        for domain in sorted({node.domain or "" for node in self.all_nodes()} - known):
            proto.opset_import.append(onnx.helper.make_opsetid(domain, 1 if domain else self.opset))
        if 0 < proto.ir_version < LOOSE_INITIALIZERS:
            inputs = set(map(id, self.graph.inputs))
            if any(id(constant) not in inputs for constant in declared(self.graph)):
                proto.ir_version = LOOSE_INITIALIZERS
        return proto

    def copy(self) -> Model:
        """An independent model; both share the values of weights, which nothing changes in place."""
        shared: list[Any] = []

        def number(constant: gs.Constant) -> TensorProto:
            shared.append(constant._values)
            return TensorProto(name=constant.name, dims=[len(shared) - 1])

        header, proto = ModelProto(), GraphProto()
        header.CopyFrom(self.header)
        export_graph(self.graph, proto, number)
        graph = import_graph(proto, lambda tensor: shared[tensor.dims[0]])
        return Model(graph, header, self.base_dir, dict(self.counter))

    @property
    def opset(self) -> int:
        """Version of the ONNX domain; where the model declares none, what nodes of that domain would get."""
        versions = (int(o.version) for o in self.header.opset_import if o.domain == ONNX_DOMAIN)
        return next(versions, DEFAULT_OPSET)

    @opset.setter
    def opset(self, version: int) -> None:
        for opset in self.header.opset_import:
            if opset.domain == ONNX_DOMAIN:
                opset.version = version
                break
        else:
            self.header.opset_import.append(onnx.helper.make_opsetid(ONNX_DOMAIN, version))
        needed = onnx.helper.find_min_ir_version_for([onnx.helper.make_opsetid(ONNX_DOMAIN, version)], True)
        self.header.ir_version = max(self.header.ir_version, needed)

    @property
    def nodes(self) -> list[gs.Node]:
        """Nodes of the main graph, in order."""
        return list(self.graph.nodes)

    @property
    def inputs(self) -> list[gs.Variable]:
        """Inputs that a user must feed; initializers listed as inputs are not among them."""
        return [tensor for tensor in self.graph.inputs if isinstance(tensor, gs.Variable)]

    @property
    def outputs(self) -> list[gs.Tensor]:
        """Outputs of the main graph."""
        return list(self.graph.outputs)

    def graphs(self) -> Iterator[gs.Graph]:
        """The main graph, then every subgraph, outer before inner, in node order."""
        stack = [self.graph]
        while stack:
            graph = stack.pop()
            yield graph
            stack.extend(reversed([sub for node in graph.nodes for sub in subgraphs(node)]))

    def all_nodes(self) -> Iterator[gs.Node]:
        """Nodes of every graph."""
        return (node for graph in self.graphs() for node in graph.nodes)

    def constants(self) -> Iterator[gs.Constant]:
        """Initializers of every graph, each once."""
        seen: set[int] = set()
        for graph in self.graphs():
            for constant in declared(graph, frozenset(seen)):
                seen.add(id(constant))
                yield constant

    def tensors(self) -> Iterator[gs.Constant]:
        """Initializers of every graph, then the tensors that are attributes, as of Constant nodes."""
        yield from self.constants()
        for node in self.all_nodes():
            yield from (value for value in node.attrs.values() if isinstance(value, gs.Constant))

    def weights_bytes(self) -> int:
        """Size of all initializers and attribute tensors in raw form, without reading them."""
        return sum(nbytes(constant) for constant in self.tensors())

    @property
    def is_large(self) -> bool:
        """Whether its weights are too many to be held in memory all at once."""
        return self.weights_bytes() > LARGE

    def names(self) -> set[str]:
        """Every node and tensor name in every graph."""
        found = {constant.name for constant in self.constants()}
        for graph in self.graphs():
            found.update(tensor.name for tensor in [*graph.inputs, *graph.outputs])
            for node in graph.nodes:
                found.add(node.name)
                found.update(tensor.name for tensor in [*node.inputs, *node.outputs])
        return found

    def find(self, name: str) -> gs.Node | None:
        """The node of that name, in any graph."""
        return next((node for node in self.all_nodes() if node.name == name), None)
