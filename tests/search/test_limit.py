"""How much may be lost, as it is written and as it is meant."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qcompiler.analysis.measures import Agreement, Fidelity, Measure
from qcompiler.analysis.measures_of_text import Perplexity
from qcompiler.analysis.measures_of_values import SquaredError
from qcompiler.errors import UsageError
from qcompiler.search.limit import UNSTATED, Limit


@pytest.mark.parametrize(
    ("text", "of_a_share", "of_a_perplexity_of_4"),
    [
        ("1%", 0.01, 0.04), ("0.5 %", 0.005, 0.02), (0.01, 0.01, 0.01), ("1e-2", 0.01, 0.01), ("0", 0.0, 0.0),
        ("1% relative", 0.0075, 0.04), ("rel:1%", 0.0075, 0.04), ("relative 1%", 0.0075, 0.04), ("none", None, None),
        ("0.01 rel", 0.0075, 0.04),
    ],
)  # fmt: skip
def test_what_a_limit_means(text: str | float, of_a_share: float | None, of_a_perplexity_of_4: float | None) -> None:
    limit = Limit.of(text)
    assert limit.in_units_of(Agreement("y"), 0.75) == (None if of_a_share is None else pytest.approx(of_a_share))
    found = limit.in_units_of(Perplexity("y"), 4.0)
    assert found == (None if of_a_perplexity_of_4 is None else pytest.approx(of_a_perplexity_of_4))


@pytest.mark.parametrize("text", ["1pt", "1 pt", "1 point", "1 points", "1pts"])
def test_points_are_hundredths_of_a_share(text: str) -> None:
    assert Limit.of(text).in_units_of(Agreement("y"), 0.75) == 0.01
    with pytest.raises(UsageError, match="perplexity has no points"):
        Limit.of(text).in_units_of(Perplexity("y"), 4.0)


@pytest.mark.parametrize(
    "text", ["little", "", "%", "1%%", "nan", "-1%", "150%", "rel:1pt", "1pt relative", "inf", "1 2"]
)
def test_what_is_no_limit(text: str) -> None:
    with pytest.raises(UsageError, match="max_drop"):
        Limit.of(text)


def test_what_does_not_fit_the_metric() -> None:
    with pytest.raises(UsageError, match="3 is more than all of top-1 agreement"):
        Limit.of(3).in_units_of(Agreement("y"), 1.0)
    assert Limit.of(3).in_units_of(Perplexity("y"), 4.0) == 3
    of_nothing: Measure = SquaredError("y")
    with pytest.raises(UsageError, match="1% of 0, float's mse against float, is nothing"):
        Limit.of("1%").in_units_of(of_nothing, 0.0)
    assert UNSTATED.in_units_of(of_nothing, 0.0) is None
    assert Limit.of("1%").in_units_of(Fidelity(), 1.0) == 0.01


@given(st.floats(0, 1), st.sampled_from(["%", "points", "relative", ""]))
def test_a_limit_is_written_as_it_is_read(amount: float, unit: str) -> None:
    limit = Limit(round(amount, 4), unit)  # type: ignore[arg-type]
    again = Limit.of(str(limit))
    assert (again.unit, again.amount) == (limit.unit, pytest.approx(limit.amount))
    assert Limit.of(limit) is limit


def test_only_what_was_asked_for_can_fail() -> None:
    assert Limit.of("1%").promised and not UNSTATED.promised and not Limit.of("none").promised
    assert str(UNSTATED) == "1%" and Limit.of("1%") != UNSTATED
