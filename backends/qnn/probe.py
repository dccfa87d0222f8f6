"""Compiles of single nodes, to find those that the processor refuses.

A node with the Q and DQ around it is cut out as a model of its own: what it reads becomes an input of the graph (with
its own Q and DQ where it is quantized), constants stay. Nodes that differ in nothing but names are compiled once.
docs: QNN fact sheet, rule 10.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import onnx
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper

from qcompiler import ir
from qcompiler.backends.qnn.runtime import Request, ask, last_line
from qcompiler.passes.prepare.purity import GRID

PROBE_SECONDS = 300.0


def failing(
    model: ir.Model, request: Callable[[Path, Path | None, Path | None], Request], folder: Path
) -> Mapping[str, str]:
    """The nodes that cannot be compiled alone, each with the reason.

    Args:
        model: with Q and DQ.
        request: what to ask of a model's file.
        folder: an empty folder.
    """
    folder.mkdir(parents=True)
    cutter = Cutter(model)
    alike: dict[str, list[str]] = {}
    files: list[Path] = []
    for node in model.nodes:
        if node.op in GRID or node.op == "Constant":
            continue
        names = alike.setdefault(cutter.signature(node), [])
        if not names:
            files.append(folder / f"{len(files)}.onnx")
            onnx.save(cutter.cut(node), files[-1])
        names.append(node.name)
    answers = ask([request(file, None, None) for file in files], folder / "ask", PROBE_SECONDS)
    return {
        name: f"refused alone, too: {last_line(answer)}"
        for answer, names in zip(answers, alike.values(), strict=True)
        if not answer.ok
        for name in names
    }


class Cutter:
    """Cuts single nodes out of a graph."""

    def __init__(self, model: ir.Model) -> None:
        self.model = model
        proto = model.to_proto()
        self.head, self.graph = model.head(), proto.graph
        self.constants = {tensor.name: tensor for tensor in self.graph.initializer}
        self.makers = {name: node for node in self.graph.node for name in node.output}
        self.protos = {node.name: node for node in self.graph.node}
        self.readers: dict[str, list[NodeProto]] = {}
        for node in self.graph.node:
            for name in node.input:
                self.readers.setdefault(name, []).append(node)
        self.tensors: dict[str, ir.Tensor] = {
            tensor.name: tensor for node in model.nodes for tensor in (*node.inputs, *node.outputs) if tensor.name
        }
        self.ends = {tensor.name for tensor in model.outputs}

    def cut(self, node: ir.Node) -> ModelProto:
        """The node with its Q and DQ as a model."""
        proto = self.protos[node.name]
        graph = GraphProto(name=node.name)
        nodes: list[NodeProto] = []
        for name in dict.fromkeys(filter(None, proto.input)):
            self._read(name, graph, nodes)
        nodes.append(proto)
        for name in filter(None, proto.output):
            self._write(name, graph, nodes)
        graph.node.extend(nodes)
        made = ModelProto()
        made.CopyFrom(self.head)
        made.graph.CopyFrom(graph)
        return made

    def _read(self, name: str, graph: GraphProto, nodes: list[NodeProto]) -> None:
        if name in self.constants:
            self._keep(name, graph)
            return
        maker = self.makers.get(name)
        if maker is not None and maker.op_type in GRID:
            for parameter in maker.input[1:]:
                self._keep(parameter, graph)
            self._read(maker.input[0], graph, nodes)
            nodes.append(maker)
            return
        if not any(value.name == name for value in graph.input):
            graph.input.append(self._info(name))

    def _write(self, name: str, graph: GraphProto, nodes: list[NodeProto]) -> None:
        readers = self.readers.get(name, [])
        if name not in self.ends and len(readers) == 1 and readers[0].op_type in ("Relu", "Clip"):
            for bound in readers[0].input[1:]:
                self._keep(bound, graph)
            nodes.append(readers[0])
            self._write(readers[0].output[0], graph, nodes)
            return
        if name in self.ends or len(readers) != 1 or readers[0].op_type != "QuantizeLinear":
            graph.output.append(self._info(name))
            return
        quantizer = readers[0]
        for parameter in quantizer.input[1:]:
            self._keep(parameter, graph)
        value = f"{quantizer.output[0]}_probe"
        nodes += [
            quantizer,
            helper.make_node(
                "DequantizeLinear", [quantizer.output[0], *quantizer.input[1:]], [value], f"{quantizer.name}_probe"
            ),
        ]
        graph.output.append(helper.make_tensor_value_info(value, TensorProto.FLOAT, self.tensors[name].shape))

    def _keep(self, name: str, graph: GraphProto) -> None:
        if name in self.constants and not any(tensor.name == name for tensor in graph.initializer):
            graph.initializer.append(self.constants[name])

    def _info(self, name: str) -> onnx.ValueInfoProto:
        tensor = self.tensors[name]
        return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(tensor.dtype), tensor.shape)

    def signature(self, node: ir.Node) -> str:
        """Equal for nodes that differ in names and values alone."""
        proto = self.cut(node)
        numbers: dict[str, str] = {}

        def number(name: str) -> str:
            return numbers.setdefault(name, str(len(numbers))) if name else ""

        def spelled(part: NodeProto) -> Any:
            attributes = sorted(attribute.SerializeToString() for attribute in part.attribute)
            return part.op_type, part.domain, [*map(number, part.input)], [*map(number, part.output)], attributes

        inputs = [(number(value.name), value.type.SerializeToString()) for value in proto.graph.input]
        tensors = [(number(t.name), t.data_type, list(t.dims)) for t in proto.graph.initializer]
        return repr((inputs, tensors, [spelled(part) for part in proto.graph.node]))
