"""1 / (1 + Exp(-x)) -> Sigmoid(x).

For large negative x the left side overflows to 1 / infinity = 0, which is also the limit of Sigmoid.
Source: ONNX operator standard, Sigmoid.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from qcompiler import ir
from qcompiler.passes.fusion.forms import const, negated, refusal, replace
from qcompiler.rewrite import Any, Match, Op, Rule


def one_plus_exp_minus(x: Any) -> tuple[Op, ...]:
    """1 + Exp(-x)."""
    return tuple(Op("Add", Op("Exp", minus), const(1.0)) for minus in negated(x))


@dataclass(frozen=True)
class RecogniseSigmoid(Rule):
    """Finds a Sigmoid that was written out."""

    name: ClassVar[str] = "recognise-sigmoid"
    pattern: ClassVar[tuple[Op, ...]] = tuple(
        form
        for divisor in one_plus_exp_minus(Any("x"))
        for form in (Op("Reciprocal", divisor), Op("Div", const(1.0), divisor))
    )

    def check(self, edit: ir.Editor, found: Match) -> str | None:
        """Refuses what is not floating point and constants that broaden the result."""
        return refusal(edit, found, "Sigmoid", 6, found.tensor("x"))

    def rewrite(self, edit: ir.Editor, found: Match) -> None:
        """One Sigmoid."""
        replace(edit, found, "Sigmoid", [found.tensor("x")])
