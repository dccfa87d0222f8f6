"""A model as text, one line a node: for people, for `--dump-passes`, and for comparing two of them with diff.

    model opset 21, com.microsoft 1
    graph main
      input x: float32[N, 3, 32, 32]
      const w: float32[16, 3, 3, 3] = -0.41 .. 0.52
      y: float32[N, 16, 30, 30] = Conv(x, w) {strides=[1, 1]}  # conv1
      output y

The same model gives the same text.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs
from onnx import AttributeProto, TensorProto, TypeProto

from qcompiler.ir.exporter import declared
from qcompiler.ir.model import Model
from qcompiler.ir.weights import array, element_type, is_external, nbytes

# Constants with more values are told by their range; lists and strings in attributes are cut at these lengths.
FEW = 8
LIST = 16
STRING = 64

# Larger constants are not read, so that a dump of a large model stays cheap.
READ_LIMIT = 1 << 26


def to_text(model: Model) -> str:
    """A listing of the whole model, subgraphs indented under their node; ends with a newline."""
    opsets = ", ".join(f"{o.domain or 'opset'} {o.version}" for o in model.header.opset_import)
    return "\n".join([f"model {opsets}", *_graph(model.graph, "", frozenset())]) + "\n"


def _graph(graph: gs.Graph, indent: str, outer: frozenset[int]) -> Iterator[str]:
    own = declared(graph, outer)
    inner = outer | frozenset(map(id, own))
    yield f"{indent}graph {graph.name}"
    indent += "  "
    for tensor in graph.inputs:
        yield f"{indent}input {_typed(tensor)}"
    for constant in own:
        yield f"{indent}const {_typed(constant)} = {values_text(constant)}"
    for node in graph.nodes:
        yield f"{indent}{_node(node)}"
        for name, value in node.attrs.items():
            if isinstance(value, gs.Graph):
                yield f"{indent}  {name}:"
                yield from _graph(value, indent + "  ", inner)
    yield f"{indent}output {', '.join(tensor.name for tensor in graph.outputs)}"


def _node(node: gs.Node) -> str:
    outputs = ", ".join(_typed(tensor) for tensor in node.outputs) or "()"
    inputs = ", ".join(tensor.name or "_" for tensor in node.inputs)
    while inputs.endswith(", _"):
        inputs = inputs[:-3]
    op = f"{node.domain}.{node.op}" if node.domain else node.op
    attrs = ", ".join(f"{n}={_attr(v)}" for n, v in sorted(node.attrs.items()) if not isinstance(v, gs.Graph))
    call = f"{outputs} = {op}({inputs})" + (f" {{{attrs}}}" if attrs else "")
    return f"{call}  # {node.name}" if node.name else call


def _typed(tensor: gs.Tensor) -> str:
    if not tensor.name:
        return "_"
    kind = type_text(tensor)
    return f"{tensor.name}: {kind}" if kind else tensor.name


def type_text(tensor: gs.Tensor) -> str:
    """Type and shape, such as `float32[N, 3, ?]`; "" where nothing is known."""
    if getattr(tensor, "type_proto", None) is not None:
        return _other_type(tensor.type_proto)
    if tensor.dtype is None and tensor.shape is None:
        return ""
    dtype = "?" if tensor.dtype is None else _dtype(np.dtype(tensor.dtype))
    return dtype + ("" if tensor.shape is None else f"[{', '.join(_size(d) for d in tensor.shape)}]")


def _size(size: object) -> str:
    return "?" if size is None else str(size)


def _dtype(dtype: np.dtype[Any]) -> str:
    return "string" if dtype.kind == "O" else dtype.name


def _other_type(proto: TypeProto) -> str:
    kind = proto.WhichOneof("value")
    if kind in ("sequence_type", "optional_type"):
        return f"{kind.removesuffix('_type')}({_other_type(getattr(proto, kind).elem_type)})"
    if kind == "map_type":
        key = TensorProto.DataType.Name(proto.map_type.key_type).lower()
        return f"map({key}, {_other_type(proto.map_type.value_type)})"
    if kind in ("tensor_type", "sparse_tensor_type"):
        inner = getattr(proto, kind)
        name = TensorProto.DataType.Name(inner.elem_type).lower()
        dims = [d.dim_param or (str(d.dim_value) if d.HasField("dim_value") else "?") for d in inner.shape.dim]
        shape = f"[{', '.join(dims)}]" if inner.HasField("shape") else ""
        return f"{'sparse ' if kind == 'sparse_tensor_type' else ''}{name}{shape}"
    return kind or "?"


def values_text(constant: gs.Constant) -> str:
    """The values where they are few, else their range; large ones on disk are not read."""
    if nbytes(constant) > READ_LIMIT or (is_external(constant) and nbytes(constant) > READ_LIMIT >> 6):
        return f"{nbytes(constant)} bytes"
    values = array(constant)
    if element_type(constant) == TensorProto.STRING:
        return _list([_text(s.decode("utf-8", "replace") if isinstance(s, bytes) else s) for s in values.ravel()])
    if values.size == 0:
        return "empty"
    if values.dtype.kind not in "biufc":  # the small floats and integers of ml_dtypes
        values = values.astype(np.float32)
    if values.size <= FEW:
        found = [_number(v) for v in values.ravel().tolist()]
        return found[0] if values.ndim == 0 else _list(found)
    if values.dtype.kind == "c":
        return f"{values.size} values"
    low, high = values.min(), values.max()
    if low == high:
        return f"all {_number(low.item())}"
    return f"{_number(low.item())} .. {_number(high.item())}"


def _number(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _text(value: str) -> str:
    return repr(value if len(value) <= STRING else value[:STRING] + "...")


def _list(parts: Sequence[str]) -> str:
    shown = [*parts[:LIST], f"... {len(parts)} in all"] if len(parts) > LIST else parts
    return f"[{', '.join(shown)}]"


def _attr(value: Any) -> str:
    if isinstance(value, gs.Constant):
        return f"{type_text(value)} {values_text(value)}"
    if isinstance(value, AttributeProto):
        return str(AttributeProto.AttributeType.Name(value.type)).lower()
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, list | tuple):
        return _list([_attr(item) for item in value])
    return _number(value)
