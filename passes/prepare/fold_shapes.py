"""Gather(Shape(x), i) -> the number, where dimension i of x is known, though others are not; the same for whole shapes.

Values of shape arithmetic are followed element by element through Shape, Size, Gather, Slice, Squeeze, Unsqueeze,
Concat, Cast and Identity. A tensor all of whose elements are known becomes a constant. Only dimensions that follow from
the model's inputs count (`infer_shapes.infer`), not what the file states of inner tensors. Arithmetic on the constants
that come out is left to fold-constants. Source: ONNX operator standard, Shape.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from onnx import helper

from qcompiler import ir
from qcompiler.passes.prepare.infer_shapes import Shape, dims, infer
from qcompiler.pipeline import GraphPass, PassRecord

Partial = npt.NDArray[Any]
"""Values as Python integers, None where unknown."""
LONGEST = 64
"""Constants of more elements are not shape arithmetic."""


@dataclass(frozen=True)
class FoldShapes(GraphPass):
    """Replaces shape arithmetic whose result is known by constants."""

    name: ClassVar[str] = "fold-shapes"

    def apply(self, model: ir.Model, record: PassRecord) -> None:
        """Each tensor that becomes a constant is a change."""
        if not any(node.op in ("Shape", "Size") for node in model.all_nodes()):
            return
        shapes: dict[str, Shape | None] = {name: dims(type_proto) for name, type_proto in infer(model).items()}
        shapes |= {tensor.name: tensor.shape for tensor in [*model.inputs, *model.constants()]}
        known: dict[int, Partial] = {}
        for edit in ir.editors(model):
            for node in ir.topological(edit.graph):
                value = None if node.domain else _value(node, shapes, known)
                if value is not None:
                    known[id(node.outputs[0])] = value
        for edit in ir.editors(model):
            for node in [node for node in edit.graph.nodes if node.outputs and complete(known, node.outputs[0])]:
                output = node.outputs[0]
                if output.dtype is None:
                    continue
                readers = [use.node for use in edit.uses(output)]
                if any(reader is None or not all(complete(known, t) for t in reader.outputs) for reader in readers):
                    ir.freeze(edit, output, known[id(output)].astype(output.dtype))
                    edit.erase(node)
                    record.changes += 1


def complete(known: dict[int, Partial], tensor: ir.Tensor) -> bool:
    """Whether every element is known."""
    return id(tensor) in known and _all_known(known[id(tensor)])


def _all_known(values: Partial) -> bool:
    return all(element is not None for element in values.flat)


def _value(node: ir.Node, shapes: dict[str, Shape | None], known: dict[int, Partial]) -> Partial | None:
    """What is known of the first output of a node, None where nothing is."""
    attrs = node.attrs
    if node.op in ("Shape", "Size"):
        shape = shapes.get(node.inputs[0].name)
        if shape is None:
            return None
        numbers = [dim if isinstance(dim, int) else None for dim in shape]
        if node.op == "Shape":
            return _partial(numbers[attrs.get("start", 0) : attrs.get("end", None)])
        return _partial(None if None in numbers else prod(int(number or 0) for number in numbers))
    if node.op not in FOLLOWED or not any(id(tensor) in known for tensor in node.inputs):
        return None
    data = [known[id(t)] if id(t) in known else _constant(t) for t in node.inputs if t.name]
    try:
        return _follow(node, data)
    except (IndexError, ValueError, TypeError):  # an index out of range is the runtime's to report
        return None


FOLLOWED = {"Gather", "Slice", "Squeeze", "Unsqueeze", "Concat", "Cast", "Identity"}


def _follow(node: ir.Node, data: list[Partial | None]) -> Partial | None:
    first, attrs = data[0], node.attrs
    if first is None or (node.op == "Concat" and any(part is None for part in data)):
        return None
    if node.op == "Concat":
        return np.concatenate([part for part in data if part is not None], axis=attrs["axis"])
    if node.op == "Identity":
        return first
    if node.op == "Cast":
        return first if helper.tensor_dtype_to_np_dtype(attrs["to"]).kind in "iu" else None
    indices = [part.astype(np.int64) for part in data[1:] if part is not None and _all_known(part)]
    if len(indices) < len(data) - 1:
        return None
    match node.op:
        case "Gather" if indices:
            return _partial(np.take(first, indices[0], axis=attrs.get("axis", 0)))
        case "Slice" if len(indices) >= 2 and first.ndim == 1:
            step = int(indices[3][0]) if len(indices) > 3 else 1
            return first[slice(int(indices[0][0]), int(indices[1][0]), step)]
        case "Squeeze":
            return _partial(np.squeeze(first, axis=tuple(indices[0].tolist()) if indices else attrs.get("axes")))
        case "Unsqueeze" if indices or "axes" in attrs:
            return np.expand_dims(first, tuple(indices[0].tolist() if indices else attrs["axes"]))
    return None


def _partial(values: object) -> Partial:
    return np.array(values, dtype=object)


def _constant(tensor: ir.Tensor) -> Partial | None:
    """The value of a small integer constant."""
    if not isinstance(tensor, ir.Constant) or np.dtype(tensor.dtype).kind not in "iu":
        return None
    if prod(tensor.shape) > LONGEST:
        return None
    return ir.array(tensor).astype(object)
