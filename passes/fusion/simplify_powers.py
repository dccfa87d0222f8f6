"""Pow(x, 0.5) -> Sqrt(x);  Pow(x, -1) and Div(1, x) -> Reciprocal(x).

So that the recognisers of norms and activations meet one form of a root and of a reciprocal. Squares stay as they are:
a Pow may be kept in float where a Mul would be quantized. So does Pow(x, -0.5), which would become two nodes. For x < 0
a root is NaN in both forms; for x = -infinity, Pow(x, 0.5) is +infinity and Sqrt(x) is NaN.
Source: ONNX operator standard, Pow; IEEE 754, pow.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from qcompiler import ir
from qcompiler.passes.fusion.forms import refusal, replace
from qcompiler.rewrite import Any, Const, Match, Op, Rule


@dataclass(frozen=True)
class SimplifyPowers(Rule):
    """Writes roots and reciprocals as Sqrt and Reciprocal."""

    name: ClassVar[str] = "simplify-powers"
    pattern: ClassVar[tuple[Op, ...]] = (
        Op("Pow", Any("x"), Const("root", value=0.5, rtol=1e-6)),
        Op("Pow", Any("x"), Const(value=-1.0, rtol=1e-6)),
        Op("Div", Const(value=1.0, rtol=1e-6), Any("x")),
    )

    def check(self, edit: ir.Editor, found: Match) -> str | None:
        """Refuses what is not floating point and constants that broaden the result."""
        return refusal(edit, found, self._op(found), 6, found.tensor("x"))

    def rewrite(self, edit: ir.Editor, found: Match) -> None:
        """One node in place of the power."""
        replace(edit, found, self._op(found), [found.tensor("x")])

    def _op(self, found: Match) -> str:
        return "Sqrt" if found.get("root") is not None else "Reciprocal"
