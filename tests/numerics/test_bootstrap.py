"""Bootstrap bounds: Student's where the mean is normal, coverage by simulation, the same numbers every time."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
from scipy.stats import t

from qcompiler.errors import DataError
from qcompiler.numerics.bootstrap import MOST_UNITS, Statistic, bootstrap_bounds, influences


def mean_of(values: npt.NDArray[np.float64]) -> Statistic:
    return lambda indices: values[indices].mean(-1)


def test_the_bound_of_a_normal_mean_is_students() -> None:
    values = np.random.default_rng(0).normal(0.01, 0.05, 40)
    reach = t.ppf(0.95, 39) * values.std(ddof=1) / math.sqrt(40)
    low, high = bootstrap_bounds(mean_of(values), 40, 0.05)
    assert (low, high) == pytest.approx((values.mean() - reach, values.mean() + reach), abs=0.1 * reach)


def test_the_same_every_time_and_wider_at_a_smaller_alpha() -> None:
    values = np.random.default_rng(1).exponential(1, 64)
    first = bootstrap_bounds(mean_of(values), 64, 0.05)
    assert first == bootstrap_bounds(mean_of(values), 64, 0.05)
    low, high = bootstrap_bounds(mean_of(values), 64, 0.002)
    assert low < first[0] < values.mean() < first[1] < high


@pytest.mark.parametrize(
    ("samples", "kind", "least"),
    [(30, "normal", 0.92), (100, "normal", 0.92), (30, "skewed", 0.9), (150, "rare", 0.92)],
)
def test_simulated_coverage_at_a_known_drop(samples: int, kind: str, least: float) -> None:
    """Paired scores whose true difference is known. Few skewed ones are covered less often than stated."""
    random, true, hits = np.random.default_rng(3), 0.02, np.zeros(2)
    for _ in range(250):
        before = random.uniform(0.5, 0.9, samples)
        if kind == "normal":
            loss = random.normal(true, 0.05, samples)
        elif kind == "skewed":
            loss = random.exponential(true, samples)
        else:
            loss = np.where(random.random(samples) < 0.2, random.uniform(0, 10 * true, samples), 0)
        after = before - loss
        low, high = bootstrap_bounds(lambda i, b=before, a=after: (b[i] - a[i]).mean(-1), samples, 0.05)  # type: ignore[misc]
        hits += [low <= true, high >= true]
    assert (hits / 250 >= least).all() and (hits / 250 < 1).all()


def test_ends() -> None:
    assert bootstrap_bounds(lambda i: np.zeros(len(i)), 1, 0.05) == (-math.inf, math.inf)
    assert bootstrap_bounds(lambda i: np.full(len(i), 0.25), 9, 0.05) == (0.25, 0.25)
    values = np.array([0.0, 1.0, math.nan])
    assert bootstrap_bounds(mean_of(values), 3, 0.05) == (-math.inf, math.inf)
    one_of_many = np.where(np.arange(50) == 7, 1.0, 0.0)
    low, high = bootstrap_bounds(mean_of(one_of_many), 50, 0.05)
    assert low <= 0.02 and high == math.inf  # a third of all draws have none of it
    with pytest.raises(DataError, match="no samples"):
        bootstrap_bounds(mean_of(values), 0, 0.05)


def test_the_influence_on_a_mean_is_the_distance_from_it() -> None:
    values = np.random.default_rng(2).normal(0, 1, 30)
    assert influences(mean_of(values), np.arange(30)[:, None]) == pytest.approx(values - values.mean())


def test_of_many_samples_neighbours_are_drawn_together() -> None:
    values = np.random.default_rng(6).normal(1, 0.5, 3 * MOST_UNITS + 2)
    low, high = bootstrap_bounds(mean_of(values), len(values), 0.05)
    reach = 1.645 * 0.5 / math.sqrt(len(values))
    assert (low, high) == pytest.approx((values.mean() - reach, values.mean() + reach), abs=0.2 * reach)
