"""What each trap of `traps` looks like in an optimised graph of ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from onnx import NodeProto, TensorProto

from qcompiler import ir
from qcompiler.backends.onnxruntime.inspect import COMPUTE_OPS
from qcompiler.backends.onnxruntime.view import EIGHT_BIT, SIXTEEN_BIT, View, attribute

Seen = Callable[[View, NodeProto], bool]
# Operators with integer kernels, and the port of their weights.
WEIGHT_PORT = {"QLinearConv": 3, "QLinearMatMul": 3, "QGemm": 3, "MatMulIntegerToFloat": 1, "DynamicQuantizeMatMul": 1}
WEIGHT_SCALE = {"QLinearConv": 4, "QGemm": 4, "QLinearMatMul": 4}
WEIGHT_ZERO = {"QLinearConv": 5}
LARGEST_RANK, WEIGHT = 4, 1
GEMM = frozenset({"Gemm", "FusedGemm"})


def operator(*names: str) -> Seen:
    """A node of one of these operators."""
    return lambda _view, node: node.op_type in names


def operand_type(op: str, *types: int) -> Seen:
    """A node of this operator whose first input has one of these types."""
    return lambda view, node: node.op_type == op and view.type(node) in types


def int8_activations(view: View, node: NodeProto) -> bool:
    """A product that reads computed int8 values: an integer kernel without VNNI, or a float kernel behind DQ."""
    if node.op_type in ("QLinearConv", "QGemm", "QLinearMatMul", "MatMulIntegerToFloat"):
        return view.type(node) == TensorProto.INT8 and node.input[0] not in view.constants
    found = view.dequantizer(node) if node.op_type in COMPUTE_OPS else None
    return found is not None and view.type(found) == TensorProto.INT8 and found.input[0] not in view.constants


def int16_activations(view: View, node: NodeProto) -> bool:
    """An operator that reads a computed int16 or uint16 value through DequantizeLinear."""
    found = [view.dequantizer(node, port) for port in range(len(node.input))]
    return any(q is not None and view.type(q) in SIXTEEN_BIT and q.input[0] not in view.constants for q in found)


def matmul_add(view: View, node: NodeProto) -> bool:
    """A float Gemm that MatMulAddFusion made, its weights dequantized."""
    return node.op_type in GEMM and "MatMulAddFusion" in node.name and view.dequantized_weights(node) is not None


def gemm_float_bias(view: View, node: NodeProto) -> bool:
    """A float Gemm behind DQ whose bias is a float constant."""
    bias = view.type(node, 2)
    return node.op_type in GEMM and view.dequantized_weights(node) is not None and bias == TensorProto.FLOAT


def float_behind_dq(view: View, node: NodeProto) -> bool:
    """A float product whose value and weights are both dequantized."""
    return node.op_type in COMPUTE_OPS and None not in (view.dequantizer(node), view.dequantized_weights(node))


def weights_dequantized(view: View, node: NodeProto) -> bool:
    """A float product whose weights alone are dequantized, at every run."""
    return node.op_type in COMPUTE_OPS and view.dequantized_weights(node) is not None


def weights_requantized(view: View, node: NodeProto) -> bool:
    """An integer product with one weight scale whose weights are float constants in our graph."""
    if node.op_type not in WEIGHT_SCALE:
        return False
    ours = view.ours(node)
    if ours is None or ours.op not in ("Conv", "Gemm", "ConvTranspose") or len(ours.inputs) <= WEIGHT:
        return False
    weight = ours.inputs[1]
    return isinstance(weight, ir.Constant) and np.dtype(weight.dtype).kind == "f"


def slice_steps(view: View, node: NodeProto) -> bool:
    """A Slice of 8-bit values with steps."""
    steps = view.constant(node, 4) if node.op_type == "Slice" and view.type(node) in EIGHT_BIT else None
    return steps is not None and bool((np.abs(steps) != 1).any())


def transpose_5d(view: View, node: NodeProto) -> bool:
    """A Transpose of 8-bit values of rank 5 or more."""
    return (
        node.op_type == "Transpose" and view.type(node) in EIGHT_BIT and len(attribute(node, "perm", ())) > LARGEST_RANK
    )


def nhwc_resize(view: View, node: NodeProto) -> bool:
    """A Resize of 8-bit values inside the NHWC region."""
    return node.op_type == "Resize" and view.type(node) in EIGHT_BIT and view.channels_last(node)


def uint8_weights(view: View, node: NodeProto) -> bool:
    """An integer product with constant uint8 weights."""
    port = WEIGHT_PORT.get(node.op_type)
    return port is not None and view.type(node, port) == TensorProto.UINT8 and node.input[port] in view.constants


def weight_zero_point(view: View, node: NodeProto) -> bool:
    """An integer Conv whose weights have a zero point other than 0."""
    port = WEIGHT_ZERO.get(node.op_type)
    zero = None if port is None or view.type(node, 3) != TensorProto.INT8 else view.constant(node, port)
    return zero is not None and bool((zero != 0).any())


def unequal_concat(view: View, node: NodeProto) -> bool:
    """A QLinearConcat whose parts and result do not share one scale."""
    if node.op_type != "QLinearConcat":
        return False
    scales = [view.constant(node, port) for port in (0, *range(3, len(node.input), 3))]
    return len({scale.tobytes() for scale in scales if scale is not None}) > 1


def conv_transpose(view: View, node: NodeProto) -> bool:
    """A ConvTranspose whose weights are dequantized."""
    return node.op_type == "ConvTranspose" and weights_dequantized(view, node)
