"""A cache of keys and values in bytes with fixed scales, at the inputs and outputs of the model.

    past -> Q -> DQ -> Concat(., new) -> Q -> DQ -> present        as planned and judged, in float at the border
    past_q     -> DQ -> Concat(., new) -> Q -> present_q           as shipped; what reads present reads its DQ

The rule "cache" of the table gives past, new and present one encoding, from all that calibration saw of present: uint8,
one scale and zero point for each cache, whatever the width of other activations. So the codes that a step gives are
what the next one reads, and Concat moves bytes. Beside 16-bit activations, too, bytes are the second operand of a
product as they are (probes: 56.9 dB from QDQ; 56.8 by way of int16, which is two conversions more).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from qcompiler import ir
from qcompiler.numerics.affine import dequantize, quantize
from qcompiler.passes.lower.cache import FIXED, Stored, told
from qcompiler.passes.prepare.purity import GRID

Values = Mapping[str, npt.NDArray[Any]]


def store(model: ir.Model) -> Stored:
    """The model with caches in bytes at its inputs and outputs, as far as they are stored in bytes."""
    result, reasons = model.copy(), list[str]()
    edit = ir.Editor(result, result.graph)
    pasts = [tensor for tensor in result.inputs if tensor.name.startswith("past")]
    for past in pasts:
        why = _stored(edit, past)
        reasons += [] if why is None else [why]
    notes = [f"{len(reasons)} caches stay float: {reasons[0]}"] if reasons else []
    if not pasts:
        notes.append("the model has no cache: no input whose name begins with 'past'")
    if len(reasons) < len(pasts):
        edit.drop_unused_constants()
        notes.insert(0, told(len(pasts) - len(reasons), "int8", FIXED, result, model))
    return Stored(result, tuple(notes))


def _stored(edit: ir.Editor, past: ir.Variable) -> str | None:
    """Makes the codes of one cache an input and an output; or why they cannot be."""
    quantizer = _next(edit, past, "QuantizeLinear")
    back = None if quantizer is None else _next(edit, quantizer.outputs[0], "DequantizeLinear")
    join = None if back is None else _next(edit, back.outputs[0], "Concat")
    behind = None if join is None else _next(edit, join.outputs[0], "QuantizeLinear")
    if quantizer is None or behind is None or behind.outputs[0].dtype != np.uint8:
        return f"{past.name!r} is not read by a Concat of bytes alone"
    codes = behind.outputs[0]
    values = [use.node.outputs[0] for use in edit.uses(codes) if use.node is not None]
    present = next((value for value in values if edit.is_output(value)), None)
    if present is None:
        return f"{past.name!r} is not given back with its new tokens"
    grids = [[ir.array(tensor) for tensor in node.inputs[1:]] for node in (quantizer, behind)]
    if not all(map(np.array_equal, *grids)):
        return f"{past.name!r} and {present.name!r} have not the same encoding"
    edit.retype(past, codes.dtype, past.shape)
    edit.replace_uses(quantizer.outputs[0], past)
    edit.erase(quantizer)
    value = edit.variable(f"{present.name}_value", present.dtype, present.shape)
    (reader,) = present.inputs
    for use in edit.uses(present):
        if use.node is not None:
            edit.set_input(use.node, use.port, value)
    edit.set_outputs(reader, [value])
    edit.replace_uses(present, codes)
    if not edit.uses(value):
        edit.erase(reader)
    return None


def _next(edit: ir.Editor, tensor: ir.Tensor, op: str) -> ir.Node | None:
    node = edit.only_use(tensor)
    return node if node is not None and node.op == op else None


@dataclass(frozen=True)
class Border:
    """Inputs and outputs that are codes.

    Attributes:
        grids: scale and zero point by name.
    """

    grids: Mapping[str, tuple[npt.NDArray[Any], npt.NDArray[Any]]]

    @classmethod
    def of(cls, model: ir.Model) -> Border:
        """That of a model with Q and DQ."""
        ends, grids = {tensor.name for tensor in (*model.inputs, *model.outputs) if tensor.dtype == np.uint8}, {}
        for node in model.nodes:
            if node.op in GRID:
                codes = node.inputs[0] if node.op == "DequantizeLinear" else node.outputs[0]
                if codes.name in ends:
                    grids[codes.name] = (ir.array(node.inputs[1]), ir.array(node.inputs[2]))
        return cls(grids)

    def codes(self, values: Values) -> Values:
        """Numbers as the model takes them."""
        return {name: self._code(name, array) if array.dtype.kind == "f" else array for name, array in values.items()}

    def numbers(self, values: Values) -> Values:
        """What codes stand for."""
        return {
            name: dequantize(array, *self.grids[name]) if name in self.grids and array.dtype.kind == "u" else array
            for name, array in values.items()
        }

    def _code(self, name: str, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        if name not in self.grids:
            return array
        top = np.iinfo(np.uint8)
        return quantize(array, *self.grids[name], qmin=int(top.min), qmax=int(top.max), dtype=np.dtype(np.uint8))
