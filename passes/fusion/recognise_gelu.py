"""x/2 (1 + Erf(x / sqrt 2)) -> Gelu(x);  x/2 (1 + Tanh(sqrt(2/pi) (x + 0.044715 x^3))) -> Gelu(x; approximate=tanh).

The factor 1/2 may stand anywhere, also inside the bracket. The argument of Erf or Tanh is read as a polynomial in x,
so that it may be written in any way. Source: Hendrycks and Gimpel, Gaussian Error Linear Units, 2016; ONNX operator
standard, Gelu 20.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from qcompiler import ir
from qcompiler.passes.fusion.forms import RTOL, SHORT_FLOATS, const, products, refusal, replace, times
from qcompiler.passes.fusion.polynomial import close, polynomial
from qcompiler.rewrite import Any, Match, Op, Rule

X = Any("x")
CURVE = Op("Erf|Tanh", Any("z"), bind="curve")
HALVES = tuple(Op("Add", half, const(0.5)) for half in times(CURVE, 0.5))
WANTED = {
    "Erf": ("x / sqrt(2)", [0, math.sqrt(0.5)]),
    "Tanh": ("sqrt(2 / pi) (x + 0.044715 x^3)", [0, math.sqrt(2 / math.pi), 0, math.sqrt(2 / math.pi) * 0.044715]),
}


@dataclass(frozen=True)
class RecogniseGelu(Rule):
    """Finds a GELU, exact or approximate, that was written out."""

    name: ClassVar[str] = "recognise-gelu"
    pattern: ClassVar[tuple[Op, ...]] = (
        *products(X, Op("Add", CURVE, const(1.0)), 0.5),
        *(Op("Mul", X, half) for half in HALVES),
    )

    def check(self, edit: ir.Editor, found: Match) -> str | None:
        """Refuses another argument of Erf or Tanh, opsets below 20, and float64."""
        curve, x = found.node("curve"), found.tensor("x")
        name, wanted = WANTED[curve.op]
        argument = polynomial(found.tensor("z"), x)
        if argument is None or not close(argument[0], wanted, RTOL):
            return f"the argument of {curve.op} {curve.name!r} is not {name} with x = {x.name!r}"
        # the driver erases what it finds here, if nobody else uses it
        found.inner += [(node, True) for node in argument[1]]
        return refusal(edit, found, "Gelu", 20, x, dtypes=SHORT_FLOATS)

    def rewrite(self, edit: ir.Editor, found: Match) -> None:
        """One Gelu."""
        approximate = "tanh" if found.node("curve").op == "Tanh" else "none"
        replace(edit, found, "Gelu", [found.tensor("x")], {"approximate": approximate})
