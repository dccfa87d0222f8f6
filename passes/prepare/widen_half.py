"""A model in float16 or bfloat16 -> the same in float32 inside, with a Cast at each border.

    y = f(x; w), all float16        ->        y = half(f(float(x); float(w)))

Every number of float16 or bfloat16 is one of float32, so weights keep their values; what nodes compute is rounded
less. Rules of quantization speak of float32, and ONNX Runtime's CPU computes most of float16 by way of float32 anyway.
A Cast to the short type inside such a model becomes one to float32, since it stood there for the type. In a model whose
weights are float32 a Cast to float16 is meant to change values, and stays.

A node of a domain that is not known here may take the short type alone: it keeps it, between Casts. A model that holds
sequences or optionals, or an output of which such a node makes, stays as it is.
Source: ONNX operator standard, type constraints.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import ml_dtypes
import numpy as np
import numpy.typing as npt
from onnx import TensorProto

from qcompiler import ir
from qcompiler.pipeline import GraphPass, PassRecord

NOTE = "float16 model widened to float32 for quantization"
SHORT = {np.dtype(np.float16): int(TensorProto.FLOAT16), np.dtype(ml_dtypes.bfloat16): int(TensorProto.BFLOAT16)}
TYPE_ATTRIBUTES = ("to", "dtype", "output_dtype", "output_datatype", "precision", "softmax_precision")
"""Attributes that name the type of what a node computes."""
KNOWN = frozenset({"", "ai.onnx", "ai.onnx.ml", "com.microsoft"})
"""Domains whose operators take float32 wherever they take a shorter type."""


@dataclass(frozen=True)
class WidenHalf(GraphPass):
    """Widens a model most of whose floating-point weights are stored in a short type; types must be known."""

    name: ClassVar[str] = "widen-half"

    def apply(self, model: ir.Model, record: PassRecord) -> None:
        """Each weight, and each Cast at a border, is a change."""
        if not stored_short(model) or any(_nested(tensor) for tensor in _variables(model)):
            return
        short = {id(tensor): np.dtype(tensor.dtype) for tensor in _variables(model) if _short(tensor.dtype)}
        editors, ends = list(ir.editors(model)), {id(tensor) for tensor in [*model.inputs, *model.outputs]}
        constants = [constant for constant in model.constants() if _short(constant.dtype)]
        short.update((id(constant), np.dtype(constant.dtype)) for constant in constants)
        opaque = [(e, n) for e in editors for n in e.graph.nodes if (n.domain or "") not in KNOWN]
        if any(id(tensor) in ends & short.keys() for _, node in opaque for tensor in node.outputs):
            return
        asked = [(edit, node, [short.get(id(tensor)) for tensor in node.inputs]) for edit, node in opaque]
        for constant in constants:
            editors[0].recast(constant, _wide(constant))
            record.changes += 1
        for edit in editors:
            for node in edit.graph.nodes:
                if (node.domain or "") in KNOWN:
                    _widen_attributes(node)
            for tensor in [*edit.graph.inputs, *(output for node in edit.graph.nodes for output in node.outputs)]:
                if id(tensor) in short and id(tensor) not in ends:
                    edit.retype(tensor, np.float32, tensor.shape)
        for edit, node, types in asked:
            _fence(edit, node, types, short)
        record.changes += _borders(editors[0], model, short)
        record.notes.append(NOTE.replace("float16", "bfloat16" if _bfloat(short.values()) else "float16"))


def stored_short(model: ir.Model) -> bool:
    """Whether a short type is the one that most floating-point weights are stored in."""
    sizes = Counter[bool]()
    for constant in model.constants():
        if constant.dtype is not None and (_short(constant.dtype) or np.dtype(constant.dtype) == np.float32):
            sizes[_short(constant.dtype)] += int(np.prod(constant.shape or (1,)))
    return sizes[True] > sizes[False]


def _short(dtype: Any) -> bool:
    return dtype is not None and np.dtype(dtype) in SHORT


def _bfloat(types: Any) -> bool:
    return all(dtype != np.float16 for dtype in types)


def _variables(model: ir.Model) -> list[ir.Variable]:
    """Inputs of all graphs and outputs of all nodes."""
    found = [tensor for graph in model.graphs() for tensor in graph.inputs if isinstance(tensor, ir.Variable)]
    return found + [tensor for node in model.all_nodes() for tensor in node.outputs if tensor.name]


def _nested(tensor: ir.Variable) -> bool:
    """Whether a value is a sequence, optional or map: nothing here looks inside."""
    kind = getattr(tensor, "type_proto", None)
    return kind is not None and kind.WhichOneof("value") not in (None, "tensor_type")


def _wide(constant: ir.Constant) -> ir.Deferred:
    """The values in float32, read from where they lie each time."""
    source = constant._values
    return ir.Deferred(constant.shape, np.float32, partial(_read, source))


def _read(source: Any) -> npt.NDArray[Any]:
    return np.asarray(source.load() if hasattr(source, "load") else source).astype(np.float32)


def _widen_attributes(node: ir.Node) -> None:
    for key, value in list(node.attrs.items()):
        if isinstance(value, ir.Constant) and _short(value.dtype):
            node.attrs[key] = ir.Constant(value.name, ir.array(value).astype(np.float32))
        elif key in TYPE_ATTRIBUTES and isinstance(value, int) and value in SHORT.values():
            node.attrs[key] = int(TensorProto.FLOAT)


def _fence(edit: ir.Editor, node: ir.Node, types: list[Any], short: dict[int, Any]) -> None:
    """Casts around a node that keeps its types."""
    for port, dtype in enumerate(types):
        if dtype is not None:
            edit.set_input(node, port, _cast(edit, node.inputs[port], dtype, node))
    for tensor in list(node.outputs):
        if id(tensor) in short and not edit.is_output(tensor):
            edit.retype(tensor, short[id(tensor)], tensor.shape)
            widened = edit.add("Cast", [tensor], name=f"{tensor.name}_wide", attrs={"to": int(TensorProto.FLOAT)})
            edit.retype(widened.outputs[0], np.float32, tensor.shape)
            edit.replace_uses(tensor, widened.outputs[0], keep=[widened])


def _cast(edit: ir.Editor, tensor: ir.Tensor, dtype: Any, before: ir.Node | None = None) -> ir.Tensor:
    to = SHORT.get(np.dtype(dtype), int(TensorProto.FLOAT))
    node = edit.add("Cast", [tensor], name=f"{tensor.name}_cast", attrs={"to": to}, before=before)
    edit.retype(node.outputs[0], dtype, tensor.shape)
    return node.outputs[0]


def _borders(edit: ir.Editor, model: ir.Model, short: dict[int, Any]) -> int:
    """A Cast behind each input and before each output that has a short type; how many."""
    count = 0
    for tensor in model.inputs:
        if id(tensor) in short and edit.uses(tensor):
            wide = _cast(edit, tensor, np.float32)
            edit.replace_uses(tensor, wide, keep=list(wide.inputs))
            count += 1
    inputs = set(map(id, model.inputs))
    for tensor in model.outputs:
        if id(tensor) not in short or id(tensor) in inputs or not tensor.inputs:
            continue
        inner = edit.variable(f"{tensor.name}_wide", np.float32, tensor.shape)
        producer = tensor.inputs[0]
        edit.set_outputs(producer, [inner if output is tensor else output for output in producer.outputs])
        for node, port in edit.uses(tensor):
            if node is not None:
                edit.set_input(node, port, inner)
        to = SHORT[short[id(tensor)]]
        edit.add("Cast", [inner], name=f"{tensor.name}_cast", attrs={"to": to}, outputs=[tensor])
        count += 1
    return count
