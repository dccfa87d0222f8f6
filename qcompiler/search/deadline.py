"""When a search has to be over: asked before anything new is begun, so that the best so far is what comes out."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from time import monotonic

from qcompiler.errors import UsageError

_PART = re.compile(r"(\d+(?:\.\d+)?)\s*(h|m|s|)")
_SECONDS = {"h": 3600.0, "m": 60.0, "s": 1.0, "": 1.0}


@dataclass(frozen=True)
class Deadline:
    """A moment of the monotonic clock.

    Attributes:
        ends: that moment; infinite for never.
    """

    ends: float = math.inf

    @staticmethod
    def after(seconds: float | None) -> Deadline:
        """So many seconds from now; None for never."""
        return NEVER if seconds is None else Deadline(monotonic() + seconds)

    @property
    def left(self) -> float:
        """Seconds, 0 when it has passed."""
        return max(0.0, self.ends - monotonic())

    @property
    def passed(self) -> bool:
        """Whether nothing new should be begun."""
        return self.left == 0.0

    def within(self, seconds: float, least: float = 1.0) -> float:
        """As much of `seconds` as is left, and `least` in any case."""
        return min(seconds, max(least, self.left))


NEVER = Deadline()


def seconds_of(text: str | float) -> float:
    """ "10m", "90s", "1h30m" or a number of seconds.

    Raises:
        UsageError: something else.
    """
    parts = _PART.findall(str(text).strip())
    if not parts or "".join(_PART.sub("", str(text)).split()):
        raise UsageError(f"{text!r} is no length of time", where="time_budget", hint='write "10m", "90s" or "1h30m"')
    return sum(float(number) * _SECONDS[unit] for number, unit in parts)
