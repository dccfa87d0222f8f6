"""A cache in FP8 whose scales are fixed by the calibration samples: for builders that compute no scales of tokens.

    f = max |present| of each head and channel
    q = Q(new / f, 2^-8)                       E4M3
    past_q, q -> Concat -> present_q           E4M3: nothing stands beside it
    present = DQ(present_q, 2^-8) * f          for attention

The largest number seen becomes 256, of 448: a float loses nothing by room above it, and what comes later may be 1.75
times as large before it is cut off. Keys and values are both divided: builders multiply them again in the kernel that
joins, for nothing.

`round_fixed` puts the value in place of new, `store_fixed` the codes at the inputs and outputs (`cache`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from ml_dtypes import float8_e4m3fn

from qcompiler import ir

STEP = 2.0**-8
E4M3 = np.dtype(float8_e4m3fn)


def round_fixed(edit: ir.Editor, past: ir.Variable, node: ir.Node, factor: npt.NDArray[Any] | None) -> str | None:
    """Has what a Concat adds to a cache rounded; or why it cannot be."""
    if factor is None:
        return f"{past.name!r} takes fixed scales, which need --data"
    new = node.inputs[1]
    dtype = np.dtype(new.dtype)
    channels = edit.constant(f"{past.name}_channels", factor)
    step = edit.constant(f"{past.name}_step", np.array(STEP, dtype))
    zero = edit.constant(f"{past.name}_zero", np.zeros((), E4M3))
    even = edit.add("Div", [new, channels], name=f"{past.name}_even", before=node, like=new).outputs[0]
    codes = edit.variable(f"{past.name}_codes", E4M3, new.shape)
    edit.add("QuantizeLinear", [even, step, zero], name=f"{past.name}_quantize", before=node, outputs=[codes])
    edit.set_input(node, 1, _value(edit, past, node, [codes, step, zero], channels, new))
    return None


def store_fixed(edit: ir.Editor, past: ir.Variable, node: ir.Node, codes: ir.Tensor) -> None:
    """Makes the codes an input and an output of the model."""
    present, (quantizer,) = node.outputs[0], codes.inputs
    channels = quantizer.inputs[0].inputs[0].inputs[1]
    edit.retype(past, E4M3, past.shape)
    whole = edit.variable(f"{present.name}_all", E4M3, present.shape)
    edit.add("Concat", [past, codes], name=f"{present.name}_join", attrs=dict(node.attrs), outputs=[whole], before=node)
    value = _value(edit, past, node, [whole, *quantizer.inputs[1:]], channels, present)
    for use in edit.uses(present):
        if use.node is not None:
            edit.set_input(use.node, use.port, value)
    edit.replace_uses(present, whole)


def _value(
    edit: ir.Editor, past: ir.Variable, node: ir.Node, stored: list[ir.Tensor], channels: ir.Tensor, like: ir.Tensor
) -> Any:
    name = f"{past.name}_dequantize"
    value = edit.add("DequantizeLinear", stored, name=name, before=node, like=like).outputs[0]
    return edit.add("Mul", [value, channels], name=f"{past.name}_uneven", before=node, like=like).outputs[0]
