"""A model in memory: the graph, and everything about the file that is not the graph."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import onnx
import onnx_graphsurgeon as gs
from onnx import ModelProto

from qcompiler.ir.exporter import declared, export_graph
from qcompiler.ir.importer import import_graph

ONNX_DOMAIN = ""


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
    def from_proto(proto: ModelProto, base_dir: Path | None = None) -> Model:
        """The model that `proto` describes; functions must have been inlined. Weights are not copied."""
        header = ModelProto()
        for entry in ModelProto.DESCRIPTOR.fields:
            if entry.name in ("graph", "functions"):
                continue
            value = getattr(proto, entry.name)
            if entry.is_repeated:
                getattr(header, entry.name).extend(value)
            elif proto.HasField(entry.name):
                setattr(header, entry.name, value)
        for opset in header.opset_import:
            if opset.domain == "ai.onnx":
                opset.domain = ONNX_DOMAIN
        return Model(import_graph(proto.graph, base_dir), header, base_dir)

    def to_proto(self) -> ModelProto:
        """The model as one proto; external data stays external."""
        proto = ModelProto()
        proto.CopyFrom(self.header)
        proto.graph.CopyFrom(export_graph(self.graph))
        known = {opset.domain for opset in proto.opset_import}
        for domain in sorted({node.domain or "" for node in self.all_nodes()} - known):
            proto.opset_import.append(onnx.helper.make_opsetid(domain, 1))
        return proto

    def copy(self) -> Model:
        """An independent model; the bytes of lazy weights are shared until written."""
        twin = Model.from_proto(self.to_proto(), self.base_dir)
        twin.counter = dict(self.counter)
        return twin

    @property
    def opset(self) -> int:
        """Version of the ONNX domain."""
        return next((int(o.version) for o in self.header.opset_import if o.domain == ONNX_DOMAIN), 1)

    @opset.setter
    def opset(self, version: int) -> None:
        for opset in self.header.opset_import:
            if opset.domain == ONNX_DOMAIN:
                opset.version = version
                return
        self.header.opset_import.append(onnx.helper.make_opsetid(ONNX_DOMAIN, version))

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
            stack.extend(reversed([sub for node in graph.nodes for sub in node.subgraphs()]))

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
