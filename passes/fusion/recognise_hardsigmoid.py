"""Clip(a x + b, 0, 1) -> HardSigmoid(x; a, b);  Clip(x + q, 0, 6) / 6 -> HardSigmoid(x; 1/6, q/6).

The argument of the first form may be written a (x + b/a), and a as a division. The offset q of the second may be
absent: exporters fold it into the bias of the Conv in front, and Clip(x, 0, 6) / 6 = HardSigmoid(x; 1/6, 0) is left.
The slope is the constant as written; the end of the ramp becomes exactly 1, where 6 * 0.16667 is 1.00002. Relu6, Min
and Max become Clip before this rule runs (`min-max-to-clip`, `merge-clips`).
Source: ONNX operator standard, HardSigmoid: max(0, min(1, alpha x + beta)).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from qcompiler import ir
from qcompiler.passes.fusion.forms import RTOL, SHORT_FLOATS, const, refusal, replace, scalar
from qcompiler.rewrite import Any, Const, Match, Op, Rule

X = Any("x")


def relu6(inner: Any | Op) -> Op:
    """Clip(inner, 0, 6)."""
    return Op("Clip", inner, const(0.0), const(6.0))


def sixth(inner: Op) -> tuple[Op, Op]:
    """inner / 6; the constant itself is the slope, so that 0.16667 stays 0.16667."""
    return (
        Op("Mul", inner, Const("a", value=1 / 6, rtol=RTOL)),
        Op("Div", inner, Const("inverse_a", value=6.0, rtol=RTOL)),
    )


def unit_clip(inner: Op) -> Op:
    """Clip(inner, 0, 1)."""
    return Op("Clip", inner, const(0.0), const(1.0))


@dataclass(frozen=True)
class RecogniseHardsigmoid(Rule):
    """Finds a HardSigmoid that was written out."""

    name: ClassVar[str] = "recognise-hardsigmoid"
    pattern: ClassVar[tuple[Op, ...]] = (
        *sixth(relu6(Op("Add", X, Const("b_over_a")))),
        *sixth(relu6(X)),
        unit_clip(Op("Add", Op("Mul", X, Const("a")), Const("b"))),
        unit_clip(Op("Add", Op("Div", X, Const("inverse_a")), Const("b"))),
        unit_clip(Op("Mul", Op("Add", X, Const("b_over_a")), Const("a"))),
        unit_clip(Op("Div", Op("Add", X, Const("b_over_a")), Const("inverse_a"))),
    )

    def check(self, edit: ir.Editor, found: Match) -> str | None:
        """Refuses constants with more than one element, a slope that is not positive and finite, and float64."""
        reason = refusal(edit, found, "HardSigmoid", 6, found.tensor("x"), dtypes=SHORT_FLOATS)
        if reason is None and not 0 < slope(found) < math.inf:
            return f"the slope inside Clip is {slope(found):.4g}"
        return reason

    def rewrite(self, edit: ir.Editor, found: Match) -> None:
        """One HardSigmoid with the slope and offset found."""
        alpha = slope(found)
        if (late := scalar(found.get("b"))) is not None:
            beta = late
        else:
            beta = alpha * (scalar(found.get("b_over_a")) or 0.0)
        replace(edit, found, "HardSigmoid", [found.tensor("x")], {"alpha": alpha, "beta": beta})


def slope(found: Match) -> float:
    """alpha: the factor of x in front of the Clip, or of all of it behind."""
    divisor, factor = scalar(found.get("inverse_a")), scalar(found.get("a"))
    if divisor is not None:
        return 1 / divisor if divisor else math.inf
    return math.nan if factor is None else factor
