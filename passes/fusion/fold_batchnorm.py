"""BatchNormalization(Conv(x, W, b)) -> Conv(x, W * s, (b - mean) * s + beta), s = gamma / sqrt(var + epsilon).

The same holds for ConvTranspose, whose output channel is axis 1 of W within each group, and for Gemm, where it is the
column of op(B) and the constant C takes the place of b. Source: ONNX operator standard, BatchNormalization.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from qcompiler import ir
from qcompiler.passes.fusion.linear import BIASED, Linear, Vector, linear
from qcompiler.rewrite import Const, Match, Op, Rule


def scale_and_shift(found: Match) -> tuple[Vector, Vector]:
    """The per-channel affine form y = x * scale + shift of the bound BatchNormalization."""
    gamma, beta, mean, var = (found.value(name).astype(np.float64) for name in ("gamma", "beta", "mean", "var"))
    scale = gamma / np.sqrt(var + float(found.node("bn").attrs.get("epsilon", 1e-5)))
    return scale, beta - mean * scale


def batchnorm_refusal(edit: ir.Editor, found: Match) -> str | None:
    """Why the bound BatchNormalization is no affine map per channel: its mode, or its numbers."""
    node = found.node("bn")
    what = f"BatchNormalization {node.name!r}"
    # before opset 7 the default was training
    tested = node.attrs.get("is_test", 0) if edit.model.opset < 7 else 1
    if not tested or node.attrs.get("training_mode", 0) or sum(bool(t.name) for t in node.outputs) > 1:
        return f"{what} is in training mode"
    if not node.attrs.get("spatial", 1):
        return f"{what} has statistics for every position"
    for name in ("gamma", "beta", "mean", "var"):
        tensor = found.tensor(name)
        if np.dtype(tensor.dtype).kind != "f" or list(tensor.shape) != list(found.tensor("gamma").shape):
            return f"{tensor.name!r} of {what} is {tensor.dtype} of shape {list(tensor.shape)}"
    var = found.value("var").astype(np.float64) + float(node.attrs.get("epsilon", 1e-5))
    if not (var > 0).all():
        return f"variance + epsilon of {what} is not positive in channel {int(np.argmin(var > 0))}"
    return None


@dataclass(frozen=True)
class FoldBatchnorm(Rule):
    """Folds an inference-mode BatchNormalization into the linear operator that feeds it."""

    name: ClassVar[str] = "fold-batchnorm"
    pattern: ClassVar[Op] = Op(
        "BatchNormalization",
        linear(BIASED),
        *(Const("gamma"), Const("beta"), Const("mean"), Const("var")),
        bind="bn",
    )

    def check(self, edit: ir.Editor, found: Match) -> str | None:
        """Refuses training mode, whatever `Linear` cannot absorb, and numbers that the weight's type cannot hold."""
        view = Linear(found.node("linear"))
        if reason := batchnorm_refusal(edit, found) or view.refusal():
            return reason
        scale, shift = scale_and_shift(found)
        if scale.shape != (view.channels,):
            return f"BatchNormalization {found.root.name!r} has {scale.size} channels, its input {view.channels}"
        return view.unsafe(scale, shift)

    def rewrite(self, edit: ir.Editor, found: Match) -> None:
        """Writes new weights and bias; the linear operator takes over the output."""
        Linear(found.node("linear")).absorb(edit, *scale_and_shift(found))
        edit.replace_uses(found.output, found.node("linear").outputs[0])
