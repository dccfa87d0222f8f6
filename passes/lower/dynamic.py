"""MatMul(x, W) -> Mul(Cast(MatMulInteger(q, Wq, z)), s * s_w), where q, s, z = DynamicQuantizeLinear(x).

The integer product is exact: (q - z) (Wq - z_w) s s_w. Gemm(x, W, b) becomes the same with Add(b). ONNX Runtime fuses
the five nodes into one DynamicQuantizeMatMul (fact sheet, section 4); everywhere else they are ordinary operators. The
result keeps its name.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from onnx import TensorProto

from qcompiler import ir


class Quantized(NamedTuple):
    """The integer form of a matrix: codes, scale, and zero point, None where it is 0."""

    codes: ir.Tensor
    scale: ir.Tensor
    zero_point: ir.Tensor | None


def lower_dynamic(edit: ir.Editor, node: ir.Node, x: Quantized, weight: Quantized) -> None:
    """Replaces a MatMul or a plain Gemm.

    Args:
        edit: editor of the node's graph.
        node: MatMul or Gemm with alpha = beta = 1 and no transA.
        x: its input 0 in integer form, see `quantize_dynamic`.
        weight: its input 1 as (K, N) codes; scale and zero point of rank 0 or (N,).
    """
    name, out = node.name, node.outputs[0]
    bias = node.inputs[2] if len(node.inputs) > 2 and node.inputs[2].name else None
    edit.set_outputs(node, [])
    product = edit.variable(f"{name}_int32", np.dtype(np.int32), out.shape)
    operands = [x.codes, weight.codes, x.zero_point, *([] if weight.zero_point is None else [weight.zero_point])]
    edit.add("MatMulInteger", operands, name=f"{name}_integer", outputs=[product])
    to_float = edit.add("Cast", [product], name=f"{name}_cast", attrs={"to": int(TensorProto.FLOAT)}, like=out)
    scales = edit.variable(f"{name}_scales", np.dtype(np.float32), list(weight.scale.shape))
    edit.add("Mul", [x.scale, weight.scale], name=f"{name}_scales", outputs=[scales])
    values = [to_float.outputs[0], scales]
    if bias is None:
        edit.add("Mul", values, name=f"{name}_scaled", outputs=[out])
    else:
        scaled = edit.add("Mul", values, name=f"{name}_scaled", like=out)
        edit.add("Add", [scaled.outputs[0], bias], name=f"{name}_bias", outputs=[out])
    edit.erase(node)


def quantize_dynamic(edit: ir.Editor, x: ir.Tensor) -> Quantized:
    """DynamicQuantizeLinear behind `x`."""
    codes = edit.variable(f"{x.name}_q", np.dtype(np.uint8), x.shape)
    scale = edit.variable(f"{x.name}_scale", np.dtype(np.float32), [])
    zero_point = edit.variable(f"{x.name}_zero_point", np.dtype(np.uint8), [])
    edit.add("DynamicQuantizeLinear", [x], name=f"{x.name}_quantize", outputs=[codes, scale, zero_point])
    return Quantized(codes, scale, zero_point)
