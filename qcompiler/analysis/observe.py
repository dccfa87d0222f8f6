"""Makes intermediate tensors visible: as further outputs of the model, nothing else changed.

A tensor inside a branch of `If` is carried out by a new output of that branch and of the `If`; the other branch gives
an empty tensor in its place, so a sample that does not take the branch adds nothing. Nested `If`s are passed one by
one. Tensors inside the bodies of Loop, Scan and SequenceMap have one value per turn, cannot be carried out, and are
refused.

Optimisers keep a tensor that is an output and may fuse away one that is not, which changes the last bits of its
neighbours. So when a model is observed in several groups, the tensors of the other groups are kept alive as
*witnesses*: the model gives their first value only. Then every group sees the same numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np

from qcompiler import ir
from qcompiler.analysis.payload import Payload

if TYPE_CHECKING:
    from onnx import GraphProto, NodeProto

Show = Literal["value", "shape"]
_Probe = Literal["Shape", "First"]


@dataclass(frozen=True, eq=False)
class Observed:
    """A model with further outputs.

    Attributes:
        payload: the model.
        outputs: for each tensor that can be observed, in topological order, the output that carries it. Inputs of the
            model stand for themselves and are no outputs.
        refused: for each other tensor, why not.
    """

    payload: Payload
    outputs: Mapping[str, str]
    refused: Mapping[str, str]


@dataclass(frozen=True, eq=False)
class _Place:
    """Where a tensor is made: the `If` branches around it, outermost first, or why it cannot be seen."""

    index: int
    branches: tuple[tuple[NodeProto, str], ...] = ()
    refusal: str = ""
    elem_type: int = 0


@dataclass(eq=False)
class _Names:
    taken: set[str] = field(default_factory=set)

    def fresh(self, hint: str) -> str:
        name, number = hint, 0
        while name in self.taken:
            number += 1
            name = f"{hint}_{number}"
        self.taken.add(name)
        return name


def observed(
    model: ir.Model, tensors: Iterable[str], *, witnesses: Iterable[str] = (), show: Show = "value"
) -> Observed:
    """The model with `tensors` among its outputs.

    Args:
        model: left alone.
        tensors: names; those of inputs and outputs of the model are allowed.
        witnesses: names of tensors to keep alive without giving their values.
        show: "shape" gives the shape of each tensor (int64 vector) in place of its values.
    """
    payload = Payload.of(model, apart=True)
    proto = payload.proto()
    places, names = _places(proto.graph), _Names(model.names())
    inputs, constants = {info.name for info in proto.graph.input}, _constants(model)
    wanted = dict.fromkeys(tensors)
    others = [name for name in dict.fromkeys(witnesses) if name not in wanted]
    found: dict[str, str] = {}
    refused: dict[str, str] = {}
    for name in sorted([*wanted, *others], key=lambda name: _index(name, places)):
        if not (why := _refusal(name, places, inputs, constants)):
            found[name] = _carried(name, places[name], names) if name in places else name
        elif name in wanted:
            refused[name] = why
    visible = {info.name for info in proto.graph.output} | inputs
    for name, value in found.items():
        if name in others or show == "shape":
            op: _Probe = "Shape" if name in wanted else "First"
            found[name] = value = _probe(proto.graph, value, op, names)
        if value not in visible:
            visible.add(value)
            proto.graph.output.add(name=value)
    return Observed(payload.with_proto(proto), {name: found[name] for name in found if name in wanted}, refused)


def observable(model: ir.Model, tensors: Iterable[str]) -> tuple[tuple[str, ...], dict[str, str]]:
    """Which tensors can be observed, in topological order, and why the others cannot."""
    graph = ir.skeleton(model).graph
    places = _places(graph)
    constants, inputs = _constants(model), {info.name for info in graph.input}
    refused = {name: why for name in tensors if (why := _refusal(name, places, inputs, constants))}
    wanted = [name for name in dict.fromkeys(tensors) if name not in refused]
    return tuple(sorted(wanted, key=lambda name: _index(name, places))), refused


def refusals(model: ir.Model, tensors: Iterable[str]) -> dict[str, str]:
    """The tensors that cannot be observed, each with the reason."""
    return observable(model, tensors)[1]


def _constants(model: ir.Model) -> set[str]:
    return {constant.name for constant in model.constants()}


def _index(name: str, places: Mapping[str, _Place]) -> int:
    return places[name].index if name in places else -1


def _refusal(name: str, places: Mapping[str, _Place], inputs: set[str], constants: set[str]) -> str:
    """Why a tensor cannot be observed, "" if it can."""
    if name in constants:
        return "it is a constant"
    if name in places:
        return places[name].refusal
    return "" if name in inputs else "the model has no such tensor"


def order(model: ir.Model) -> dict[str, int]:
    """Position of every tensor: inputs first, then as the nodes compute them, branches where their `If` stands."""
    found: dict[str, int] = {}

    def visit(graph: ir.Graph) -> None:
        for tensor in graph.inputs:
            found.setdefault(tensor.name, len(found))
        for node in graph.nodes:
            for subgraph in node.subgraphs():
                visit(subgraph)
            for tensor in node.outputs:
                found.setdefault(tensor.name, len(found))

    visit(model.graph)
    return found


def _places(graph: GraphProto) -> dict[str, _Place]:
    """Where each tensor that a node makes lies."""
    from onnx import AttributeProto

    found: dict[str, _Place] = {}

    def visit(graph: GraphProto, branches: tuple[tuple[NodeProto, str], ...], refusal: str) -> None:
        infos = {info.name: info.type for info in [*graph.value_info, *graph.output]}
        types = {name: info.tensor_type.elem_type for name, info in infos.items()}
        others = {name for name, info in infos.items() if info.WhichOneof("value") not in (None, "tensor_type")}
        for node in graph.node:
            for attribute in node.attribute:
                if attribute.type == AttributeProto.GRAPH:
                    inside = refusal
                    if node.op_type != "If" and not refusal:
                        inside = f"it is inside the body of {node.op_type} node {node.name!r}"
                    visit(attribute.g, (*branches, (node, attribute.name)), inside)
            for name in filter(None, node.output):
                why = refusal or ("it is not a tensor" if name in others else "")
                if branches and not types.get(name) and not why:
                    why = "it is inside a branch and its type is unknown"
                found[name] = _Place(len(found), branches, why, types.get(name, 0))

    visit(graph, (), "")
    return found


def _carried(name: str, place: _Place, names: _Names) -> str:
    """Carries a tensor out to the main graph; gives its name there."""
    from onnx import AttributeProto, helper, numpy_helper

    value = name
    for node, branch in reversed(place.branches):
        for attribute in node.attribute:
            if attribute.type != AttributeProto.GRAPH:
                continue
            carried = names.fresh(f"{name}/{attribute.name}")
            if attribute.name == branch:
                made = helper.make_node("Identity", [value], [carried], name=names.fresh(f"{name}/carry"))
            else:
                empty = numpy_helper.from_array(np.zeros(0, helper.tensor_dtype_to_np_dtype(place.elem_type)))
                made = helper.make_node("Constant", [], [carried], name=names.fresh(f"{name}/absent"), value=empty)
            attribute.g.node.append(made)
            attribute.g.output.add(name=carried).type.tensor_type.elem_type = place.elem_type
        value = names.fresh(f"{name}/observed")
        node.output.append(value)
    return value


def _probe(graph: GraphProto, value: str, op: _Probe, names: _Names) -> str:
    """A node that gives the shape, or nodes that give the first number, of a tensor of the main graph."""
    from onnx import helper, numpy_helper

    result = names.fresh(f"{value}/{op.lower()}")
    if op == "Shape":
        graph.node.append(helper.make_node("Shape", [value], [result], name=names.fresh(result)))
        return result
    numbers: dict[str, Sequence[int]] = {"flat": [-1], "begin": [0], "end": [1]}
    made = {key: names.fresh(f"{value}/{key}") for key in numbers}
    graph.initializer.extend(
        numpy_helper.from_array(np.array(number, np.int64), made[key]) for key, number in numbers.items()
    )
    vector = names.fresh(f"{value}/vector")
    graph.node.append(helper.make_node("Reshape", [value, made["flat"]], [vector], name=names.fresh(vector)))
    cut = [vector, made["begin"], made["end"]]
    graph.node.append(helper.make_node("Slice", cut, [result], name=names.fresh(result)))
    return result
