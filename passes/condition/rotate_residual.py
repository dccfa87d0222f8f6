"""The stream of residuals of a transformer, rotated: x' = x Q, folded into the weights around it.

    x = Gather(T, ids)             T' = T Q                  what is added to the stream
    x = y W + b                    W' = W Q, b' = b Q
    x + x, x r, x / r              as they are               r: one number for each row
    mean(x^2)                      as it is                  |x Q| = |x|
    x gamma, RMSNorm(x, gamma)     without gamma             which goes into the layers that read it
    x W                            W' = Q^T diag(gamma) W    what reads the stream

No node is added, and the function stays up to rounding. Q mixes all channels, so that no channel and no weight is far
larger than others (`numerics/rotation`). A stream is taken whole or not at all: what reads or makes it in another way
forbids it, as LayerNormalization does, which subtracts the mean, and an output of the model. A table that is an output
layer, too, becomes two, since only one of both takes gamma.

Source: Ashkboos et al., "QuaRot: Outlier-Free 4-Bit Inference in Rotated LLMs", 2024, section 4.1.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from qcompiler import ir
from qcompiler.numerics.rotation import rotation
from qcompiler.pipeline import GraphPass, PassRecord
from qcompiler.rewrite import Refusal

F64 = npt.NDArray[np.float64]
NORMS = ("RMSNormalization", "SimplifiedLayerNormalization", "SkipSimplifiedLayerNormalization")
SKIP = "SkipSimplifiedLayerNormalization"
SUM = 3


@dataclass(frozen=True)
class RotateResidual(GraphPass):
    """Rotates each stream of residuals that begins at a table."""

    name: ClassVar[str] = "rotate-residual"

    def apply(self, model: ir.Model, record: PassRecord) -> None:
        """Each weight that is changed is a change; a stream that cannot be rotated is refused with the reason."""
        edit = ir.Editor(model, model.graph)
        if model.is_large:
            record.refusals.append(Refusal(self.name, "", "the weights are not all held in memory"))
            return
        known: set[int] = set()
        for table in [node for node in model.nodes if _is_table(node)]:
            start = table.outputs[0]
            if id(start) in known:
                continue
            stream = Stream(edit, width=int(table.inputs[0].shape[1]))
            reason = stream.grow(start)
            known.update(map(id, stream.tensors.values()))
            if reason is None and not stream.readers:
                continue
            if reason is not None:
                record.refusals.append(Refusal(self.name, table.name, reason))
                continue
            record.changes += stream.rotate(rotation(stream.width))
            record.notes.append(f"{len(stream.tensors)} values of {stream.width} channels were rotated")
        if record.refusals and not record.changes:
            record.notes.append(f"nothing was rotated: {record.refusals[0].reason}")


def _is_table(node: ir.Node) -> bool:
    if node.op != "Gather" or node.domain or int(node.attrs.get("axis", 0)) != 0:
        return False
    table = node.inputs[0]
    return isinstance(table, ir.Constant) and np.dtype(table.dtype).kind == "f" and len(table.shape) == 2


@dataclass(eq=False)
class Stream:
    """The values that one rotation turns.

    Attributes:
        edit: of the graph.
        width: channels.
        tensors: the values, by name.
        makers: what adds to the stream from outside: node, port of the weight, axis of the weight that is rotated.
        readers: layers that read it: node, axis of the weight that is summed over, and factors of the channels.
        gains: products of the stream and one factor a channel, and norms: node, port of the factors.
    """

    edit: ir.Editor
    width: int
    tensors: dict[str, ir.Tensor] = field(default_factory=dict)
    makers: dict[tuple[str, int], tuple[ir.Node, int, int]] = field(default_factory=dict)
    readers: dict[str, tuple[ir.Node, int, F64]] = field(default_factory=dict)
    gains: dict[str, tuple[ir.Node, int]] = field(default_factory=dict)

    def grow(self, start: ir.Tensor) -> str | None:
        """Finds the stream that a value belongs to; or why it cannot be rotated."""
        todo = [start]
        while todo:
            tensor = todo.pop()
            if tensor.name in self.tensors:
                continue
            self.tensors[tensor.name] = tensor
            if not tensor.inputs or self.edit.is_output(tensor):
                return f"{tensor.name!r} is an input or output of the model"
            for step in (self._maker(tensor, tensor.inputs[0]), *self._uses(tensor)):
                if isinstance(step, str):
                    return step
                todo += step
        clash = [name for name in self.scaled() if name in self.tensors]
        return f"{clash[0]!r} has factors for each channel and is added to the stream" if clash else None

    def scaled(self) -> Iterator[str]:
        """The values that are the stream times factors of its channels."""
        return (node.outputs[0].name for node, _ in self.gains.values())

    def _maker(self, tensor: ir.Tensor, node: ir.Node) -> list[ir.Tensor] | str:
        """Values that belong to the stream, too, by what makes one of it."""
        match node.op:
            case "Gather" if _is_table(node):
                self.makers[node.name, 0] = (node, 0, 1)
                return []
            case "MatMul" | "Gemm" if _is_layer(node):
                self.makers[node.name, 1] = (node, 1, 1 - _summed(node))
                if len(node.inputs) > 2 and node.inputs[2].name:
                    if not isinstance(node.inputs[2], ir.Constant):
                        return f"the bias of {node.name!r} is no constant"
                    self.makers[node.name, 2] = (node, 2, -1)
                return []
            case "Add":
                found = []
                for port, other in enumerate(node.inputs):
                    if isinstance(other, ir.Constant):
                        if list(other.shape) != [self.width]:
                            return f"Add {node.name!r} adds a constant of shape {list(other.shape)}"
                        self.makers[node.name, port] = (node, port, -1)
                    else:
                        found.append(other)
                return found
            case "Mul" | "Div" if (value := self._times_rows(node)) is not None:
                return [value]
            case op if op == SKIP and len(node.outputs) > SUM and node.outputs[SUM] is tensor:
                return list(node.inputs[:2])
        return f"{node.op} {node.name!r} makes {tensor.name!r} in a way that no rotation goes through"

    def _uses(self, tensor: ir.Tensor) -> Iterator[list[ir.Tensor] | str]:
        for use in self.edit.uses(tensor):
            if use.node is not None and use.node.op != "Shape":
                yield self._reader(tensor, use.node, use.port)

    def _reader(self, tensor: ir.Tensor, node: ir.Node, port: int) -> list[ir.Tensor] | str:
        """Values that belong to the stream, too, by what reads one of it."""
        if node.op in ("MatMul", "Gemm") and port == 0 and _is_layer(node):
            self.readers[node.name] = (node, _summed(node), np.ones(self.width))
            return []
        if node.op == "Add" or (node.op in ("Mul", "Div") and self._times_rows(node) is tensor):
            return [node.outputs[0]]
        if self._is_square(node) and all(self._is_mean(use.node) for use in self.edit.uses(node.outputs[0])):
            return []
        factors = self._factors(node, port)
        if factors is None:
            return f"{node.op} {node.name!r} reads {tensor.name!r} and does not commute with a rotation"
        self.gains[node.name] = (node, factors)
        values = np.asarray(ir.array(node.inputs[factors]), np.float64).reshape(-1)
        for use in self.edit.uses(node.outputs[0]):
            layer = use.node
            if layer is not None and layer.op == "Shape":
                continue
            if layer is None or use.port != 0 or layer.op not in ("MatMul", "Gemm") or not _is_layer(layer):
                reader = "an output of the model" if layer is None else f"{layer.op} {layer.name!r}"
                return f"{node.outputs[0].name!r}, behind a norm, is read by {reader}, which is no layer"
            self.readers[layer.name] = (layer, _summed(layer), values)
        return [*node.inputs[:2], *node.outputs[SUM:]] if node.op == SKIP else []

    def _factors(self, node: ir.Node, port: int) -> int | None:
        """The port of the factors of a product or a norm that reads the stream."""
        if node.op == "Mul" and isinstance(node.inputs[1 - port], ir.Constant):
            at = 1 - port
        elif node.op in NORMS and port < 1 + (node.op == SKIP):
            at = 1 + (node.op == SKIP)
            if any(t.name for t in node.inputs[at + 1 :]) or any(t.name for t in node.outputs[1:SUM]):
                return None
            axis = int(node.attrs.get("axis", -1))
            if axis not in (-1, len(node.inputs[0].shape or []) - 1):
                return None
        else:
            return None
        factors = node.inputs[at]
        return at if isinstance(factors, ir.Constant) and list(factors.shape) == [self.width] else None

    def _times_rows(self, node: ir.Node) -> ir.Tensor | None:
        """The operand of a product that the other gives one factor for each row."""
        for port in (0, 1) if node.op == "Mul" else (0,):
            other = node.inputs[1 - port]
            shape = other.shape
            if (
                shape is not None
                and (len(shape) == 0 or shape[-1] == 1)
                and not isinstance(node.inputs[port], ir.Constant)
            ):
                value: ir.Tensor = node.inputs[port]
                return value if value.shape is not None and value.shape[-1] == self.width else None
        return None

    @staticmethod
    def _is_square(node: ir.Node) -> bool:
        if node.op == "Mul":
            return node.inputs[0] is node.inputs[1]
        exponent = node.inputs[1] if node.op == "Pow" else None
        return (
            isinstance(exponent, ir.Constant) and ir.array(exponent).size == 1 and float(ir.array(exponent).item()) == 2
        )

    @staticmethod
    def _is_mean(node: ir.Node | None) -> bool:
        if node is None or node.op not in ("ReduceMean", "ReduceSum") or not node.attrs.get("keepdims", 1):
            return False
        axes = node.attrs.get("axes")
        if axes is None and len(node.inputs) > 1 and isinstance(node.inputs[1], ir.Constant):
            axes = ir.array(node.inputs[1]).reshape(-1)
        last = len(node.inputs[0].shape or []) - 1
        return axes is not None and [int(axis) for axis in axes] in ([-1], [last])

    def rotate(self, q: F64) -> int:
        """Changes the weights; gives how many."""
        for node, port, axis in self.makers.values():
            values = np.asarray(ir.array(node.inputs[port]), np.float64)
            self._put(node, port, values @ q if axis % values.ndim == values.ndim - 1 else q.T @ values)
        for node, axis, factors in self.readers.values():
            values = np.asarray(ir.array(node.inputs[1]), np.float64)
            turned = q.T @ (factors[:, None] * values) if axis == 0 else (values * factors) @ q
            self._put(node, 1, turned)
        for node, port in self.gains.values():
            if node.op == "Mul":
                self.edit.replace_uses(node.outputs[0], node.inputs[1 - port])
                self.edit.erase(node)
            else:
                self._put(node, port, np.ones(self.width))
        return len(self.makers) + len(self.readers)

    def _put(self, node: ir.Node, port: int, values: F64) -> None:
        old = node.inputs[port]
        self.edit.set_input(node, port, self.edit.constant(f"{old.name}_rotated", values.astype(old.dtype)))


def _is_layer(node: ir.Node) -> bool:
    """A product with a constant matrix, its result not scaled."""
    weight = node.inputs[1]
    if not isinstance(weight, ir.Constant) or len(weight.shape) != 2:
        return False
    plain = all(float(node.attrs.get(key, 1)) == 1 for key in ("alpha", "beta")) and not node.attrs.get("transA", 0)
    return node.op == "MatMul" or plain


def _summed(node: ir.Node) -> int:
    """The axis of the weight that is summed over."""
    return 1 if node.op == "Gemm" and node.attrs.get("transB", 0) else 0
