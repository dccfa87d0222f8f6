"""adaround: never worse than nearest, as good as trying every choice on small layers, and within the grid."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from qcompiler.numerics.adaround import RIDGE, adaround, error


def problem(seed: int, groups: int, rows: int, size: int, spread: float = 20.0) -> tuple[np.ndarray, np.ndarray]:
    """Weights in steps, and the moments of correlated inputs."""
    rng = np.random.default_rng(seed)
    x = np.cumsum(rng.normal(size=(groups, 3 * size, size)), axis=2) + rng.normal(size=(groups, 1, size))
    return rng.normal(size=(groups, rows, size)) * spread, np.matmul(x.transpose(0, 2, 1), x) / (3 * size)


def ridged(h: np.ndarray) -> np.ndarray:
    size = h.shape[-1]
    return h + RIDGE * np.trace(h, axis1=1, axis2=2)[:, None, None] / size * np.eye(size)


@given(
    st.integers(0, 10**6), st.integers(1, 3), st.integers(1, 5), st.integers(1, 12), st.sampled_from([1.0, 20.0, 80.0])
)
def test_no_row_is_worse_than_nearest(seed: int, groups: int, rows: int, size: int, spread: float) -> None:
    steps, h = problem(seed, groups, rows, size, spread)
    codes, nearest = adaround(steps, h, low=-127, high=127), np.clip(np.rint(steps), -127, 127)
    inside = np.clip(steps, -127, 127)
    assert (error(codes, inside, ridged(h)) <= error(nearest, inside, ridged(h)) * (1 + 1e-9)).all()
    assert np.abs(codes).max() <= 127
    assert (np.abs(codes - inside) < 1).all()


def test_it_is_near_the_best_of_all_choices() -> None:
    total = np.zeros(3)
    for seed in range(40):
        steps, h = problem(seed, 1, 1, 8)
        every = np.floor(steps[0, 0]) + np.array(list(itertools.product((0, 1), repeat=8)))
        best = error(every[None], steps, ridged(h)).min()
        found = error(adaround(steps, h, low=-127, high=127), steps, ridged(h)).item()
        assert found >= best * (1 - 1e-9)
        total += best, found, error(np.rint(steps), steps, ridged(h)).item()
    best, found, nearest = total
    assert found - best < 0.2 * (nearest - best)


def test_correlated_inputs_gain_much_and_uncorrelated_ones_stay_nearest() -> None:
    steps, h = problem(1, 1, 16, 64)
    nearest = error(np.rint(steps), steps, h).sum()
    assert error(adaround(steps, h, low=-127, high=127), steps, h).sum() < 0.2 * nearest
    assert np.array_equal(adaround(steps, np.eye(64)[None], low=-127, high=127), np.rint(steps))


def test_inputs_that_are_always_zero_and_whole_weights_change_nothing() -> None:
    steps, _ = problem(2, 2, 3, 5)
    assert np.array_equal(adaround(steps, np.zeros((2, 5, 5)), low=-127, high=127), np.rint(steps))
    whole = np.rint(steps)
    assert np.array_equal(adaround(whole, problem(3, 2, 3, 5)[1], low=-127, high=127), whole)
