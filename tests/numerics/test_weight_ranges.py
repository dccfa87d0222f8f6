"""Ranges of weights: absmax and the clip of least squared error."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from qcompiler.errors import InternalError
from qcompiler.numerics import weights
from qcompiler.numerics.affine import choose_qparams, fake_quantize
from qcompiler.numerics.weights import CLIP_FACTORS, channel_range, extremes, float_grid, integer_grid, mse_clip


def test_channel_range_is_absmax() -> None:
    w = np.random.default_rng(0).normal(size=(3, 4, 2)).astype(np.float32)
    np.testing.assert_array_equal(channel_range(w, 0), np.abs(w).max((1, 2)))
    np.testing.assert_array_equal(channel_range(w, -1), np.abs(w).max((0, 1)))
    whole = channel_range(w, None)
    assert whole.shape == () and whole.dtype == np.float32 and whole == np.abs(w).max()
    assert channel_range(np.zeros((2, 0), np.float32), 0).tolist() == [0, 0]


@pytest.mark.parametrize(("qmin", "qmax"), [(-127, 127), (-8, 7), (-2, 1)])
@pytest.mark.parametrize("axis", [0, 1])
def test_clip_is_the_best_of_its_factors(qmin: int, qmax: int, axis: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "_BLOCK", 100)
    w = np.random.default_rng(1).standard_t(4, size=(6, 40)).astype(np.float32)
    if axis == 1:
        w = w.T
    factors = mse_clip(w, axis, integer_grid(qmin, qmax))
    assert factors.shape == (6,) and factors.dtype == np.float32
    for channel in range(6):
        row = w.take(channel, axis)

        def error(factor: float, row: np.ndarray = row) -> float:
            clip = np.abs(row).max() * np.float32(factor)
            grid = choose_qparams(-clip, clip, qmin=qmin, qmax=qmax, symmetric=True)
            return float(np.square(fake_quantize(row, *grid, qmin=qmin, qmax=qmax) - row).sum(dtype=np.float64))

        assert error(factors[channel]) <= min(error(factor) for factor in CLIP_FACTORS) * (1 + 1e-6)


def test_few_bits_clip_and_many_do_not() -> None:
    w = np.random.default_rng(2).normal(size=(4, 5000)).astype(np.float32)
    assert (mse_clip(w, 0, integer_grid(-8, 7)) < 0.9).all()
    assert (mse_clip(w, 0, integer_grid(-32767, 32767)) == 1).all()


def test_a_channel_of_zeros_and_one_outlier() -> None:
    w = np.zeros((2, 100), np.float32)
    w[1] = 0.01
    w[1, 0] = 1.0
    factors = mse_clip(w, 0, integer_grid(-8, 7))
    assert factors[0] == 1
    assert factors[1] > 0.9


def test_needs_a_grid_on_both_sides() -> None:
    with pytest.raises(InternalError, match="both sides of 0, not 0 to 255"):
        mse_clip(np.ones((2, 2), np.float32), 0, integer_grid(0, 255))


@pytest.mark.parametrize("axis", [0, 1])
def test_blocks_clip_on_their_own(axis: int) -> None:
    w = np.random.default_rng(3).standard_t(3, size=(40, 6)).astype(np.float32)
    w = w if axis == 0 else np.ascontiguousarray(w.T)
    grid = float_grid(6, ml_dtypes.float4_e2m1fn)
    factors = mse_clip(w, axis, grid, 16)
    low, high = extremes(w, axis, 16)
    assert factors.shape == low.shape == high.shape == ((3, 6) if axis == 0 else (6, 3))
    for column in range(6):
        for block in range(3):
            part = w.take(column, 1 - axis)[16 * block : 16 * (block + 1)]
            place = (block, column) if axis == 0 else (column, block)
            assert (low[place], high[place]) == (min(part.min(), 0), max(part.max(), 0))
            assert factors[place] == mse_clip(part[None], 0, grid)[0]
