"""Clip(x, 0, ) -> Relu(x);  an upper bound of infinity or of the largest float32 counts as none.

Source: ONNX operator standard, Clip and Relu.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from qcompiler import ir
from qcompiler.passes.fusion.forms import refusal, replace, scalar
from qcompiler.rewrite import NOTHING_TO_DO, Any, Const, Match, Op, Rule

NO_BOUND = (float("inf"), float(np.finfo(np.float32).max))


@dataclass(frozen=True)
class ClipToRelu(Rule):
    """Clip from 0 upwards is Relu."""

    name: ClassVar[str] = "clip-to-relu"
    pattern: ClassVar[tuple[Op, ...]] = (
        Op("Clip", Any("x"), Const("low", value=0.0)),
        *(Op("Clip", Any("x"), Const("low", value=0.0), Const(value=bound)) for bound in NO_BOUND),
    )

    def check(self, edit: ir.Editor, found: Match) -> str | None:
        """Leaves a bound that is only nearly 0: it guards a division."""
        if scalar(found.tensor("low")) != 0:
            return NOTHING_TO_DO
        return refusal(edit, found, "Relu", 6, found.tensor("x"))

    def rewrite(self, edit: ir.Editor, found: Match) -> None:
        """A Relu in its place."""
        replace(edit, found, "Relu", [found.tensor("x")])
