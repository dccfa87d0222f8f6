"""How much an error in each channel of a value matters to the linear operators that read it.

    y = W x, each x_c off by an independent e_c:   E |dy|^2 = sum_c E[e_c^2] sum_o W[o, c]^2

The last sum, over the taps of a Conv as well, is the importance of channel c. The range of a tensor that minimises this
weighted error gives the reader the best sums, where the plain squared error would serve the channels with large values,
whatever they are multiplied by. It matters most before depthwise convolutions, whose weights differ by orders of
magnitude between channels (Nagel, van Baalen, Blankevoort, Welling, "Data-free quantization through weight equalization
and bias correction", 2019, figure 2). Criterion for one tensor: Banner, Nahshon, Soudry, "Post training 4-bit
quantization of convolutional networks" (2019).

What only selects, scales or adds values channel by channel hands the importance of its result on to what it reads; the
slope of an activation is taken as 1. Where a reader is anything else, nothing is said of the value.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from qcompiler import ir

F64 = npt.NDArray[np.float64]

_ELEMENTWISE = frozenset(
    {
        "Relu", "Clip", "LeakyRelu", "Elu", "HardSwish", "HardSigmoid", "Sigmoid", "Tanh", "Gelu", "Mish", "Softplus",
        "Identity", "Add", "Sub", "Sum", "Mul",
    }
)  # fmt: skip
_SPATIAL = frozenset({"MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool"})
_FLATTENING = frozenset({"Flatten", "Reshape", "Squeeze"})


@dataclass(frozen=True, eq=False)
class Importance:
    """Of the channels of one value.

    Attributes:
        axis: where the channels are: 1, or -1 for values whose last axis is summed over.
        channels: one number for each; only ratios matter.
    """

    axis: int
    channels: F64


def importance(model: ir.Model) -> Mapping[str, Importance]:
    """The importance of every value of the main graph whose readers all tell, where channels differ in it."""
    found = _Backward(ir.Editor(model, model.graph))
    values = [*model.inputs, *(tensor for node in model.nodes for tensor in node.outputs if tensor.name)]
    known = [(tensor.name, found.of(tensor)) for tensor in reversed(values)]
    return {name: said for name, said in reversed(known) if said is not None and np.ptp(said.channels) > 0}


@dataclass(eq=False)
class _Backward:
    """Walks from readers to what they read; each value is looked at once."""

    edit: ir.Editor
    done: dict[int, Importance | None] = field(default_factory=dict)

    def of(self, tensor: ir.Tensor) -> Importance | None:
        """The sum over all readers; None where one of them says nothing."""
        if id(tensor) not in self.done:
            self.done[id(tensor)] = self._of(tensor)
        return self.done[id(tensor)]

    def _of(self, tensor: ir.Tensor) -> Importance | None:
        total: Importance | None = None
        for node, port in self.edit.uses(tensor):
            part = None if node is None or node.domain else self._by(node, port, tensor)
            if part is None or part.channels.size != channels(tensor, part.axis):
                return None
            if total is not None and total.axis != part.axis:
                return None
            total = part if total is None else Importance(part.axis, total.channels + part.channels)
        return total

    def _by(self, node: ir.Node, port: int, tensor: ir.Tensor) -> Importance | None:
        """What one use says."""
        if node.op in ("Conv", "ConvTranspose", "Gemm", "MatMul"):
            return _linear(node) if port == 0 else None
        result = self.of(node.outputs[0])
        if result is None:
            return None
        if node.op in _ELEMENTWISE:
            return _scaled(node, port, result) if node.op == "Mul" else result
        if node.op in _SPATIAL or (node.op in ("Resize", "Pad") and port == 0):
            return result if result.axis == 1 else None
        if node.op == "Concat" and result.axis == 1 and node.attrs.get("axis") == 1:
            sizes = [channels(operand, 1) or 0 for operand in node.inputs]
            start = sum(sizes[:port])
            return Importance(1, result.channels[start : start + sizes[port]]) if all(sizes) else None
        if node.op in _FLATTENING and port == 0:
            return Importance(1, result.channels) if pixel(tensor) and channels(node.outputs[0], result.axis) else None
        return None


def _linear(node: ir.Node) -> Importance | None:
    """Sums of squares of the weights that each input channel meets."""
    weight = node.inputs[1]
    if not isinstance(weight, ir.Constant):
        return None
    squares = np.square(ir.array(weight), dtype=np.float64)
    if node.op == "MatMul":
        return Importance(-1, squares.sum(1)) if squares.ndim == 2 else None
    if node.op == "Gemm":
        rows = squares.sum(0 if node.attrs.get("transB", 0) else 1)
        return None if node.attrs.get("transA", 0) else Importance(-1, rows)
    taps = squares.sum(tuple(range(2, squares.ndim)))
    if node.op == "ConvTranspose":
        return Importance(1, taps.sum(1))
    group = int(node.attrs.get("group", 1))
    return Importance(1, taps.reshape(group, -1, taps.shape[1]).sum(1).reshape(-1))


def _scaled(node: ir.Node, port: int, result: Importance) -> Importance | None:
    """Through a product: a constant factor for each channel counts squared, a computed one as 1."""
    factor = node.inputs[1 - port]
    if not isinstance(factor, ir.Constant):
        return result
    squares = np.square(ir.array(factor), dtype=np.float64)
    if squares.size == 1:
        return Importance(result.axis, result.channels * squares.item())
    rank = len(node.outputs[0].shape or ())
    place = result.axis % rank - (rank - squares.ndim) if rank else -1
    if place < 0 or squares.shape[place] != squares.size or squares.size != result.channels.size:
        return None
    return Importance(result.axis, result.channels * squares.reshape(-1))


def channels(tensor: ir.Tensor, axis: int) -> int | None:
    """The size of an axis; None where it is not known."""
    shape = tensor.shape
    if shape is None or not -len(shape) <= axis < len(shape) or len(shape) < 2:
        return None
    return shape[axis] if isinstance(shape[axis], int) else None


def pixel(tensor: ir.Tensor) -> bool:
    """Whether all that follows the channels has size 1."""
    return tensor.shape is not None and len(tensor.shape) > 2 and all(size == 1 for size in tensor.shape[2:])
