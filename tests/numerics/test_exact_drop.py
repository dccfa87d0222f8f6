"""Exact bounds of the drop: published values, rules of thumb, and coverage, counted over all outcomes and simulated."""

from __future__ import annotations

import functools
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, multinomial

from qcompiler.errors import DataError, InternalError
from qcompiler.numerics.exact_drop import drop_bounds, refuted, score, share_bounds, upper_bound


def test_no_loss_in_300_samples_excludes_1_percent() -> None:
    """The rule of three: 1 - 0.05**(1/299) < 1 %. The nuisance costs one or two samples more."""
    assert share_bounds(0, 299, 0.05) == (0.0, pytest.approx(1 - 0.05 ** (1 / 299)))
    assert share_bounds(0, 298, 0.05)[1] > 0.01 > share_bounds(0, 299, 0.05)[1]
    first = next(n for n in range(290, 320) if upper_bound(0, 0, n, 0.05) <= 0.01)
    assert 299 <= first <= 303


@pytest.mark.parametrize(
    ("lost", "gained", "total", "low", "high"),
    [
        # score limits of Tango (1998), lens data, 90 % two-sided: each is one-sided at 95 %, and exact ones are near
        (0, 1, 44, -0.096, 0.037),
        (12, 0, 100, 0.073, 0.188),
    ],
)
def test_close_to_the_score_limits_and_never_much_inside(
    lost: int, gained: int, total: int, low: float, high: float
) -> None:
    found = drop_bounds(lost, gained, total, 0.05)
    assert found == pytest.approx((low, high), abs=0.02)


def test_the_score_is_that_of_mcnemar_at_no_drop() -> None:
    assert float(score(10, 4, 500, 0.0)) == pytest.approx((4 - 10) / np.sqrt(14))
    assert float(score(0, 0, 500, 0.0)) == 0.0


@settings(max_examples=25)
@given(st.integers(0, 8), st.integers(0, 8), st.integers(0, 200), st.sampled_from([0.05, 0.01]))
def test_bounds_hold_the_estimate_and_mirror(lost: int, gained: int, same: int, alpha: float) -> None:
    total = lost + gained + same + 1
    low, high = drop_bounds(lost, gained, total, alpha)
    assert -1 <= low <= (lost - gained) / total <= high <= 1
    assert drop_bounds(gained, lost, total, alpha) == (-high, -low)
    if high < 1:
        assert refuted(lost, gained, total, high, alpha)
    wider = upper_bound(lost, gained, total, alpha / 5)
    assert wider >= high - 1e-9


@settings(max_examples=15)
@given(st.integers(0, 6), st.integers(0, 6), st.integers(20, 150))
def test_more_losses_move_the_bound_up(lost: int, gained: int, total: int) -> None:
    assert upper_bound(lost + 1, gained, total, 0.05) >= upper_bound(lost, gained, total, 0.05) - 2e-6
    assert upper_bound(lost, gained + 1, total, 0.05) <= upper_bound(lost, gained, total, 0.05) + 0.02


@functools.cache
def every_bound(total: int, alpha: float) -> list[tuple[int, int, float]]:
    pairs = [(b, c) for b, c in itertools.product(range(total + 1), repeat=2) if b + c <= total]
    return [(b, c, upper_bound(b, c, total, alpha)) for b, c in pairs]


@pytest.mark.parametrize("total", [6, 13])
@pytest.mark.parametrize("alpha", [0.05, 0.2])
def test_coverage_over_all_outcomes(total: int, alpha: float) -> None:
    """How likely the bound is under the true drop, summed over all outcomes: alpha at most, whatever is true."""
    worst = 0.0
    for lost, gained in itertools.product([0.0, 0.01, 0.05, 0.1, 0.2, 0.35, 0.5, 0.8], repeat=2):
        if lost + gained > 1:
            continue
        under = [(b, c, total - b - c) for b, c, bound in every_bound(total, alpha) if bound < lost - gained]
        if under:
            worst = max(worst, float(multinomial.pmf(under, total, [lost, gained, 1 - lost - gained]).sum()))
    assert alpha / 4 < worst <= alpha + 1e-9


@pytest.mark.parametrize(
    ("total", "lost", "gained"), [(250, 0.012, 0.004), (250, 0.03, 0.02), (600, 0.01, 0.0), (1000, 0.01, 0.004)]
)
def test_simulated_coverage_at_a_known_drop(total: int, lost: float, gained: float) -> None:
    draws = np.random.default_rng(7).multinomial(total, [lost, gained, 1 - lost - gained], size=3000)
    outcomes, counts = np.unique(draws[:, :2], axis=0, return_counts=True)
    true = lost - gained
    above = [not refuted(b, c, total, true, 0.05) for b, c in outcomes.tolist()]
    below = [not refuted(c, b, total, -true, 0.05) for b, c in outcomes.tolist()]
    for covered in (above, below):
        rate = float(counts[np.array(covered)].sum() / 3000)
        assert 0.94 <= rate <= 0.99  # 0.95 at least; 0.94 is 2.5 deviations of 3000 draws


@settings(max_examples=15)
@given(st.integers(0, 6), st.integers(0, 6), st.integers(20, 400), st.floats(0, 0.2))
def test_a_drop_is_refuted_where_the_bound_is_under_it(lost: int, gained: int, total: int, drop: float) -> None:
    bound = upper_bound(lost, gained, total, 0.05)
    if abs(bound - drop) > 1e-5 and drop > (lost - gained) / total:
        assert refuted(lost, gained, total, drop, 0.05) == (bound < drop)


@given(st.integers(1, 400), st.floats(0.001, 0.2), st.sampled_from([0.05, 0.01]))
def test_coverage_of_a_share(total: int, rate: float, alpha: float) -> None:
    counts = np.arange(total + 1)
    bounds = np.array(
        [share_bounds(int(count), total, alpha)[1] for count in counts if binom.cdf(count, total, rate) < 0.5]
    )
    missed = binom.pmf(counts[: bounds.size], total, rate)[bounds < rate].sum()
    assert missed <= alpha + 1e-12


def test_refusals() -> None:
    with pytest.raises(DataError, match="no samples"):
        upper_bound(0, 0, 0, 0.05)
    with pytest.raises(InternalError, match="3 lost and 0 gained of 2"):
        upper_bound(3, 0, 2, 0.05)
    with pytest.raises(InternalError, match="at level 1"):
        share_bounds(0, 2, 1)
