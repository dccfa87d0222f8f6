"""From our graph to MIL, operator by operator."""

from __future__ import annotations

from qcompiler.backends.coreml.lower import (
    activation,
    attention,
    control,
    conv,
    cut,
    elementwise,
    index,
    matrix,
    norm,
    pool,
    quantized,
    recurrent,
    reduce,
    resize,
    shape,
)
from qcompiler.backends.coreml.lower.graph import Unsupported, lower, unsupported
from qcompiler.backends.coreml.lower.table import TABLE, Row

FAMILIES = {
    "activations": activation, "attention": attention, "control flow": control, "convolutions": conv, "cuts": cut,
    "elementwise": elementwise, "indices": index, "matrices": matrix, "normalisations": norm, "pools": pool,
    "quantization": quantized, "recurrent": recurrent, "reductions": reduce, "sampling": resize, "shapes": shape,
}  # fmt: skip
"""The modules that fill the table."""

__all__ = ["FAMILIES", "TABLE", "Row", "Unsupported", "lower", "unsupported"]
