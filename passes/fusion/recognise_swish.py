"""Mul(x, Sigmoid(x)) -> Swish(x), from opset 24 on.

Below that opset Mul(x, Sigmoid(x)) is the canonical form and stays. Sigmoid(beta * x) stays in every opset, since
quantizers treat the product as a tensor of its own. Source: ONNX operator standard, Swish 24 (alpha = 1).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from qcompiler import ir
from qcompiler.passes.fusion.forms import SHORT_FLOATS, refusal, replace
from qcompiler.rewrite import NOTHING_TO_DO, Any, Match, Op, Rule


@dataclass(frozen=True)
class RecogniseSwish(Rule):
    """Writes SiLU as one operator where the opset has one."""

    name: ClassVar[str] = "recognise-swish"
    pattern: ClassVar[Op] = Op("Mul", Any("x"), Op("Sigmoid", Any("x")))

    def check(self, edit: ir.Editor, found: Match) -> str | None:
        """Leaves the canonical form where the opset has no Swish; refuses float64."""
        if edit.model.opset < 24:
            return NOTHING_TO_DO
        return refusal(edit, found, "Swish", 24, found.tensor("x"), dtypes=SHORT_FLOATS)

    def rewrite(self, edit: ir.Editor, found: Match) -> None:
        """One Swish."""
        replace(edit, found, "Swish", [found.tensor("x")])
