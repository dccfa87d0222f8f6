"""BatchNormalization(x) -> Add(Mul(x, s), beta - mean * s), s = gamma / sqrt(var + epsilon), of shape (C, 1, ..., 1).

For what no linear operator absorbed: as Mul and Add the map can still be folded forward, merged with its neighbours, or
run in integers. Source: ONNX operator standard, BatchNormalization.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from qcompiler import ir
from qcompiler.passes.fusion.fold_batchnorm import batchnorm_refusal, scale_and_shift
from qcompiler.rewrite import Any, Const, Match, Op, Rule


@dataclass(frozen=True)
class DecomposeBatchnorm(Rule):
    """Writes an inference-mode BatchNormalization as a multiplication and an addition."""

    name: ClassVar[str] = "decompose-batchnorm"
    pattern: ClassVar[Op] = Op(
        "BatchNormalization",
        Any("x"),
        *(Const("gamma"), Const("beta"), Const("mean"), Const("var")),
        bind="bn",
    )

    def check(self, edit: ir.Editor, found: Match) -> str | None:
        """Refuses training mode, an unknown rank, and numbers that the type of x cannot hold."""
        if reason := batchnorm_refusal(edit, found):
            return reason
        what = f"BatchNormalization {found.root.name!r}"
        if (rank := _rank(found)) is None or rank < 2:
            return f"rank of {found.tensor('x').name!r}, input of {what}, is not known to be 2 or more"
        dtype = _dtype(found)
        if dtype is None or dtype.kind != "f":
            return f"{found.tensor('x').name!r}, input of {what}, is {dtype or 'of unknown type'}, not float"
        limit = np.finfo(dtype).max
        if not all((np.abs(values) <= limit).all() for values in scale_and_shift(found)):
            return f"scale or shift of {what} overflows {dtype}"
        return None

    def rewrite(self, edit: ir.Editor, found: Match) -> None:
        """Mul, then Add, in place of the node."""
        node, x = found.node("bn"), found.tensor("x")
        shape = [-1, *[1] * ((_rank(found) or 2) - 2)]
        scale, shift = (values.astype(_dtype(found)).reshape(shape) for values in scale_and_shift(found))
        mul = edit.add(
            "Mul", [x, edit.constant(f"{node.name}_scale", scale)], name=f"{node.name}_mul", like=found.output
        )
        inputs = [mul.outputs[0], edit.constant(f"{node.name}_shift", shift)]
        add = edit.add("Add", inputs, name=f"{node.name}_add", like=found.output)
        edit.replace_uses(found.output, add.outputs[0])


def _rank(found: Match) -> int | None:
    shapes = [tensor.shape for tensor in (found.tensor("x"), found.output) if tensor.shape is not None]
    return len(shapes[0]) if shapes else None


def _dtype(found: Match) -> np.dtype[np.floating] | None:
    # the parameters may be of another float type than x
    known = [tensor.dtype for tensor in (found.tensor("x"), found.output) if tensor.dtype is not None]
    return np.dtype(known[0]) if known else None
