"""Relu and Clip as bounds: what a quantized value need not be clipped to, because its grid ends there.

    Relu(x)         [0, inf)
    Clip(x, a, b)   [a, b], from constants

A target that computes Conv and Relu as one operator expresses Relu by the grid of the result: the zero point is the
lowest code, and everything below it saturates. The same holds for Clip if the grid lies within [a, b], to half a step.
docs: ONNX Runtime fact sheet, rule 4.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from qcompiler import ir
from qcompiler.quant import Encoding

Bounds = tuple[float, float]

POSITIVE = frozenset({"Sigmoid", "HardSigmoid", "Softmax", "Abs", "Exp", "Sqrt", "Softplus"})
KEEP_SIGN = frozenset(
    {
        "MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "Reshape", "Flatten", "Transpose", "Squeeze",
        "Unsqueeze", "Slice", "Gather", "Identity", "Split", "Expand", "Tile", "DepthToSpace", "SpaceToDepth",
        "ReduceMean", "ReduceMax", "ReduceSum",
    }
)  # fmt: skip
ALL_OPERANDS = frozenset({"Add", "Mul", "Concat", "Max", "Min"})
FAR = 16

LARGEST_CODE = 2.0**30
"""Bounds are compared with the grid as int32 codes: more steps than this must not lie below one."""


def bounds(activation: ir.Node) -> Bounds | None:
    """Smallest and largest result of a Relu or Clip; None for any other node, and where bounds are computed."""
    if activation.domain:
        return None
    if activation.op == "Relu":
        return 0.0, math.inf
    if activation.op != "Clip" or "min" in activation.attrs or "max" in activation.attrs:
        return None
    low, high = -math.inf, math.inf
    for port, tensor in enumerate(activation.inputs[1:], 1):
        if not tensor.name:
            continue
        if not isinstance(tensor, ir.Constant) or ir.nbytes(tensor) > np.dtype(np.float64).itemsize:
            return None
        value = float(ir.array(tensor).item())
        low, high = (value, high) if port == 1 else (low, value)
    return low, high


def never_negative(tensor: ir.Tensor, far: int = FAR) -> bool:
    """Whether the operators in front say so, at most `far` of them one behind the other."""
    if isinstance(tensor, ir.Constant):
        return bool((ir.array(tensor) >= 0).all())
    if not tensor.inputs or not far:
        return False
    node = tensor.inputs[0]
    if node.domain:
        return False
    limit = bounds(node)
    if node.op in POSITIVE or (limit is not None and limit[0] >= 0):
        return True
    operands = node.inputs if node.op in ALL_OPERANDS else node.inputs[:1] if node.op in KEEP_SIGN else []
    return bool(operands) and all(never_negative(operand, far - 1) for operand in operands)


def expressible(activation: ir.Node, tensor: ir.Tensor) -> bool:
    """Whether the grid of its result can say what the activation does to `tensor`: Relu, or Clip around zero.

    Zero is always on a grid, so it must lie within the bounds. A Clip without an upper bound is left alone: ONNX
    Runtime compares the bound as int32 code and overflows.
    """
    found = bounds(activation)
    if found is None or activation.inputs[0] is not tensor:
        return False
    low, high = found
    return low <= 0 < high and (activation.op == "Relu" or math.isfinite(high))


def fits(encoding: Encoding, limit: Bounds) -> bool:
    """Whether the bounds clip nothing that the grid does not clip: to half a step, as ONNX Runtime checks it.

    A target that wants symmetric grids computes the activation, so there they fit any.
    """
    if encoding.spec.symmetric and encoding.spec.qtype.signed:
        return True
    low, high = limit
    zero, first, last = int(encoding.zero_point), encoding.spec.low, encoding.spec.high
    with np.errstate(over="ignore"):
        ends = np.rint(np.asarray([low, high], np.float32) / encoding.scale).astype(np.float64)
    below = zero == first if low == 0.0 else ends[0] + zero <= first
    return bool(below and ends[1] + zero >= last and (math.isinf(high) or ends[1] <= LARGEST_CODE))


def within(encoding: Encoding, limit: Bounds) -> Encoding:
    """The grid shrunk so that it lies within the bounds; itself where it does.

    Where zero is the lower bound, zero becomes the lowest code, and the largest value stays the largest.
    """
    if fits(encoding, limit):
        return encoding
    low, high = limit
    first, last = encoding.spec.low, encoding.spec.high
    zero, scale = int(encoding.zero_point), float(encoding.scale)
    if low == 0.0 and zero != first:
        scale, zero = scale * ((last - zero) or 1) / (last - first), first
    steps = [(-low, zero - first), (high, last - zero)]
    scale = min([scale, *(end / count for end, count in steps if count and math.isfinite(end))])
    if math.isfinite(high):
        scale = max(scale, high / LARGEST_CODE)
    return replace(encoding, scale=np.asarray(scale, np.float32), zero_point=np.asarray(zero, np.int32))
