"""Types and shapes of all tensors, by ONNX shape inference with data propagation, weights left out.

First the shapes that follow from the graph's inputs alone are found, whatever the file says of inner tensors; these
are facts (`infer`). They fill what is unknown and correct what the file states otherwise. Where they end, behind an
operator that inference does not know, a second run starts from what the file states. The rest stays unknown.
ONNX Runtime's own operators take part as standard ones (`operators_of_others`).
Source: ONNX shape inference (onnx.shape_inference.infer_shapes).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from onnx import GraphProto, ModelProto, TypeProto, helper, shape_inference

from qcompiler import ir
from qcompiler.passes.prepare.operators_of_others import stand_in
from qcompiler.pipeline import GraphPass, PassRecord, some

Shape = list[int | str | None]
SHOWN = 3
LONGEST_JOINED, LONGEST_VALUE = 1 << 14, 1 << 20
"""Elements of vectors whose values are propagated: of results of Concat, which copies them often, and of all others."""


@dataclass(frozen=True)
class InferShapes(GraphPass):
    """Writes the dtype and shape of every tensor as far as they can be found.

    Attributes:
        notes: say which tensors stay without a type, and where the file was wrong.
    """

    name: ClassVar[str] = "infer-shapes"
    notes: bool = True

    def apply(self, model: ir.Model, record: PassRecord) -> None:
        """Counts the tensors whose type or shape became better known."""
        notes = refine(model, record)
        if self.notes:
            record.notes += notes


def refine(model: ir.Model, record: PassRecord) -> list[str]:
    """Runs inference and writes what it finds; what a reader should know of it."""
    wrong: list[str] = []
    record.changes += _merge(model, infer(model), wrong)
    if any(tensor.dtype is None or not _static(tensor.shape) for tensor in computed(model)):
        record.changes += _merge(model, infer(model, stated=True), [])
    unknown = [tensor for tensor in computed(model) if tensor.dtype is None and tensor.type_proto is None]
    notes = [f"the file states a shape that the graph contradicts for {some(wrong, SHOWN)}"] if wrong else []
    if unknown:
        notes.append(f"type unknown for {some([f'{t.name!r} (output of {t.inputs[0].op})' for t in unknown], SHOWN)}")
    return notes


def infer(model: ir.Model, *, stated: bool = False) -> dict[str, TypeProto]:
    """The types of computed tensors by name, in all scopes; empty where inference fails as a whole.

    Dimensions that have no name in the model are unknown: names that inference makes up are left out.

    Args:
        model: names must be unique in all scopes.
        stated: believe what the model says of inner tensors; otherwise only its inputs and operators.
    """
    proto = ir.skeleton(model)
    if not stated:
        _forget(proto.graph)
    stand_in(proto.graph)
    known = {dim for tensor in model.graph.inputs for dim in tensor.shape or () if isinstance(dim, str)}
    if stated:
        known |= {d for t in computed(model) for d in t.shape or () if isinstance(d, str)}
    found: dict[str, TypeProto] = {}
    _collect(run_inference(proto), found)
    for type_proto in found.values():
        for dim in type_proto.tensor_type.shape.dim:
            if dim.HasField("dim_param") and dim.dim_param not in known:
                dim.ClearField("dim_param")
    return found


def dims(type_proto: TypeProto | None) -> Shape | None:
    """The shape of a tensor type, None where its rank is unknown."""
    if type_proto is None or not type_proto.tensor_type.HasField("shape"):
        return None
    return [
        int(d.dim_value) if d.HasField("dim_value") and d.dim_value >= 0 else (d.dim_param or None)
        for d in type_proto.tensor_type.shape.dim
    ]


def computed(model: ir.Model) -> list[ir.Variable]:
    """The outputs of all nodes in all graphs."""
    return [tensor for node in model.all_nodes() for tensor in node.outputs if tensor.name]


def _static(shape: Shape | None) -> bool:
    return shape is not None and all(isinstance(dim, int) for dim in shape)


def run_inference(proto: ModelProto) -> GraphProto:
    """The graph with all types that ONNX shape inference finds; an empty one where it fails as a whole.

    Values are propagated, but not where a vector is long: inference holds it as one object per element, known or not.
    """
    graph = GraphProto()
    for data_prop in (False, True):
        try:
            graph = shape_inference.infer_shapes(proto, data_prop=data_prop).graph
        except Exception:  # inference raises whatever its C++ code meets
            break
        if _holds_long_vector(graph):
            break
    return graph


def _holds_long_vector(graph: GraphProto) -> bool:
    """Whether a vector in a graph, or in one inside it, is too long for its values to be propagated."""
    joined = {output for node in graph.node if node.op_type == "Concat" for output in node.output}
    for info in (*graph.input, *graph.value_info, *graph.output):
        match dims(info.type):
            case [int(size)] if size > (LONGEST_JOINED if info.name in joined else LONGEST_VALUE):
                return True
    return any(map(_holds_long_vector, _subgraphs(graph)))


def _forget(graph: GraphProto) -> None:
    """Removes what the file says of inner tensors and the shapes it says outputs, and inputs of subgraphs, have."""
    del graph.value_info[:]
    subgraphs = _subgraphs(graph)
    for info in [*graph.output, *(info for subgraph in subgraphs for info in subgraph.input)]:
        if info.type.HasField("tensor_type"):
            info.type.tensor_type.ClearField("shape")
    for subgraph in subgraphs:
        _forget(subgraph)


def _collect(graph: GraphProto, found: dict[str, TypeProto]) -> None:
    for info in [*graph.value_info, *graph.output]:
        if info.type.WhichOneof("value"):
            found[info.name] = info.type
    for subgraph in _subgraphs(graph):
        _collect(subgraph, found)


def _subgraphs(graph: GraphProto) -> list[GraphProto]:
    attributes = [attribute for node in graph.node for attribute in node.attribute]
    return [g for a in attributes for g in ([a.g] if a.HasField("g") else [*a.graphs])]


def _merge(model: ir.Model, found: dict[str, TypeProto], wrong: list[str]) -> int:
    """Writes types into the model; the number of tensors that changed. `wrong` gets those whose shape was corrected."""
    symbols = {dim for tensor in model.graph.inputs for dim in tensor.shape or () if isinstance(dim, str)}
    changes = 0
    for edit in ir.editors(model):
        for tensor in [tensor for node in edit.graph.nodes for tensor in node.outputs]:
            type_proto = found.get(tensor.name)
            if type_proto is None or tensor.type_proto is not None:
                continue
            if not type_proto.HasField("tensor_type"):
                if tensor.dtype is None:
                    tensor.type_proto = type_proto
                    changes += 1
                continue
            elem_type = type_proto.tensor_type.elem_type
            dtype = tensor.dtype
            if dtype is None and elem_type:
                dtype = helper.tensor_dtype_to_np_dtype(elem_type)
            before = tensor.shape
            shape, corrected = _better(before, dims(type_proto), symbols)
            if corrected:
                wrong.append(repr(tensor.name))
            if shape != before or (dtype is None) != (tensor.dtype is None):
                edit.retype(tensor, None if dtype is None else np.dtype(dtype), shape)
                changes += 1
    return changes


def _better(old: Shape | None, new: Shape | None, symbols: set[str]) -> tuple[Shape | None, bool]:
    """Both shapes together, and whether the old one was wrong.

    Dimension by dimension a number beats a name, a name beats nothing, and the new value beats an old one of its kind
    that it contradicts: another number, or a number where the new value is a dimension of the model's inputs.
    """
    if new is None or (old is not None and len(old) == len(new) and old == new):
        return old, False
    if old is None:
        return list(new), False
    if len(old) != len(new):
        return list(new), True
    merged: Shape = []
    corrected = False
    for was, now in zip(old, new, strict=True):
        contradicts = isinstance(was, int) and (isinstance(now, int) or now in symbols) and now != was
        corrected |= contradicts
        merged.append(now if contradicts or isinstance(now, int) or was is None else was)
    return merged, corrected
