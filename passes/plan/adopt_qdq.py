"""DequantizeLinear(QuantizeLinear(x, s, z), s, z) -> x with s and z kept for the plan: quantization-aware training.

    activation   the pair goes; every use of its result becomes a use of x with a given encoding; where its grid starts
                 at 0 and x may be negative, as where a tool left a Relu to the grid, Clip(x, 0, top) takes its place
    weight       integer or float constant behind (Q,) DQ becomes a float constant on the same grid, encoding given,
                 also where a Transpose stands between
    bias         int32 constant behind DQ becomes a float constant; its scale follows from x and w as always
    7 bits       Clip(codes, 0, 127) between Q and DQ, as PyTorch writes for processors whose sums of 8 bits overflow,
                 goes, too: the grid is that of int8, which ends there, and has more codes below

From here on the model is a float model with some encodings fixed, and the same path compiles both kinds. Codes do not
change: a value on a grid is rounded to itself. Signed activations keep their grid when a target stores them unsigned
(code + 128, or + 32768). What was trained in 16 bits gives its range to a target that stores 8 (`given`). Pairs of
other types (float8) stay in the graph.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np

from qcompiler import ir
from qcompiler.numerics.affine import dequantize
from qcompiler.passes.plan.bounds import never_negative
from qcompiler.passes.plan.useful_range import number
from qcompiler.pipeline import GraphPass, PassRecord
from qcompiler.quant import Encoding, PerAxis, PerTensor, QSpec, Site
from qcompiler.quant.qtype import INT8, INT16, INT32, UINT8, UINT16, QType
from qcompiler.rewrite import Refusal

DOMAINS = ("", "com.microsoft")
STORED: dict[str, QType] = {"int8": INT8, "uint8": UINT8, "int16": INT16, "uint16": UINT16, "int32": INT32}


CLIP = 3
"""Inputs of a Clip with an upper end."""


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
        adoption = Adoption(ir.Editor(model, model.graph))
        for node in model.nodes:
            if node.op == "DequantizeLinear" and node.domain in DOMAINS:
                reason = adoption.adopt(node)
                if reason is None:
                    record.changes += 1
                else:
                    record.refusals.append(Refusal(self.name, node.name, reason))
        self.given.update(adoption.given())


@dataclass(eq=False)
class Adoption:
    """Takes pairs out and notes what was there; names are read at the end, when they do not change any more."""

    edit: ir.Editor
    uses: list[tuple[ir.Tensor, ir.Node | None, int, Encoding]] = field(default_factory=list)
    clipped: dict[tuple[int, float], ir.Tensor] = field(default_factory=dict)

    def adopt(self, dq: ir.Node) -> str | None:
        """Takes one DequantizeLinear out, and its QuantizeLinear with the last reader; the reason if it must stay."""
        encoding = encoding_of(dq)
        if isinstance(encoding, str):
            return encoding
        source = dq.inputs[0]
        if isinstance(source, ir.Constant):
            axis = encoding.spec.granularity.axis if isinstance(encoding.spec.granularity, PerAxis) else None
            values = dequantize(ir.array(source), encoding.scale, encoding.zero_point, axis=axis)
            self._replace(dq, self.edit.constant(f"{source.name}_float", values), encoding)
            return None
        limit = source.inputs[0] if source.inputs and to_127(source.inputs[0]) else None
        codes = source if limit is None else limit.inputs[0]
        quantize = codes.inputs[0] if codes.inputs else None
        if quantize is None or quantize.op != "QuantizeLinear" or quantize.domain not in DOMAINS:
            return f"{codes.name!r} is not the result of QuantizeLinear"
        other = encoding_of(quantize)
        if isinstance(other, str):
            return other
        same = np.array_equal(other.scale, encoding.scale) and np.array_equal(other.zero_point, encoding.zero_point)
        if not same or other.spec != encoding.spec:
            return f"QuantizeLinear {quantize.name!r} has another scale or zero point"
        x = quantize.inputs[0]
        if x.dtype is not None and np.dtype(x.dtype) != np.float32:
            return f"{x.name!r} is {np.dtype(x.dtype)}, not float32"
        if limit is not None:
            encoding = replace(encoding, spec=replace(encoding.spec, qtype=INT8))
        self._replace(dq, self._from_zero(x, encoding, 0 if limit is not None else encoding.spec.qtype.low), encoding)
        for node in (limit, quantize):
            if node is not None and not self.edit.uses(node.outputs[0]):
                self.edit.erase(node)
        return None

    def _from_zero(self, x: ir.Tensor, encoding: Encoding, low: float) -> ir.Tensor:
        """`x` as a grid whose codes begin at `low` cuts it off at 0; inputs of the model are taken for what they were
        calibrated on."""
        if encoding.scale.ndim or encoding.zero_point != low or not x.inputs or never_negative(x):
            return x
        key = id(x), encoding.range[1]
        if key not in self.clipped:
            bounds = [self.edit.constant(f"{x.name}_{end}", np.asarray(v, np.float32)) for end, v in
                      (("low", 0.0), ("high", encoding.range[1]))]  # fmt: skip
            node = self.edit.add("Clip", [x, *bounds], name=f"{x.name}_clip", like=x)
            self.clipped[key] = node.outputs[0]
        return self.clipped[key]

    def _replace(self, dq: ir.Node, x: ir.Tensor, encoding: Encoding) -> None:
        """Makes every use of the pair's result a use of `x`."""
        uses = self.edit.uses(dq.outputs[0])
        self.edit.replace_uses(dq.outputs[0], x)
        self.edit.erase(dq)
        for node, port in uses:
            if isinstance(x, ir.Constant) and node is not None and node.op == "Transpose" and self.edit.holds(node):
                self._transpose(x, node, encoding)
            else:
                self.uses.append((x, node, port, encoding))

    def _transpose(self, x: ir.Constant, node: ir.Node, encoding: Encoding) -> None:
        """Carries out the Transpose of a constant."""
        values = ir.array(x)
        order = [int(axis) for axis in node.attrs.get("perm", range(values.ndim)[::-1])]
        if isinstance(encoding.spec.granularity, PerAxis):
            axis = PerAxis(order.index(encoding.spec.granularity.axis))
            encoding = replace(encoding, spec=replace(encoding.spec, granularity=axis))
        turned = self.edit.constant(f"{x.name}_transposed", np.ascontiguousarray(values.transpose(order)))
        uses = self.edit.uses(node.outputs[0])
        self.edit.replace_uses(node.outputs[0], turned)
        self.edit.erase(node)
        self.uses += [(turned, reader, port, encoding) for reader, port in uses]

    def given(self) -> dict[Site, Encoding]:
        """The encodings by site; those of 32 bits follow from others."""
        found: dict[Site, Encoding] = {}
        alive = [use for use in self.uses if self._still(use[0], use[1], use[2])]
        counts = Counter(id(tensor) for tensor, *_ in alive)
        for tensor, node, port, encoding in alive:
            if encoding.spec.qtype.bits == 32:
                continue
            if node is not None:
                found[Site(tensor.name, node.name, port)] = encoding
            if counts[id(tensor)] == len(self.edit.uses(tensor)):
                found.setdefault(Site(tensor.name), encoding)
        return found

    def _still(self, tensor: ir.Tensor, node: ir.Node | None, port: int) -> bool:
        """Whether a use is there: another pair may have taken its node out."""
        places = self.edit.graph.outputs if node is None else node.inputs
        return port < len(places) and places[port] is tensor


def to_127(node: ir.Node) -> bool:
    """Whether a node cuts codes of uint8 off at 127."""
    if node.op != "Clip" or node.domain or node.outputs[0].dtype != np.uint8 or len(node.inputs) != CLIP:
        return False
    low, high = node.inputs[1:]
    return (not low.name or number(low) == 0) and number(high) == INT8.high


def encoding_of(node: ir.Node) -> Encoding | str:
    """The encoding that a QuantizeLinear or DequantizeLinear states, or why it cannot be adopted."""
    scale, zero = node.inputs[1], node.inputs[2] if len(node.inputs) > 2 and node.inputs[2].name else None
    if not isinstance(scale, ir.Constant) or (zero is not None and not isinstance(zero, ir.Constant)):
        return f"scale or zero point of {node.name!r} is computed"
    if node.attrs.get("block_size", 0):
        return f"{node.name!r} has blocks"
    codes = node.outputs[0] if node.op == "QuantizeLinear" else node.inputs[0]
    dtype = np.dtype(zero.dtype if zero is not None else codes.dtype or np.uint8)
    if dtype.name not in STORED:
        return f"{node.name!r} stores {dtype}"
    if np.dtype(scale.dtype) != np.float32:
        return f"scale of {node.name!r} is {np.dtype(scale.dtype)}"
    scales = ir.array(scale)
    zeros = np.zeros(scales.shape, np.int32) if zero is None else ir.array(zero).astype(np.int32)
    if not (np.isfinite(scales).all() and (scales > 0).all()):
        return f"scale of {node.name!r} is not positive"
    if scales.size == 1:
        scales, zeros = scales.reshape(()), zeros.reshape(())
    if scales.ndim > 1 or zeros.shape != scales.shape:
        return f"scale of {node.name!r} has shape {list(scale.shape)}"
    shape, axis = node.inputs[0].shape, int(node.attrs.get("axis", 1))
    if scales.ndim and shape is None:
        return f"rank of {node.inputs[0].name!r} is unknown"
    granularity = PerAxis(axis % len(shape)) if scales.ndim and shape else PerTensor()
    if isinstance(granularity, PerAxis) and shape[granularity.axis] not in (scales.size, None):
        return f"scale of {node.name!r} has shape {list(scale.shape)}, its input {list(shape)}"
    spec = QSpec(STORED[dtype.name], granularity, symmetric=not zeros.any())
    return Encoding(spec, np.asarray(scales, np.float32), np.asarray(zeros, np.int32), "given")
