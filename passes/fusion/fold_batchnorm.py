"""BatchNormalization(Conv(x, W, b)) -> Conv(x, W * s, (b - mean) * s + beta), s = gamma / sqrt(var + epsilon).

The same holds for ConvTranspose, whose output channel is axis 1 of W within each group, and for Gemm, where it is the
column of op(B) and the constant C takes the place of b. Source: ONNX operator standard, BatchNormalization.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from qcompiler import ir
from qcompiler.passes.fusion.linear import Linear
from qcompiler.rewrite import Any, Const, Match, Op, Rule


def scale_and_shift(found: Match) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """The per-channel affine form y = x * scale + shift of the bound BatchNormalization."""
    gamma, beta, mean, var = (found.value(name).astype(np.float64) for name in ("gamma", "beta", "mean", "var"))
    scale = gamma / np.sqrt(var + float(found.node("bn").attrs.get("epsilon", 1e-5)))
    return scale, beta - mean * scale


def in_training(node: ir.Node) -> bool:
    """Whether a BatchNormalization computes statistics of its input."""
    return bool(node.attrs.get("training_mode", 0)) or sum(bool(t.name) for t in node.outputs) > 1


@dataclass(frozen=True)
class FoldBatchnorm(Rule):
    """Folds an inference-mode BatchNormalization into the linear operator that feeds it."""

    name: ClassVar[str] = "fold-batchnorm"
    pattern: ClassVar[Op] = Op(
        "BatchNormalization",
        Op("Conv|ConvTranspose|Gemm", Any("x"), Any("w"), Any("b", optional=True), bind="linear"),
        *(Const("gamma"), Const("beta"), Const("mean"), Const("var")),
        bind="bn",
    )

    def check(self, edit: ir.Editor, found: Match) -> str | None:
        """Refuses training mode and whatever `Linear` cannot absorb."""
        if in_training(found.node("bn")):
            return f"BatchNormalization {found.root.name!r} is in training mode"
        return Linear(found.node("linear")).refusal()

    def rewrite(self, edit: ir.Editor, found: Match) -> None:
        """Writes new weights and bias; the linear operator takes over the output."""
        scale, shift = scale_and_shift(found)
        Linear(found.node("linear")).absorb(edit, scale, shift)
        edit.replace_uses(found.output, found.node("linear").outputs[0])
