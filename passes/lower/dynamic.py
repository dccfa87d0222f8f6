"""MatMul(x, W) -> Mul(Cast(MatMulInteger(q, Wq, z)), s * s_w), where q, s, z = DynamicQuantizeLinear(x).

The integer product is exact: (q - z) Wq s s_w. Gemm(x, W, b) becomes the same with Add(b). ONNX Runtime fuses the five
nodes into one DynamicQuantizeMatMul (fact sheet, section 4); everywhere else they are ordinary ONNX operators.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import TensorProto

from qcompiler import ir

Codes = tuple[npt.NDArray[Any], npt.NDArray[np.float32]]


def lower_dynamic(
    edit: ir.Editor, node: ir.Node, weight: Codes, shared: dict[str, tuple[ir.Tensor, ir.Tensor, ir.Tensor]]
) -> None:
    """Replaces a MatMul or a plain Gemm.

    Args:
        edit: editor of the node's graph.
        node: MatMul or Gemm with alpha = beta = 1 and no transA.
        weight: int8 codes of input 1, and float32 scales per output channel.
        shared: quantized form of activations seen so far, by tensor name; extended here.
    """
    codes, scale = weight
    if node.op == "Gemm" and node.attrs.get("transB", 0):
        codes = np.ascontiguousarray(codes.T)
    x, name = node.inputs[0], node.name
    if x.name not in shared:
        outputs = [
            edit.variable(f"{x.name}_q", np.dtype(np.uint8), x.shape),
            edit.variable(f"{x.name}_scale", np.dtype(np.float32), []),
            edit.variable(f"{x.name}_zero_point", np.dtype(np.uint8), []),
        ]
        edit.add("DynamicQuantizeLinear", [x], name=f"{x.name}_quantize", outputs=outputs)
        shared[x.name] = (outputs[0], outputs[1], outputs[2])
    q, s, z = shared[x.name]
    out = node.outputs[0]
    codes_tensor = edit.constant(f"{node.inputs[1].name}_q", codes)
    product = edit.variable(f"{name}_int32", np.dtype(np.int32), out.shape)
    edit.add("MatMulInteger", [q, codes_tensor, z], name=f"{name}_integer", outputs=[product])
    to_float = edit.add("Cast", [product], name=f"{name}_cast", attrs={"to": int(TensorProto.FLOAT)}, like=out)
    weight_scale = edit.constant(f"{node.inputs[1].name}_scale", scale)
    scales = edit.variable(f"{name}_scales", np.dtype(np.float32), list(scale.shape))
    edit.add("Mul", [s, weight_scale], name=f"{name}_scales", outputs=[scales])
    result = edit.add("Mul", [to_float.outputs[0], scales], name=f"{name}_scaled", like=out)
    if len(node.inputs) > 2 and node.inputs[2].name:
        result = edit.add("Add", [result.outputs[0], node.inputs[2]], name=f"{name}_bias", like=out)
    edit.replace_uses(out, result.outputs[0])
    edit.erase(node)
