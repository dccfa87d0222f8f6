"""Log(Softmax(x)) -> LogSoftmax(x);  x - Log(ReduceSum(Exp(x))) -> LogSoftmax(x), also of x - ReduceMax(x).

ReduceLogSumExp(x) and ReduceLogSum(Exp(x)) may stand for Log(ReduceSum(Exp(x))). Where Softmax underflows to 0 the left
side is -infinity and LogSoftmax is finite. Source: ONNX operator standard, LogSoftmax 13.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from qcompiler import ir
from qcompiler.passes.fusion.forms import reduced_axes, refusal, replace
from qcompiler.passes.fusion.recognise_softmax import AXES, SHIFTED, X, axis_refusal
from qcompiler.rewrite import Match, Op, Rule
from qcompiler.rewrite.pattern import Pattern


def forms() -> tuple[Op, ...]:
    """All the ways to write it; those with the maximum first."""
    found = [Op("Log", Op("Softmax", X, bind="softmax"))]
    arguments: tuple[Pattern, ...] = (SHIFTED, X)
    for x in arguments:
        found += [
            Op("Sub", x, Op("Log", Op("ReduceSum", Op("Exp", x), AXES, bind="sum"))),
            Op("Sub", x, Op("ReduceLogSum", Op("Exp", x), AXES, bind="sum")),
            Op("Sub", x, Op("ReduceLogSumExp", x, AXES, bind="sum")),
        ]
    return tuple(found)


@dataclass(frozen=True)
class RecogniseLogsoftmax(Rule):
    """Finds a LogSoftmax that was written out."""

    name: ClassVar[str] = "recognise-logsoftmax"
    pattern: ClassVar[tuple[Op, ...]] = forms()

    def check(self, edit: ir.Editor, found: Match) -> str | None:
        """Refuses sums over several or unknown axes, and opsets below 13, where Softmax flattens."""
        reason = axis_refusal(found) if found.get("sum") is not None else None
        return reason or refusal(edit, found, "LogSoftmax over one axis", 13, found.tensor("x"))

    def rewrite(self, edit: ir.Editor, found: Match) -> None:
        """One LogSoftmax."""
        if (softmax := found.get("softmax")) is not None:
            axis = softmax.attrs.get("axis", -1)
        else:
            axes = reduced_axes(found.node("sum"))
            assert axes is not None
            axis = axes[0]
        replace(edit, found, "LogSoftmax", [found.tensor("x")], {"axis": axis})
