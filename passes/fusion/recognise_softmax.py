"""e / ReduceSum(e) -> Softmax(x),  e = Exp(x)  or  e = Exp(x - ReduceMax(x)).

Sums go over one axis and keep it. Softmax does not change when a value that is constant along the axis is subtracted,
so the maximum may go over more axes than the sum. Without the maximum, large x make the left side infinite or NaN where
Softmax is finite. Source: ONNX operator standard, Softmax 13.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from qcompiler import ir
from qcompiler.passes.fusion.forms import reduced_axes, refusal, replace, same_axes
from qcompiler.rewrite import Any, Const, Match, Op, Rule
from qcompiler.rewrite.pattern import Pattern

X, AXES = Any("x"), Const(optional=True)
SHIFTED = Op("Sub", X, Op("ReduceMax", X, AXES, bind="max"))


def forms() -> tuple[Op, ...]:
    """All the ways to write it; those with the maximum first."""
    found = []
    arguments: tuple[Pattern, ...] = (SHIFTED, X)
    for exponential in (Op("Exp", argument) for argument in arguments):
        total = Op("ReduceSum", exponential, AXES, bind="sum")
        found += [Op("Div", exponential, total), Op("Mul", exponential, Op("Reciprocal", total))]
    return tuple(found)


def axis_refusal(found: Match) -> str | None:
    """Why the bound reductions are not those of one Softmax."""
    axes = same_axes([found.node("sum")])
    if isinstance(axes, str):
        return axes
    if len(axes) != 1:
        return f"{found.node('sum').op} {found.node('sum').name!r} goes over {len(axes)} axes, Softmax over one"
    if (largest := found.get("max")) is not None:
        over = reduced_axes(largest)
        if over is None or not largest.attrs.get("keepdims", 1) or axes[0] not in over:
            return f"ReduceMax {largest.name!r} is not constant along axis {axes[0]}"
    return None


@dataclass(frozen=True)
class RecogniseSoftmax(Rule):
    """Finds a Softmax that was written out."""

    name: ClassVar[str] = "recognise-softmax"
    pattern: ClassVar[tuple[Op, ...]] = forms()

    def check(self, edit: ir.Editor, found: Match) -> str | None:
        """Refuses sums over several or unknown axes, and opsets below 13, where Softmax flattens."""
        return axis_refusal(found) or refusal(edit, found, "Softmax over one axis", 13, found.tensor("x"))

    def rewrite(self, edit: ir.Editor, found: Match) -> None:
        """One Softmax."""
        axes = reduced_axes(found.node("sum"))
        assert axes is not None
        replace(edit, found, "Softmax", [found.tensor("x")], {"axis": axes[0]})
