"""Sqrt(ReduceSum(x^2)) -> ReduceL2(x);  Sqrt(ReduceSumSquare(x)) -> ReduceL2(x).

This is the canonical form of an L2 normalisation: x / Clip(ReduceL2(x), eps, ). LpNormalization is not written: it has
no eps, and it gives 0 for a zero vector where x / ReduceL2(x) gives NaN. An eps inside the root, Sqrt(sum + eps), is
another function and stays. Source: ONNX operator standard, ReduceL2 (axes are an input since opset 18),
LpNormalization 22.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from qcompiler import ir
from qcompiler.passes.fusion.forms import FLOATS, reduce, reduced_axes, refusal, square
from qcompiler.rewrite import Any, Const, Match, Op, Rule

X, AXES = Any("x"), Const(optional=True)


@dataclass(frozen=True)
class RecogniseL2norm(Rule):
    """Finds the length of a vector that was written out."""

    name: ClassVar[str] = "recognise-l2norm"
    pattern: ClassVar[tuple[Op, ...]] = (
        *(Op("Sqrt", Op("ReduceSum", squared, AXES, bind="sum")) for squared in square(X)),
        Op("Sqrt", Op("ReduceSumSquare", X, AXES, bind="sum")),
    )

    def check(self, edit: ir.Editor, found: Match) -> str | None:
        """Refuses axes that are not known."""
        total = found.node("sum")
        if reduced_axes(total) is None:
            return f"axes of {total.op} {total.name!r} are not known"
        return refusal(edit, found, "ReduceL2", 1, found.tensor("x"), dtypes=FLOATS)

    def rewrite(self, edit: ir.Editor, found: Match) -> None:
        """One ReduceL2 over the same axes."""
        total = found.node("sum")
        axes = reduced_axes(total)
        assert axes is not None
        keepdims = int(total.attrs.get("keepdims", 1))
        reduce(edit, found, "ReduceL2", found.tensor("x"), axes, keepdims=keepdims, axes_since=18)
