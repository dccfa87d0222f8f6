"""How much may be lost, as a person writes it.

1pt, 1 point        hundredths of a share: 75 % may fall to 74 %. For metrics that are shares of 1
0.01                the same for a share; in the metric's own unit for any other metric (perplexity, decibels)
1%                  points for a share, relative for any other metric
1% relative, rel:1% of the float model's value: 75 % may fall to 74.25 %
none                anything
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from qcompiler.errors import UsageError

if TYPE_CHECKING:
    from qcompiler.analysis import Measure

Unit = Literal["", "%", "points", "relative", "none"]
GRAMMAR = re.compile(
    r"(?P<before>rel(?:ative)?\s*:?\s*)?(?P<number>[-+0-9.eE]+)\s*(?P<unit>%|pts?|points?)?(?P<after>\s*rel(?:ative)?)?"
)
HINT = 'write "1%", "1pt", 0.01, "1% relative" or none'


@dataclass(frozen=True)
class Limit:
    """The largest accepted loss.

    Attributes:
        amount: as a fraction: 0.01 for 1 %.
        unit: what it is a fraction of.
        stated: someone asked for it; if not, it steers the choice, and no compile fails by it.
    """

    amount: float = 0.01
    unit: Unit = "%"
    stated: bool = True

    @staticmethod
    def of(value: str | float | Limit) -> Limit:
        """The limit that a text or a number states.

        Raises:
            UsageError: it states none.
        """
        if isinstance(value, Limit):
            return value
        text = str(value).strip()
        if text.lower() == "none":
            return Limit(math.inf, "none")
        found = GRAMMAR.fullmatch(text)
        try:
            number = float(found["number"]) if found else math.nan
        except ValueError:
            number = math.nan
        if found is None or math.isnan(number):
            raise UsageError(f"{value!r} is not a share", where="max_drop", hint=HINT)
        relative, unit = bool(found["before"] or found["after"]), found["unit"] or ""
        if relative and unit not in ("%", ""):
            raise UsageError(f"{value!r} is both points and relative", where="max_drop", hint=HINT)
        kind: Unit = "relative" if relative else "%" if unit == "%" else "points" if unit else ""
        limit = Limit(number / 100 if unit else number, kind)
        if not 0 <= limit.amount < math.inf or (limit.unit in ("%", "points", "relative") and limit.amount > 1):
            raise UsageError(f"{value!r} is out of range", where="max_drop", hint="from 0 to 100%")
        return limit

    @property
    def promised(self) -> bool:
        """Whether a compile can fail by it."""
        return self.stated and self.unit != "none"

    def __str__(self) -> str:
        match self.unit:
            case "none":
                return "none"
            case "":
                return f"{self.amount:g}"
            case "points":
                return f"{100 * self.amount:g} point" + ("" if self.amount == 0.01 else "s")
            case _:
                return f"{100 * self.amount:g}%" + (" relative" if self.unit == "relative" else "")

    def in_units_of(self, measure: Measure, base: float) -> float | None:
        """The limit in the unit of a measure's loss, where the float model reaches `base`; None where there is none.

        Raises:
            UsageError: points of what is no share, a share of more than 1, or a part of 0.
        """
        share = measure.unit in ("share", "noise")
        if self.unit == "none":
            return None
        if self.unit == "points" and not share:
            hint = "write a number in the metric's own unit, or per cent"
            raise UsageError(f"{measure.title} has no points", where="--max-drop", hint=hint)
        if share and self.amount > 1:
            raise UsageError(f"{self} is more than all of {measure.title}", where="--max-drop", hint=HINT)
        if self.unit in ("", "points") or (self.unit == "%" and share):
            return self.amount
        if base > 0 and math.isfinite(base):
            return self.amount * base
        if not self.stated:
            return None
        hint = "write a number in the metric's own unit"
        raise UsageError(f"{self} of {base:g}, float's {measure.title}, is nothing", where="--max-drop", hint=hint)


UNSTATED = Limit(stated=False)
