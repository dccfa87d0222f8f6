"""Palettes are as good as k-means finds them, on the float16 grid, one for each group."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from qcompiler.numerics.palette import PaletteGrid, palette, palettes


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


def test_values_that_matter_are_met() -> None:
    w = np.random.default_rng(4).normal(size=(64, 32)).astype(np.float32)
    matters = np.where(np.arange(32) < 4, 100.0, 1.0)
    one, other = PaletteGrid.of(w, 16, 64, np.ones(32)), PaletteGrid.of(w, 16, 64, matters)
    np.testing.assert_array_equal(one.table[0], palette(w, 16))
    lost = [float((((w - grid.values(grid.codes(w))) ** 2) * matters).sum()) for grid in (one, other)]
    assert lost[1] < lost[0]


@given(st.integers(0, 10**6), st.sampled_from([2, 4, 8]))
@settings(max_examples=20)
def test_columns_and_wholes_take_the_same_codes(seed: int, run: int) -> None:
    w = np.random.default_rng(seed).normal(size=(8, 5)).astype(np.float32)
    grid = PaletteGrid.of(w, 4, run, np.ones(5))
    whole = grid.codes(w)
    for place in range(5):
        codes, values = grid.column(w[:, place], place)
        np.testing.assert_array_equal(codes, whole[:, place])
        np.testing.assert_array_equal(values, grid.values(whole)[:, place])
