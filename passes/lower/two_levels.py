"""Scales of blocks in a byte each: NVFP4 has FP8 numbers, and one float32 factor for all of them; MX powers of two.

    x ~ code * (scale8 * factor)

    constant      w_q (FP4), s_q (FP8)
    activation    x_q, s_q = TRT_FP4DynamicQuantize(x, factor)
    both          DequantizeLinear(codes, DequantizeLinear(s_q, factor), blocks)
    MX            DequantizeLinear(codes, Cast(E8M0), blocks), constants alone

Scales of activations are computed as values come, s_q = e4m3(max |x of a block| / 6 / factor); the factor is fixed: the
largest scale that was seen over 448. The operator is TensorRT's own, domain `trt`; its form is that of onnx-tensorrt
and of NVIDIA's own tools. Opset 23 is the first with FP4 in DequantizeLinear, 24 the first with E8M0 in Cast.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from ml_dtypes import float4_e2m1fn, float8_e4m3fn, float8_e8m0fnu
from onnx import TensorProto, helper

from qcompiler import ir
from qcompiler.numerics.scale_forms import two_levels
from qcompiler.quant import Encoding, PerBlock

DOMAIN = "trt"
DYNAMIC = "TRT_FP4DynamicQuantize"
OPSETS = {"e4m3": 23, "e8m0": 24}
"""The first opset for each form of scales."""


def in_bytes(encoding: Encoding) -> bool:
    """Whether scales of blocks are stored in bytes."""
    return encoding.spec.scale in OPSETS and isinstance(encoding.spec.granularity, PerBlock)


def scale_tensor(
    edit: ir.Editor, name: str, encoding: Encoding, dtype: npt.DTypeLike, before: ir.Node | None
) -> ir.Tensor:
    """The scales of a constant, computed from their bytes, in a type of float."""
    if encoding.spec.scale == "e8m0":
        return _cast(edit, name, edit.constant(f"{name}_scale8", encoding.scale.astype(float8_e8m0fnu)), dtype, before)
    codes, factor = two_levels(encoding.scale)
    stored = edit.constant(f"{name}_scale8", codes.astype(float8_e4m3fn))
    found = _scales(edit, name, stored, edit.constant(f"{name}_factor", factor), before)
    return found if np.dtype(dtype) == np.float32 else _cast(edit, name, found, dtype, before)


def _cast(edit: ir.Editor, name: str, scale: ir.Tensor, dtype: npt.DTypeLike, before: ir.Node | None) -> ir.Tensor:
    output = edit.variable(f"{name}_scale_cast", np.dtype(dtype), scale.shape)
    to = {"to": helper.np_dtype_to_tensor_dtype(np.dtype(dtype))}
    edit.add("Cast", [scale], name=f"{name}_scale_cast", attrs=to, outputs=[output], before=before)
    return output


def quantize_blocks(edit: ir.Editor, x: ir.Tensor, encoding: Encoding) -> ir.Tensor:
    """A value quantized as it comes, and dequantized."""
    assert isinstance(encoding.spec.granularity, PerBlock)
    size = encoding.spec.granularity.size
    _, level = two_levels(encoding.scale)
    factor = edit.constant(f"{x.name}_factor", level)
    codes = edit.variable(f"{x.name}_q", np.dtype(float4_e2m1fn), x.shape)
    shape = None if x.shape is None else [*x.shape[:-1], _blocks(x.shape[-1], size)]
    stored = edit.variable(f"{x.name}_scale8", np.dtype(float8_e4m3fn), shape)
    attrs = {"axis": -1, "block_size": size, "scale_type": int(TensorProto.FLOAT8E4M3FN)}
    edit.add(DYNAMIC, [x, factor], name=f"{x.name}_quantize", attrs=attrs, outputs=[codes, stored], domain=DOMAIN)
    scales = _scales(edit, x.name, stored, factor, None)
    output = edit.variable(f"{x.name}_dq", np.dtype(np.float32), x.shape)
    attrs = {"axis": -1, "block_size": size}
    edit.add("DequantizeLinear", [codes, scales], name=f"{x.name}_dequantize", attrs=attrs, outputs=[output])
    return output


def _scales(edit: ir.Editor, name: str, stored: ir.Tensor, factor: ir.Constant, before: ir.Node | None) -> ir.Tensor:
    output = edit.variable(f"{name}_scale", np.dtype(np.float32), stored.shape)
    edit.add("DequantizeLinear", [stored, factor], name=f"{name}_scale_dequantize", outputs=[output], before=before)
    return output


def _blocks(length: int | str | None, size: int) -> int | None:
    return -(-length // size) if isinstance(length, int) else None
