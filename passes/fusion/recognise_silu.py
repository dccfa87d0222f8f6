"""x / (1 + Exp(-x)) -> Mul(x, Sigmoid(x)), the form of SiLU that every opset and every other rule knows.

With a factor inside the exponential (Swish with beta, QuickGelu) the expression stays as it is. Where Exp(-x)
overflows, both sides are 0.
Source: Ramachandran et al., Searching for Activation Functions, 2017.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from qcompiler import ir
from qcompiler.passes.fusion.forms import refusal, replace
from qcompiler.passes.fusion.recognise_sigmoid import one_plus_exp_minus
from qcompiler.rewrite import Any, Match, Op, Rule


@dataclass(frozen=True)
class RecogniseSilu(Rule):
    """Finds a SiLU that was written with Exp."""

    name: ClassVar[str] = "recognise-silu"
    pattern: ClassVar[tuple[Op, ...]] = tuple(Op("Div", Any("x"), divisor) for divisor in one_plus_exp_minus(Any("x")))

    def check(self, edit: ir.Editor, found: Match) -> str | None:
        """Refuses what is not floating point and constants that broaden the result."""
        return refusal(edit, found, "Sigmoid", 6, found.tensor("x"))

    def rewrite(self, edit: ir.Editor, found: Match) -> None:
        """A Sigmoid and a Mul."""
        x = found.tensor("x")
        gate = edit.add("Sigmoid", [x], name=f"{found.root.name}_Sigmoid", like=found.output)
        replace(edit, found, "Mul", [x, gate.outputs[0]])
