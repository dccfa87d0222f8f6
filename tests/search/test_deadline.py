"""Lengths of time as people write them, and what is left of one."""

from __future__ import annotations

import math

import pytest

from qcompiler.errors import UsageError
from qcompiler.recipe import Recipe
from qcompiler.search.deadline import NEVER, Deadline, seconds_of


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("10m", 600), ("90s", 90), ("1h30m", 5400), ("1.5h", 5400), ("45", 45), (45, 45), (0.5, 0.5), ("2 m 5 s", 125)],
)
def test_lengths_of_time(text: str | float, seconds: float) -> None:
    assert seconds_of(text) == seconds
    assert Recipe().updated({"time_budget": text}).time_budget == seconds


@pytest.mark.parametrize("text", ["", "soon", "10x", "m", "10m!", "-5"])
def test_what_is_none(text: str) -> None:
    with pytest.raises(UsageError, match="no length of time"):
        seconds_of(text)


def test_what_is_left() -> None:
    assert NEVER.left == math.inf and not NEVER.passed and NEVER.within(5) == 5
    assert Deadline.after(None) is NEVER
    over = Deadline.after(0)
    assert over.passed and over.left == 0 and over.within(5) == 1 and over.within(5, 0) == 0
    some = Deadline.after(100)
    assert not some.passed and 99 < some.left <= 100 and some.within(5) == 5 and 99 < some.within(500) <= 100
