"""x * Clip(x + 3, 0, 6) / 6 -> HardSwish(x), in every association;  x * HardSigmoid(x; 1/6, 1/2) -> HardSwish(x).

The division may stand last, at x, or at the Clip. x * Clip(x / 6 + 1/2, 0, 1) comes here as the second form, through
`recognise-hardsigmoid`.
Source: Howard et al., Searching for MobileNetV3, 2019; ONNX operator standard, HardSwish 14.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from qcompiler import ir
from qcompiler.passes.fusion.forms import RTOL, SHORT_FLOATS, const, products, refusal, replace
from qcompiler.rewrite import Any, Match, Op, Rule

X = Any("x")
RELU6 = Op("Clip", Op("Add", X, const(3.0)), const(0.0), const(6.0))


@dataclass(frozen=True)
class RecogniseHardswish(Rule):
    """Finds a HardSwish that was written out."""

    name: ClassVar[str] = "recognise-hardswish"
    pattern: ClassVar[tuple[Op, ...]] = (
        *products(X, RELU6, 1 / 6),
        Op("Mul", X, Op("HardSigmoid", X, bind="gate")),
    )

    def check(self, edit: ir.Editor, found: Match) -> str | None:
        """Refuses a HardSigmoid of another slope or offset, opsets below 14, and float64."""
        if (gate := found.get("gate")) is not None:
            alpha, beta = gate.attrs.get("alpha", 0.2), gate.attrs.get("beta", 0.5)
            if not np.allclose([alpha, beta], [1 / 6, 0.5], rtol=RTOL):
                return f"HardSigmoid {gate.name!r} has alpha {alpha:.4g}, beta {beta:.4g}; HardSwish has 1/6, 1/2"
        return refusal(edit, found, "HardSwish", 14, found.tensor("x"), dtypes=SHORT_FLOATS)

    def rewrite(self, edit: ir.Editor, found: Match) -> None:
        """One HardSwish."""
        replace(edit, found, "HardSwish", [found.tensor("x")])
