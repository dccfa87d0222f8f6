"""Intervals of the drop: published values, the score equation, and coverage by seeded simulation."""

from __future__ import annotations

import functools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qcompiler.errors import DataError, InternalError
from qcompiler.numerics.paired import drop_interval, paired_drop, paired_mean_drop


@pytest.mark.parametrize(
    ("lost", "gained", "total", "confidence", "low", "high"),
    [
        # Airway data of Bentur et al. in Fagerland, Lydersen, Laake (2014), and the lens data of Tango (1998).
        (1, 7, 21, 0.95, -0.517, -0.026),
        (0, 1, 44, 0.90, -0.096, 0.037),
    ],
)
def test_published_intervals(lost: int, gained: int, total: int, confidence: float, low: float, high: float) -> None:
    drop = drop_interval(lost, gained, total, confidence)
    assert drop.drop == (lost - gained) / total
    assert (drop.ci_low, drop.ci_high) == pytest.approx((low, high), abs=5e-4)


counts = st.tuples(st.integers(0, 60), st.integers(0, 60), st.integers(0, 300)).filter(sum)


@given(cells=counts)
def test_limits_are_roots_of_the_closed_form(cells: tuple[int, int, int]) -> None:
    """Both limits solve the quartic of Yang, Sun, Hardin (2013), reached here by bisection of the score."""
    b, c, concordant = cells
    n, g = b + c + concordant, 1.959963984540054**2
    d = b - c
    quartic = [
        n**2 * (n / g + 1) ** 2,
        -n * d * (n / g + 1) * (4 * n / g + 1),
        2 * n * d**2 * (3 * n / g + 2) / g - n**2 * ((b + c) / g + 1),
        n * d * (2 * (b + c) / g + 1) - d**3 * (4 * n / g + 1) / g,
        d**2 * (d**2 / g - (b + c)) / g,
    ]
    drop = drop_interval(b, c, n)
    roots = np.roots(quartic)
    for limit in (drop.ci_low, drop.ci_high):
        if abs(limit) < 1 - 1e-9:
            assert np.abs(roots - limit).min() < 1e-5


@given(cells=counts, confidence=st.sampled_from([0.5, 0.9, 0.95, 0.99]))
def test_intervals_are_ordered_and_mirrored(cells: tuple[int, int, int], confidence: float) -> None:
    b, c, concordant = cells
    n = b + c + concordant
    drop = drop_interval(b, c, n, confidence)
    assert -1 <= drop.ci_low <= drop.drop <= drop.ci_high <= 1
    assert drop.ci_low < drop.ci_high
    mirrored = drop_interval(c, b, n, confidence)
    assert (-mirrored.ci_high, -mirrored.ci_low) == pytest.approx((drop.ci_low, drop.ci_high), abs=1e-9)
    wider = drop_interval(b, c, n, (1 + confidence) / 2)
    assert wider.ci_low <= drop.ci_low + 1e-12 and wider.ci_high >= drop.ci_high - 1e-12


def test_no_difference_is_not_certainty() -> None:
    # z**2 / (n + z**2): what 250 equal decisions can still hide.
    drop = drop_interval(0, 0, 250)
    assert drop.ci_high == pytest.approx(3.8414588 / 253.8414588, rel=1e-6) == -drop.ci_low


@functools.cache
def interval(lost: int, gained: int, total: int) -> tuple[float, float, float]:
    return drop_interval(lost, gained, total)


@pytest.mark.parametrize(
    ("total", "lost", "gained"), [(50, 0.02, 0.02), (250, 0.01, 0.004), (250, 0.05, 0.03), (1000, 0.004, 0.002)]
)
def test_coverage_of_the_accuracy_drop(total: int, lost: float, gained: float) -> None:
    draws = np.random.default_rng(11).multinomial(total, [lost, gained, 1 - lost - gained], size=4000)
    hits = 0
    for b, c, _ in draws.tolist():
        _, low, high = interval(b, c, total)
        hits += low <= lost - gained <= high
    assert 0.94 <= hits / 4000 <= 0.995


def test_paired_drop_counts_hits() -> None:
    before = np.array([1, 1, 1, 0, 0, 1, 1, 0], bool)
    after = np.array([1, 0, 1, 1, 0, 0, 1, 0], bool)
    assert paired_drop(before, after) == drop_interval(2, 1, 8)
    assert paired_drop(before, before).drop == 0


@pytest.mark.parametrize("draw", ["normal", "uniform"])
def test_coverage_of_the_mean_drop(draw: str) -> None:
    random = np.random.default_rng(12)
    hits = 0
    for _ in range(3000):
        before = random.normal(0.8, 0.1, 30)
        noise = random.normal(0.01, 0.05, 30) if draw == "normal" else random.uniform(-0.04, 0.06, 30)
        drop = paired_mean_drop(before, before - noise)
        hits += drop.ci_low <= 0.01 <= drop.ci_high
    assert 0.94 <= hits / 3000 <= 0.96


def test_mean_drop_by_hand() -> None:
    drop = paired_mean_drop([3.0, 5.0, 4.0], [2.0, 3.0, 4.0])
    # Differences 1, 2, 0: mean 1, deviation 1, t of 2 degrees of freedom 4.302653.
    assert drop == pytest.approx((1.0, 1 - 4.302653 / math.sqrt(3), 1 + 4.302653 / math.sqrt(3)), abs=1e-5)
    assert paired_mean_drop([1.0], [0.5]) == (0.5, -math.inf, math.inf)
    assert paired_mean_drop([1.0, 2.0], [0.5, 1.5]) == (0.5, 0.5, 0.5)


def test_refusals() -> None:
    with pytest.raises(DataError, match="no samples"):
        paired_drop([], [])
    with pytest.raises(DataError, match="2 samples of the float model beside 1"):
        paired_drop([1, 0], [1])
    with pytest.raises(DataError, match="no samples"):
        drop_interval(0, 0, 0)
    with pytest.raises(DataError, match="is NaN"):
        paired_mean_drop([1.0, math.nan], [1.0, 1.0])
    with pytest.raises(InternalError, match="confidence of 1"):
        drop_interval(1, 1, 10, 1)
