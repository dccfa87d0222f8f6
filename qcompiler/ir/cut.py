"""Cuts a model: what depends on some of its nodes, or some of its nodes alone, as a model of its own."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

import onnx_graphsurgeon as gs
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, helper

from qcompiler.errors import PassError
from qcompiler.ir.exporter import export_graph
from qcompiler.ir.importer import import_graph
from qcompiler.ir.model import Model


class Cutter:
    """A model that is cut at many places; it must not change meanwhile. Values of weights are shared, never copied.

    Attributes:
        reads: for each node of the main graph what it needs: tensors and constants, its subgraphs' included.
        makes: for each of them what it computes.
    """

    def __init__(self, model: Model) -> None:
        self._model, self._shared = model, list[Any]()
        self._proto = GraphProto()
        export_graph(model.graph, self._proto, self._number)
        self.reads = [tuple(dict.fromkeys(_reads(node))) for node in self._proto.node]
        self.makes = [tuple(filter(None, node.output)) for node in self._proto.node]
        self._infos = {i.name: i for i in [*self._proto.value_info, *self._proto.input, *self._proto.output]}
        self._constants = {tensor.name: tensor for tensor in self._proto.initializer}

    def downstream(self, starts: Collection[str], also: Collection[str] = ()) -> tuple[Model, tuple[str, ...]]:
        """The nodes named `starts`, and every node that reads what they compute, directly or not.

        Args:
            starts: names of nodes of the main graph.
            also: tensors that the new model gives besides, where it computes them.

        Returns:
            The model, and the names of its inputs: tensors of the whole one that are fed to it or computed outside.
            Its outputs are those of the whole one that depend on the nodes, then those of `also`.

        Raises:
            PassError: nothing is known of the type of a tensor on the border.
        """
        part, made, border = GraphProto(name=self._proto.name), dict[str, None](), dict[str, None]()
        for place, (node, reads) in enumerate(zip(self._proto.node, self.reads, strict=True)):
            if node.name in starts or any(name in made for name in reads):
                self._take(place, part, made, border)
        inputs = self._begin(part, border, {})
        ends = [info for info in self._proto.output if info.name in made]
        shown = {info.name for info in ends}
        part.output.extend(ends)
        part.output.extend(self._infos[name] for name in made if name in also and name not in shown)
        part.value_info.extend(info for info in self._proto.value_info if info.name in made and info.name not in also)
        return self._model_of(part), inputs

    def alone(
        self, places: Iterable[int], gives: Collection[str], types: Mapping[str, int]
    ) -> tuple[Model, tuple[str, ...]]:
        """Some nodes, and no other.

        Args:
            places: of nodes of the main graph, producers first.
            gives: tensors that they compute and the new model gives.
            types: ONNX element types of tensors on the border that the model itself says nothing of.

        Returns:
            The model, and the names of its inputs.

        Raises:
            PassError: nothing is known of the type of a tensor on the border.
        """
        part, made, border = GraphProto(name=self._proto.name), dict[str, None](), dict[str, None]()
        for place in places:
            self._take(place, part, made, border)
        inputs = self._begin(part, border, types)
        part.output.extend(self._infos.get(name) or ValueInfoProto(name=name) for name in gives)
        return self._model_of(part), inputs

    def _take(self, place: int, part: GraphProto, made: dict[str, None], border: dict[str, None]) -> None:
        part.node.append(self._proto.node[place])
        made.update(dict.fromkeys(self.makes[place]))
        border.update(dict.fromkeys(name for name in self.reads[place] if name not in made))

    def _begin(self, part: GraphProto, border: Iterable[str], types: Mapping[str, int]) -> tuple[str, ...]:
        """Constants and inputs of a part; the names of the inputs."""
        part.initializer.extend(self._constants[name] for name in border if name in self._constants)
        inputs = tuple(name for name in border if name not in self._constants)
        for name in inputs:
            info = self._infos.get(name)
            if info is None or not info.type.WhichOneof("value"):
                info = helper.make_tensor_value_info(name, types[name], None) if name in types else None
            if info is None:
                raise PassError(f"the type of {name!r} is unknown, so the model cannot be cut there")
            part.input.append(info)
        return inputs

    def _model_of(self, part: GraphProto) -> Model:
        header = ModelProto()
        header.CopyFrom(self._model.header)
        graph = import_graph(part, lambda tensor: self._shared[tensor.dims[0]])
        return Model(graph, header, self._model.base_dir, dict(self._model.counter))

    def _number(self, constant: gs.Constant) -> TensorProto:
        self._shared.append(constant._values)
        return TensorProto(name=constant.name, dims=[len(self._shared) - 1])


def _reads(node: NodeProto) -> Iterator[str]:
    """What a node needs: its inputs, and what its subgraphs read from outside."""
    yield from filter(None, node.input)
    for attribute in node.attribute:
        for graph in [attribute.g, *attribute.graphs] if attribute.HasField("g") or attribute.graphs else ():
            own = {info.name for info in graph.input} | {tensor.name for tensor in graph.initializer}
            own |= {name for inner in graph.node for name in inner.output}
            used = [name for inner in graph.node for name in _reads(inner)]
            yield from (name for name in [*used, *(info.name for info in graph.output)] if name not in own)
