"""Looks spend alpha once, and stopping when one likes keeps the stated confidence."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qcompiler.numerics.exact_drop import refuted
from qcompiler.numerics.looks import Looks


@given(st.none() | st.integers(1, 10**6), st.floats(0.001, 0.5))
def test_nothing_is_spent_twice(total: int | None, alpha: float) -> None:
    looks = Looks(total, alpha)
    assert sum(looks.early.values()) + looks.last == pytest.approx(alpha)
    assert looks.last >= 0.75 * alpha
    assert total is None or all(at < total for at in looks.early)


def test_few_samples_are_looked_at_once() -> None:
    assert Looks(90, 0.05).early == {} and Looks(90, 0.05).last == 0.05
    assert list(Looks(512, 0.05).early) == [64, 256]


@functools.cache
def under(lost: int, gained: int, total: int, alpha: float, drop: float) -> bool:
    """Whether the upper bound is under `drop`; of the mirrored counts, whether the lower one is over `-drop`."""
    return refuted(lost, gained, total, drop, alpha)


@pytest.mark.parametrize(("lost", "gained"), [(0.011, 0.001), (0.01, 0.0), (0.02, 0.005), (0.004, 0.001)])
def test_simulated_coverage_when_evaluation_stops_at_a_clear_verdict(lost: float, gained: float) -> None:
    """The bounds at the look where it stopped miss the true drop in 5 % of all runs at most, each."""
    random, limit, runs, true = np.random.default_rng(9), 0.01, 300, lost - gained
    looks = Looks(1600, 0.05)
    levels = {**looks.early, 1600: looks.last}
    missed, early = np.zeros(2), 0
    for _ in range(runs):
        seen = b = c = 0
        for at, alpha in levels.items():
            more = random.multinomial(at - seen, [lost, gained, 1 - lost - gained])
            seen, b, c = at, b + int(more[0]), c + int(more[1])
            if under(b, c, at, alpha, limit) or under(c, b, at, alpha, -limit):
                break
        early += seen < 1600
        missed += [under(c, b, seen, alpha, -true), under(b, c, seen, alpha, true)]
    assert (missed / runs <= 0.05 + 2.3 * np.sqrt(0.05 * 0.95 / runs)).all()
    assert early > 0 or abs(true - limit) < 1e-9
