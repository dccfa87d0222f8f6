"""Weights that are no numbers: a model that holds them computes nothing, whatever is compiled from it.

    multiplied     the weights of Conv, MatMul, Gemm, LSTM, ... are finite
    any other      a constant of arithmetic may be infinite (a mask, an end of a Clip), and is not NaN

Constants that are chosen from and not computed with (Gather, Where, Pad, Equal) may be anything.
"""

from __future__ import annotations

import numpy as np

from qcompiler import ir
from qcompiler.errors import ModelError

# Constant operands that the others are multiplied by, by operator.
MULTIPLIED = {
    "Conv": (1,), "ConvTranspose": (1,), "DeformConv": (1,), "Gemm": (0, 1), "MatMul": (0, 1), "Einsum": (0, 1),
    "LSTM": (1, 2), "GRU": (1, 2), "RNN": (1, 2),
}  # fmt: skip
# Operators all of whose float constants enter every sum or product.
ARITHMETIC = {
    *MULTIPLIED, "Add", "Sub", "Mul", "Div", "Sum", "PRelu", "BatchNormalization", "InstanceNormalization",
    "LayerNormalization", "GroupNormalization", "RMSNormalization", "QuantizeLinear", "DequantizeLinear",
}  # fmt: skip
TYPES = frozenset({"float64", "float32", "float16", "bfloat16"})
STEP = 1 << 22
"""Values that are looked at together."""


def check_weights(model: ir.Model, where: str) -> None:
    """Looks at each constant of arithmetic once.

    Args:
        model: prepared, so that what is computed from constants is one.
        where: its file, for the message.

    Raises:
        ModelError: one holds NaN, or infinity where it is multiplied by.
    """
    seen = set[tuple[int, bool]]()
    for node in model.all_nodes():
        if node.op not in ARITHMETIC:
            continue
        for port, tensor in enumerate(node.inputs):
            multiplied = port in MULTIPLIED.get(node.op, ())
            if not isinstance(tensor, ir.Constant) or (id(tensor), multiplied) in seen:
                continue
            seen.add((id(tensor), multiplied))
            bad = _bad(tensor, infinite=multiplied)
            if bad is not None:
                what = f"weight {tensor.name!r} of {node.op} {node.name!r} holds {bad}"
                raise ModelError(what, where=where, hint="its training diverged, or the file was damaged")


def _bad(constant: ir.Constant, *, infinite: bool) -> str | None:
    """The first value that must not be there, and where."""
    if np.dtype(constant.dtype).name not in TYPES:
        return None
    values = ir.array(constant)
    flat = values.reshape(-1)
    for start in range(0, flat.size, STEP):
        piece = flat[start : start + STEP]
        wrong = ~np.isfinite(piece) if infinite else np.isnan(piece)
        if wrong.any():
            place = start + int(wrong.argmax())
            where = [int(i) for i in np.unravel_index(place, values.shape)]
            return f"{float(flat[place])} at {where}"
    return None
