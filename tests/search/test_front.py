"""The Pareto front."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from qcompiler.search.front import Point, dominates, front

FIGURE = st.one_of(st.none(), st.integers(0, 3).map(float))
POINTS = st.lists(st.builds(Point, FIGURE, FIGURE, FIGURE, st.integers(0, 3)), max_size=8)
WHOLE = st.lists(st.builds(Point, *[st.integers(0, 3).map(float)] * 3, st.integers(0, 3)), min_size=1, max_size=8)


@given(POINTS)
def test_nothing_on_the_front_is_dominated(points: list[Point]) -> None:
    chosen = front(points)
    assert list(chosen) == sorted(set(chosen))
    for i in chosen:
        assert not any(dominates(points[j], points[i]) for j in range(len(points)) if j != i)


@given(WHOLE)
def test_everything_else_is_dominated_by_the_front_or_equal_to_it(points: list[Point]) -> None:
    chosen = front(points)
    assert chosen
    for i in set(range(len(points))) - set(chosen):
        assert any(points[j] == points[i] or dominates(points[j], points[i]) for j in chosen)


def test_faster_smaller_and_more_accurate_are_three_ways_to_be_on_it() -> None:
    exact, fast, small = Point(0.0, -90.0, 1.0, 100), Point(0.2, -20.0, 0.4, 50), Point(0.3, -15.0, 0.8, 20)
    slow = Point(0.2, -20.0, 0.9, 50)
    assert front([exact, fast, small, slow]) == (0, 1, 2)


def test_what_is_no_number_dominates_nothing() -> None:
    assert front([Point(math.nan, None, 0.1, 1), Point(0.0, None, 1.0, 2)]) == (0, 1)
    assert front([Point(None, None, None, 5), Point(None, None, None, 5)]) == (0,)
