"""Products of codes with ranges found at run time -> products of values: MatMulInteger, ConvInteger.

    q, s, z = DynamicQuantizeLinear(x)
    Mul(Cast(MatMulInteger(q, w, z, wz)), Mul(s, ws))  ->  MatMul(x, DequantizeLinear(w, ws, wz))

s * (q - z) is x rounded to 256 levels of its own range, so the new product is the old one without that rounding; the
weights keep their codes. A target that computes so again (ONNX Runtime's w8) makes the same of it; a target without
ranges at run time (TensorRT, QNN, Core ML) can have the model only so. Form: what ONNX Runtime's `quantize_dynamic`
writes. Operator specifications: ONNX.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar

import numpy as np
from onnx import TensorProto

from qcompiler import ir
from qcompiler.rewrite import NOTHING_TO_DO, Any, Match, Op, Rule

FORMS = MappingProxyType({"MatMulInteger": "MatMul", "ConvInteger": "Conv"})


@dataclass(frozen=True)
class StaticProducts(Rule):
    """Takes ranges at run time out; the activation is float from here on, the weight has the codes it came with."""

    name: ClassVar[str] = "static-products"
    pattern: ClassVar[tuple[Op, ...]] = tuple(
        Op("Mul", Op("Cast", Op(op, Any("q"), Any("w"), bind="product", open=True), bind="cast"), Any("scale"))
        for op in FORMS
    )

    def check(self, edit: ir.Editor, found: Match) -> str | None:
        """The codes and their scale come from one DynamicQuantizeLinear, the weight's are constant."""
        product = found.node("product")
        if int(found.node("cast").attrs.get("to", 0)) != TensorProto.FLOAT:
            return NOTHING_TO_DO
        source = quantizer(found)
        if source is None:
            return f"operands of {product.op} {product.name!r} are not those of one DynamicQuantizeLinear"
        zero = product.inputs[3] if len(product.inputs) > 3 and product.inputs[3].name else None
        weight = product.inputs[1]
        if not isinstance(weight, ir.Constant) or not (zero is None or isinstance(zero, ir.Constant)):
            return f"the weight of {product.op} {product.name!r} is computed"
        scale = weight_scale(found, source)
        if scale is None:
            return f"the scale behind {product.op} {product.name!r} is no constant times that of its operand"
        if scale.size > 1 and scale.size != weight.shape[axis_of(product)]:
            return f"the scale behind {product.op} {product.name!r} has {scale.size} numbers"
        return None

    def rewrite(self, edit: ir.Editor, found: Match) -> None:
        """The new product stands where the old one did."""
        product, source = found.node("product"), quantizer(found)
        assert source is not None
        scale = weight_scale(found, source)
        assert scale is not None
        weight = product.inputs[1]
        zero = product.inputs[3] if len(product.inputs) > 3 and product.inputs[3].name else None
        scales = np.asarray(scale.reshape(-1) if scale.size > 1 else scale.reshape(()), np.float32)
        if zero is not None and ir.array(zero).size not in (1, scales.size):
            scales = np.full(ir.array(zero).size, scales, np.float32)
        inputs: list[ir.Tensor] = [weight, edit.constant(f"{weight.name}_scale", scales)]
        if zero is not None:
            points = ir.array(zero).reshape(-1)
            whole = np.broadcast_to(points, scales.shape) if scales.ndim else points[0].reshape(())
            inputs.append(edit.constant(f"{weight.name}_zero", np.ascontiguousarray(whole).reshape(scales.shape)))
        values = edit.variable(f"{weight.name}_values", np.float32, weight.shape)
        attrs = {"axis": axis_of(product)} if scales.ndim else {}
        edit.add("DequantizeLinear", inputs, name=f"{product.name}_dequantize", attrs=attrs, outputs=[values])
        made = edit.add(
            FORMS[product.op], [source.inputs[0], values], name=product.name, attrs=product.attrs, like=found.output
        )
        edit.replace_uses(found.output, made.outputs[0])


def axis_of(product: ir.Node) -> int:
    """The axis of the weight's output channels."""
    return 0 if product.op == "ConvInteger" else len(product.inputs[1].shape) - 1


def quantizer(found: Match) -> ir.Node | None:
    """The DynamicQuantizeLinear that gives the codes and their zero point."""
    product = found.node("product")
    codes = product.inputs[0]
    node = codes.inputs[0] if codes.inputs else None
    if node is None or node.op != "DynamicQuantizeLinear" or len(product.inputs) < 3:
        return None
    return node if node.outputs[0] is codes and node.outputs[2] is product.inputs[2] else None


def weight_scale(found: Match, source: ir.Node) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]] | None:
    """The constant that the quantizer's scale is multiplied by."""
    scale = found.tensor("scale")
    if scale is source.outputs[1]:
        return np.ones((), np.float32)
    maker = scale.inputs[0] if scale.inputs else None
    if maker is None or maker.op != "Mul":
        return None
    for one, other in (maker.inputs, reversed(maker.inputs)):
        if one is source.outputs[1] and isinstance(other, ir.Constant):
            return np.asarray(ir.array(other), np.float32)
    return None
