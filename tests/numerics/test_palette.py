"""Palettes are as good as k-means finds them, on the float16 grid, one for each group."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from qcompiler.numerics.palette import palette, palettes


def test_few_values_are_kept_exactly() -> None:
    w = np.random.default_rng(0).choice(np.float32([-1, -0.5, 0, 0.25, 2]), (8, 40))
    table, codes = palettes(w, 16)
    np.testing.assert_array_equal(table[0][codes], w)


def test_normal_weights_reach_the_known_error() -> None:
    """Max (1960), table I: 16 levels leave 0.009497 of the variance of a normal value."""
    w = np.random.default_rng(1).normal(size=200_000).astype(np.float32)
    table, codes = palettes(w, 16)
    assert np.mean((table[0][codes] - w) ** 2) == pytest.approx(0.009497, rel=0.02)


@pytest.mark.parametrize("axis", [0, 1])
def test_groups_have_palettes_of_their_own(axis: int) -> None:
    w = np.random.default_rng(2).normal(size=(8, 6)).astype(np.float32) * np.arange(1, 9)[:, None]
    w = np.moveaxis(w, 0, axis).astype(np.float32)
    table, codes = palettes(w, 4, axis, 2)
    assert table.shape == (4, 4) and codes.shape == w.shape
    for group in range(4):
        part = np.take(w, [2 * group, 2 * group + 1], axis)
        got = table[group][np.take(codes, [2 * group, 2 * group + 1], axis)]
        np.testing.assert_array_equal(palettes(part, 4)[0][0], table[group])
        assert np.abs(got - part).max() <= np.ptp(part)


@given(hnp.arrays(np.float32, st.integers(1, 60), elements=st.floats(-100, 100, width=32)))
def test_each_value_takes_the_nearest_entry(w: np.ndarray) -> None:
    table, codes = palettes(w, 4)
    assert (np.diff(table[0]) >= 0).all() and np.array_equal(table, table.astype(np.float16))
    error = np.abs(w - table[0][codes])
    best = np.abs(w[:, None] - table[0]).min(axis=1)
    np.testing.assert_allclose(error, best, atol=1e-5)


def test_the_same_weights_give_the_same_palette() -> None:
    w = np.random.default_rng(3).normal(size=1000).astype(np.float32)
    np.testing.assert_array_equal(palette(w, 16), palette(w[::-1].copy(), 16))
