"""QuantizeLinear and DequantizeLinear of activations; those of constants are weights (`stored`).

Scales are constants; a zero point of 0 is left out, the form that Apple's own tools write.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from qcompiler import ir
from qcompiler.backends.coreml.lower.scope import Refused, Scope, Var
from qcompiler.backends.coreml.lower.stored import as_float, emitted, stored
from qcompiler.backends.coreml.lower.table import lowers

EIGHT = ("int8", "uint8")


def parameters(s: Scope) -> tuple[Any, Any, int | None, str]:
    """Scale, zero point (None for 0), axis and type of the codes."""
    if s.os < 17:
        raise Refused("quantized activations need iOS 17")
    if s.attr("block_size", 0):
        raise Refused("blocks of activations")
    scale = np.asarray(s.need(1, "the scale"), np.float32)
    zero = ir.array(s.node.inputs[2]) if s.has(2) and isinstance(s.node.inputs[2], ir.Constant) else None
    if s.has(2) and zero is None:
        raise Refused("a computed zero point")
    kind = "uint8" if zero is None else str(zero.dtype)
    if zero is None and s.attr("output_dtype"):
        kind = {3: "int8", 2: "uint8"}.get(int(s.attr("output_dtype")), "other")
    if s.node.op == "DequantizeLinear":
        kind = str(s.onnx_type())
    if kind not in EIGHT:
        raise Refused(f"{kind} activations; Core ML has int8 and uint8")
    axis = None if scale.size == 1 else s.axis(s.attr("axis", 1))
    scale = scale.reshape(()) if scale.size == 1 else scale
    if zero is None or not zero.any():
        return scale, None, axis, kind
    return scale, zero.reshape(scale.shape), axis, kind


@lowers("QuantizeLinear", to="quantize", limits="before iOS 17; types other than int8 and uint8; blocks")
def quantize(s: Scope) -> Var:
    """round(x / scale) + zero point, saturated."""
    scale, zero, axis, kind = parameters(s)
    given = {} if axis is None else {"axis": axis}
    point = None if zero is None else zero[()]
    return s.op("quantize", input=s.x(), scale=scale[()], zero_point=point, output_dtype=kind, **given)


@lowers("DequantizeLinear", to="dequantize, constexpr_blockwise_shift_scale, constexpr_affine_dequantize, const",
        limits="activations before iOS 17; types other than int8 and uint8; a computed scale")  # fmt: skip
def dequantize(s: Scope) -> Var:
    """(code - zero point) * scale; of a constant of rank 0 and 1, or of int32, folded."""
    source = s.node.inputs[0]
    if isinstance(source, ir.Constant):
        if not all(isinstance(t, ir.Constant) for t in s.node.inputs[1:] if t.name):
            raise Refused("a computed scale")
        found = stored(s.node.outputs[0])
        if found is None or found.codes.ndim < 2:
            return s.constant(as_float(s.node))
        return emitted(s, found, s.node.outputs[0].name)
    scale, zero, axis, kind = parameters(s)
    given = {} if axis is None else {"axis": axis}
    return s.op(
        "dequantize", input=s.cast(s.x(), kind), scale=scale[()], zero_point=None if zero is None else zero[()], **given
    )
