"""DequantizeLinear(QuantizeLinear(x, s, z), s, z) -> x with s and z kept for the plan: quantization-aware training.

    activation   the pair goes; every use of its result becomes a use of x with a given encoding
    weight       integer or float constant behind (Q,) DQ becomes a float constant on the same grid, encoding given
    bias         int32 constant behind DQ becomes a float constant; its scale follows from x and w as always

From here on the model is a float model with some encodings fixed, and the same path compiles both kinds. Codes do not
change: a value on a grid is rounded to itself. Signed 8-bit activations keep their grid when a target stores them
unsigned (code + 128). Pairs of other types (16 bit, float8) stay in the graph.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np

from qcompiler import ir
from qcompiler.numerics.affine import dequantize
from qcompiler.pipeline import GraphPass, PassRecord
from qcompiler.quant import Encoding, PerAxis, PerTensor, QSpec, Site
from qcompiler.quant.qtype import INT8, UINT8
from qcompiler.rewrite import Refusal


@dataclass(frozen=True)
class AdoptQdq(GraphPass):
    """Takes Q/DQ pairs out of the graph.

    Attributes:
        given: filled by the pass: encodings by site, for each use of an adopted value, and for the value itself where
            all its uses were quantized.
    """

    name: ClassVar[str] = "adopt-qdq"
    given: dict[Site, Encoding] = field(default_factory=dict)

    def apply(self, model: ir.Model, record: PassRecord) -> None:
        """Adopts every pair that it can; the others are refused with a reason."""
        edit = ir.Editor(model, model.graph)
        for node in model.nodes:
            if node.op == "DequantizeLinear" and not node.domain:
                reason = self._adopt(edit, node)
                if reason is None:
                    record.changes += 1
                else:
                    record.refusals.append(Refusal(self.name, node.name, reason))

    def _adopt(self, edit: ir.Editor, dq: ir.Node) -> str | None:
        encoding = encoding_of(dq)
        if isinstance(encoding, str):
            return encoding
        source = dq.inputs[0]
        if isinstance(source, ir.Constant):
            codes = ir.array(source)
            axis = encoding.spec.granularity.axis if isinstance(encoding.spec.granularity, PerAxis) else None
            values = dequantize(codes, encoding.scale, encoding.zero_point, axis=axis)
            self._replace(edit, dq, edit.constant(f"{source.name}_float", values), encoding)
            return None
        quantize = source.inputs[0] if source.inputs else None
        if quantize is None or quantize.op != "QuantizeLinear":
            return f"{source.name!r} is not the result of QuantizeLinear"
        other = encoding_of(quantize)
        if isinstance(other, str):
            return other
        if not (np.array_equal(other.scale, encoding.scale) and np.array_equal(other.zero_point, encoding.zero_point)):
            return f"QuantizeLinear {quantize.name!r} has another scale or zero point"
        x = quantize.inputs[0]
        self._replace(edit, dq, x, encoding)
        if not edit.uses(quantize.outputs[0]):
            edit.erase(quantize)
        if all(Site(x.name, use.node.name, use.port) in self.given for use in edit.uses(x) if use.node is not None):
            self.given[Site(x.name)] = encoding
        return None

    def _replace(self, edit: ir.Editor, dq: ir.Node, x: ir.Tensor, encoding: Encoding) -> None:
        uses = edit.uses(dq.outputs[0])
        edit.replace_uses(dq.outputs[0], x)
        edit.erase(dq)
        if encoding.spec.qtype.bits == 8:
            self.given.update({Site(x.name, u.node.name, u.port): encoding for u in uses if u.node is not None})


def encoding_of(node: ir.Node) -> Encoding | str:
    """The encoding that a QuantizeLinear or DequantizeLinear states, or why it cannot be adopted."""
    scale, zero = node.inputs[1], node.inputs[2] if len(node.inputs) > 2 and node.inputs[2].name else None
    if not isinstance(scale, ir.Constant) or (zero is not None and not isinstance(zero, ir.Constant)):
        return f"scale or zero point of {node.name!r} is computed"
    if node.attrs.get("block_size", 0):
        return f"{node.name!r} has blocks"
    codes = node.outputs[0] if node.op == "QuantizeLinear" else node.inputs[0]
    dtype = np.dtype(zero.dtype if zero is not None else codes.dtype or np.uint8)
    if dtype not in (np.int8, np.uint8, np.int32):
        return f"{node.name!r} stores {dtype}"
    if np.dtype(scale.dtype) != np.float32:
        return f"scale of {node.name!r} is {np.dtype(scale.dtype)}"
    scales = ir.array(scale)
    zeros = np.zeros(scales.shape, np.int32) if zero is None else ir.array(zero).astype(np.int32)
    if scales.size == 1:
        scales, zeros = scales.reshape(()), zeros.reshape(())
    rank = len(node.inputs[0].shape or ())
    axis = int(node.attrs.get("axis", 1))
    granularity = PerAxis(axis % rank if rank else axis) if scales.ndim else PerTensor()
    spec = QSpec(UINT8 if dtype == np.uint8 else INT8, granularity, symmetric=not zeros.any())
    return Encoding(spec, scales, zeros, "given")


def as_type_of(encoding: Encoding, spec: QSpec) -> Encoding:
    """The same grid with codes of the type of `spec`: int8 and uint8 differ by 128 in code and zero point."""
    shift = int(spec.qtype.low - encoding.spec.qtype.low)
    zero_point = np.asarray(encoding.zero_point + shift, np.int32)
    return replace(encoding, spec=replace(spec, granularity=encoding.spec.granularity), zero_point=zero_point)
