"""onnx.version_converter for single nodes: questions in, nodes of the new opset out.

All questions go to the converter in one model, side by side, since a call takes milliseconds however small the model.
If that fails, each is asked alone, to find the node that is in the way and the opset it can reach.

What the converter gets wrong is put right by `converter_faults.amend`. Every answer is checked by the ONNX checker
with strict shape inference. Source: onnx.version_converter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from onnx import (
    GraphProto,
    ModelProto,
    NodeProto,
    ValueInfoProto,
    checker,
    helper,
    numpy_helper,
    shape_inference,
    version_converter,
)

from qcompiler import ir
from qcompiler.passes.prepare.converter_faults import WrongAnswerError, amend

SMALL = 1024
"""Bytes up to which the converter sees the values of a constant input."""
IR_VERSION = 10

Nodes = tuple[NodeProto, ...]


@dataclass(frozen=True)
class Question:
    """A graph of one node.

    Attributes:
        graph: the serialized `GraphProto`; the node is as `ir.lone` makes it, small constants are initializers.
        typed: whether all element types are known; else float stands for the unknown ones.
    """

    graph: bytes
    typed: bool

    @staticmethod
    def of(node: ir.Node) -> Question:
        """The question about a node."""
        graph = GraphProto(name="question", node=[ir.lone(node)])
        for port, tensor in enumerate(node.inputs):
            if isinstance(tensor, ir.Constant) and ir.nbytes(tensor) <= SMALL:
                graph.initializer.append(numpy_helper.from_array(np.asarray(ir.array(tensor), order="C"), f"i{port}"))
            elif tensor.name:
                graph.input.append(_info(tensor, f"i{port}"))
        graph.output.extend([_info(tensor, f"o{port}") for port, tensor in enumerate(node.outputs) if tensor.name])
        tensors = [tensor for tensor in [*node.inputs, *node.outputs] if tensor.name]
        typed = all(tensor.dtype is not None or getattr(tensor, "type_proto", None) is not None for tensor in tensors)
        return Question(graph.SerializeToString(deterministic=True), typed)

    def parse(self) -> GraphProto:
        """The graph."""
        proto: GraphProto = GraphProto.FromString(self.graph)
        return proto


class CannotConvertError(Exception):
    """A question that has no answer in the opset asked for.

    Attributes:
        question: which.
        reached: the highest opset in which it has one.
        reason: what was wrong in the next.
    """

    def __init__(self, question: Question, reached: int, reason: str) -> None:
        super().__init__(reason)
        self.question, self.reached, self.reason = question, reached, reason


def convert(questions: Sequence[Question], old: int, new: int) -> dict[Question, Nodes]:
    """For each question the nodes, tensors named as by `ir.lone`, that do in opset `new` what it does in `old`.

    No nodes stand for a question that is its own answer.

    Raises:
        CannotConvertError: for the first question that cannot be answered.
    """
    try:
        return _ask(questions, old, new)
    except Exception:  # the converter raises whatever its C++ code meets; which question it was is found below
        return {question: _ask_alone(question, old, new) for question in questions}


def _ask_alone(question: Question, old: int, new: int) -> Nodes:
    reason = ""
    for version in range(new, old, -1):
        try:
            nodes = _ask([question], old, version)[question]
        except Exception as error:
            reason = " ".join(str(error).split()).rpartition("Assertion ")[2] or type(error).__name__
            continue
        if version == new:
            return nodes
        raise CannotConvertError(question, version, reason)
    raise CannotConvertError(question, old, reason)


def _ask(questions: Sequence[Question], old: int, new: int) -> dict[Question, Nodes]:
    """All answers, or an exception if any is missing or wrong."""
    if not questions:
        return {}
    graph = GraphProto(name="questions")
    for number, question in enumerate(questions):
        part = question.parse()
        if any(attribute.HasField("g") for attribute in part.node[0].attribute):
            raise WrongAnswerError("it holds a subgraph")
        _rename(part, f"{number}.", "")
        graph.MergeFrom(part)
    opset = [helper.make_opsetid("", old)]
    converted = version_converter.convert_version(
        helper.make_model(graph, opset_imports=opset, ir_version=IR_VERSION), new
    )
    _constants_as_nodes(converted.graph)
    producer = {name: node for node in converted.graph.node for name in node.output if name}
    answers: dict[Question, Nodes] = {}
    for number, question in enumerate(questions):
        part = question.parse()
        wanted = [f"{number}.{output.name}" for output in part.output]
        nodes = _needed(converted.graph, producer, wanted)
        amend(part, nodes, f"{number}.", old, new)
        answers[question] = tuple(nodes)
    _check(converted, typed=all(question.typed for question in questions))
    for number, question in enumerate(questions):
        part = GraphProto(node=answers[question])
        _rename(part, "", f"{number}.")
        same = len(part.node) == 1 and _canonical(part.node[0]) == _canonical(question.parse().node[0])
        answers[question] = () if same else tuple(part.node)
    return answers


def _constants_as_nodes(graph: GraphProto) -> None:
    """Writes the initializers that the converter has added as Constant nodes, its usual way of adding constants."""
    added = [tensor for tensor in graph.initializer if "." not in tensor.name]
    nodes = [helper.make_node("Constant", [], [tensor.name], value=tensor) for tensor in added]
    nodes += graph.node
    del graph.node[:]
    graph.node.extend(nodes)


def _check(converted: ModelProto, *, typed: bool) -> None:
    """Raises where a node is not one of its opset, or types or shapes do not fit together."""
    context = checker.C.CheckerContext()
    context.ir_version = converted.ir_version
    context.opset_imports = {opset.domain: opset.version for opset in converted.opset_import}
    for node in converted.graph.node:
        checker.check_node(node, context)
    # unlike check_model, this admits inputs of unknown rank
    if typed:
        shape_inference.infer_shapes(converted, check_type=True, strict_mode=True)


def _needed(graph: GraphProto, producer: dict[str, NodeProto], names: Sequence[str]) -> list[NodeProto]:
    """The nodes that compute `names`, in the order of the graph."""
    waiting, found = list(names), set()
    while waiting:
        node = producer.get(waiting.pop())
        if node is not None and id(node) not in found:
            found.add(id(node))
            waiting += node.input
    if not all(name in producer for name in names):
        raise WrongAnswerError("an output is lost")
    return [node for node in graph.node if id(node) in found]


def _rename(graph: GraphProto, prefix: str, strip: str) -> None:
    """Puts `prefix` before every tensor name, or takes `strip` from those that have it."""

    def renamed(name: str) -> str:
        return prefix + name.removeprefix(strip) if name else name

    for node in graph.node:
        node.input[:], node.output[:] = map(renamed, [*node.input]), map(renamed, [*node.output])
    for info in [*graph.input, *graph.output, *graph.initializer]:
        info.name = renamed(info.name)


def _info(tensor: ir.Tensor, name: str) -> ValueInfoProto:
    """Type and shape of a tensor under another name."""
    type_proto = getattr(tensor, "type_proto", None)
    if type_proto is not None:
        return ValueInfoProto(name=name, type=type_proto)
    elem_type = helper.np_dtype_to_tensor_dtype(np.dtype(tensor.dtype if tensor.dtype is not None else np.float32))
    return helper.make_tensor_value_info(name, elem_type, tensor.shape)


def _canonical(node: NodeProto) -> tuple[object, ...]:
    """What tells one node from another: names, operator, attributes in any order."""
    attributes = sorted(attribute.SerializeToString(deterministic=True) for attribute in node.attribute)
    inputs = list(node.input)
    while inputs and not inputs[-1]:
        inputs.pop()
    return node.op_type, inputs, list(node.output), attributes
