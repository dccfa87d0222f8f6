"""normal-moments: means and deviations of clipped and bent normals are those of a simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qcompiler.numerics.normal_moments import Moments
from qcompiler.passes.plan.promised_means import SMOOTH

NORMAL = np.random.default_rng(3).normal(size=200_000)
MEAN, DEVIATION = st.floats(-4, 4), st.floats(0.01, 3)


def simulated(mean: float, deviation: float) -> np.ndarray:
    return mean + deviation * NORMAL


def close(found: Moments, values: np.ndarray, deviation: float) -> bool:
    """Within five standard errors of the simulation, and what points between the tails leave."""
    error = 5 * deviation / math.sqrt(NORMAL.size) + 5e-3 * deviation
    return abs(found.mean[0] - values.mean()) < error and abs(found.deviation[0] - values.std()) < 4 * error


@given(MEAN, DEVIATION, st.sampled_from([(0, math.inf), (0, 6), (-1, 1), (-math.inf, 2), (-math.inf, math.inf)]))
def test_clipped(mean: float, deviation: float, bounds: tuple[float, float]) -> None:
    found = Moments(np.array([mean]), np.array([deviation])).clipped(*bounds)
    assert close(found, np.clip(simulated(mean, deviation), *bounds), deviation)


@given(MEAN, DEVIATION, st.sampled_from(sorted(SMOOTH)))
def test_bent(mean: float, deviation: float, name: str) -> None:
    found = Moments(np.array([mean]), np.array([deviation])).through(SMOOTH[name])
    assert close(found, SMOOTH[name](simulated(mean, deviation)), deviation)


@pytest.mark.parametrize(("mean", "wanted"), [(-2.0, 0.0), (3.0, 3.0), (9.0, 6.0)])
def test_a_channel_that_does_not_move(mean: float, wanted: float) -> None:
    found = Moments(np.array([mean]), np.zeros(1)).clipped(0, 6)
    assert found.mean[0] == pytest.approx(wanted) and found.deviation[0] == pytest.approx(0, abs=1e-5)


def test_a_sum() -> None:
    found = Moments(np.array([1.0]), np.array([3.0])).plus(Moments(np.array([2.0]), np.array([4.0])))
    assert (found.mean[0], found.deviation[0]) == (3.0, 5.0)
