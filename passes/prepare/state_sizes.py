"""Open sizes of inputs that the graph itself tells: a cache is as wide as the keys and values that are joined to it.

    Concat(input, x, axis)                        the input has the sizes of x, but along the axis
    GroupQueryAttention, MultiHeadAttention       past (batch, heads, past, width): heads and width of the new ones

The builder of onnxruntime-genai leaves the width of a head a name; a past of no tokens cannot be made from that.
Source: ONNX Runtime, ContribOperators.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from qcompiler import ir
from qcompiler.passes.prepare.infer_shapes import InferShapes
from qcompiler.passes.prepare.override_shapes import OverrideShapes
from qcompiler.pipeline import GraphPass, PassRecord

PAST = {"GroupQueryAttention": 3, "MultiHeadAttention": 6}
"""Where attention reads past keys; past values are next to them."""
Told = tuple[ir.Tensor, tuple[int, ...]]


@dataclass(frozen=True)
class StateSizes(GraphPass):
    """Fixes sizes of inputs that have one possible value."""

    name: ClassVar[str] = "state-sizes"

    def apply(self, model: ir.Model, record: PassRecord) -> None:
        """Counts the inputs that changed."""
        if not any(_open(tensor) for tensor, _ in _told(model)):
            return
        InferShapes(notes=False).apply(model, PassRecord(record.name))
        shapes = {tensor.name: sizes for tensor, sizes in _told(model) if _open(tensor) and any(sizes)}
        OverrideShapes(tuple(shapes.items())).apply(model, record)


def _open(tensor: ir.Tensor) -> bool:
    return any(not isinstance(size, int) for size in tensor.shape or ())


def _told(model: ir.Model) -> Iterator[Told]:
    """Inputs of the model and what nodes tell of their sizes, 0 for nothing that is new."""
    inputs = {tensor.name for tensor in model.inputs if tensor.shape}
    for node in model.nodes:
        for tensor, sizes in _joined(node) if node.op == "Concat" else _attended(node):
            if tensor.name in inputs and len(tensor.shape or ()) == len(sizes):
                old = tensor.shape or ()
                yield tensor, tuple(0 if isinstance(o, int) else new for o, new in zip(old, sizes, strict=True))


def _joined(node: ir.Node) -> Iterator[Told]:
    axis = int(node.attrs.get("axis", 0))
    for tensor in node.inputs:
        for other in node.inputs:
            if other is not tensor and other.shape:
                sizes = [size if isinstance(size, int) else 0 for size in other.shape]
                if -len(sizes) <= axis < len(sizes):
                    sizes[axis] = 0
                    yield tensor, tuple(sizes)


def _attended(node: ir.Node) -> Iterator[Told]:
    first = PAST.get(node.op)
    if first is None or len(node.inputs) < first + 2:
        return
    heads = int(node.attrs.get("num_heads", 1))
    stored = int(node.attrs.get("kv_num_heads", heads))
    packed = not (node.inputs[1].name and node.inputs[2].name)
    for place, tensor in enumerate(node.inputs[first : first + 2], 1):
        source = node.inputs[0] if packed else node.inputs[place]
        last = source.shape[-1] if source.shape and len(source.shape) == 3 else None
        width = last // (heads + 2 * stored if packed else stored) if isinstance(last, int) else 0
        yield tensor, (0, stored, 0, width)
