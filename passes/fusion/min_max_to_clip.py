"""Max(x, a) -> Clip(x, a, );  Min(x, b) -> Clip(x, , b).

a and b are constants with one element. One form for every bound lets `merge-clips` join them, and lets the planner
read the range of a tensor. Comparison with NaN is left open by the standard and may differ between the forms.
Source: ONNX operator standard, Clip 12 (bounds are inputs; integer types are allowed but are left alone here).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from qcompiler import ir
from qcompiler.passes.fusion.forms import refusal, replace
from qcompiler.rewrite import Any, Const, Match, Op, Rule


@dataclass(frozen=True)
class MinMaxToClip(Rule):
    """Writes one-sided bounds as Clip."""

    name: ClassVar[str] = "min-max-to-clip"
    pattern: ClassVar[Op] = Op("Min|Max", Any("x"), Const("bound"), commutative=True)

    def check(self, edit: ir.Editor, found: Match) -> str | None:
        """Refuses bounds that are not one number."""
        return refusal(edit, found, "Clip", 11, found.tensor("x"))

    def rewrite(self, edit: ir.Editor, found: Match) -> None:
        """A Clip with one bound of rank 0."""
        x = found.tensor("x")
        bound = edit.constant(f"{found.root.name}_bound", found.value("bound").reshape(()))
        replace(edit, found, "Clip", [x, bound] if found.root.op == "Max" else [x, None, bound])
