"""Bootstrap bounds: Student's where the mean is normal, coverage by simulation, the same numbers every time."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
from scipy.stats import t

from qcompiler.errors import DataError
from qcompiler.numerics.bootstrap import Statistic, bootstrap_bounds, drawn


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
    assert np.array_equal(drawn(mean_of(values), 64, 100), drawn(mean_of(values), 64, 100))


@pytest.mark.parametrize(
    ("samples", "kind", "least"),
    [(30, "normal", 0.93), (100, "normal", 0.93), (200, "skewed", 0.91), (200, "rare", 0.91)],
)
def test_simulated_coverage_at_a_known_drop(samples: int, kind: str, least: float) -> None:
    """Paired scores whose true difference is known. Skewed losses are covered less often than stated (see the docs)."""
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
    assert (hits / 250 >= least).all() and (hits / 250 <= 0.99).all()


def test_ends() -> None:
    assert bootstrap_bounds(lambda i: np.zeros(len(i)), 1, 0.05) == (-math.inf, math.inf)
    assert bootstrap_bounds(lambda i: np.full(len(i), 0.25), 9, 0.05) == (0.25, 0.25)
    values = np.array([0.0, 1.0, math.nan])
    assert bootstrap_bounds(mean_of(values), 3, 0.05) == (-math.inf, math.inf)
    with pytest.raises(DataError, match="no samples"):
        bootstrap_bounds(mean_of(values), 0, 0.05)
