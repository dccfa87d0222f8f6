"""The squared error computed from bins, against the true one of the values."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from qcompiler.numerics.affine import choose_qparams, fake_quantize
from qcompiler.numerics.histogram import Histogram
from qcompiler.numerics.noise import GridNoise, expected_error

F32 = npt.NDArray[np.float32]
SAMPLES: dict[str, Callable[[np.random.Generator], npt.NDArray[np.float64]]] = {
    "normal": lambda r: r.normal(size=200_000),
    "relu": lambda r: np.maximum(r.normal(size=200_000), 0),
    "laplace": lambda r: r.laplace(size=200_000),
    "student": lambda r: r.standard_t(3, size=200_000),
    "sigmoid": lambda r: 1 / (1 + np.exp(-3 * r.normal(size=200_000))),
    "shifted": lambda r: r.normal(10, 1, size=200_000),
}


GRID = {"qmin": 0, "qmax": 255, "symmetric": False}


def true_error(x: F32, scale: F32, zero_point: npt.NDArray[np.int32], qmin: int, qmax: int) -> float:
    got = fake_quantize(x, scale, zero_point, qmin=qmin, qmax=qmax)
    return float(np.square(got.astype(np.float64) - x).mean())


@pytest.mark.parametrize("kind", SAMPLES)
@pytest.mark.parametrize("bits", [2, 4, 8, 12])
@pytest.mark.parametrize("shrink", [1.0, 0.6, 0.1])
def test_equals_the_true_error(kind: str, bits: int, shrink: float) -> None:
    x = SAMPLES[kind](np.random.default_rng(4)).astype(np.float32)
    low, high = min(x.min(), 0) * shrink, max(x.max(), 0) * shrink
    qmin, qmax = 0, 2**bits - 1
    scale, zero_point = choose_qparams(low, high, qmin=qmin, qmax=qmax, symmetric=False)
    signal, noise = expected_error(Histogram.of(x), scale, zero_point, qmin=qmin, qmax=qmax)
    assert signal == pytest.approx(np.square(x, dtype=np.float64).mean(), rel=2e-3)
    assert noise == pytest.approx(true_error(x, scale, zero_point, qmin, qmax), rel=1e-2)


@pytest.mark.parametrize("kind", SAMPLES)
@pytest.mark.parametrize("shrink", [1.0, 0.6, 0.1])
def test_errors_beyond_the_grid_can_count_more(kind: str, shrink: float) -> None:
    x = SAMPLES[kind](np.random.default_rng(5)).astype(np.float32)
    scale, zero_point = choose_qparams(min(x.min(), 0) * shrink, max(x.max(), 0) * shrink, **GRID)
    error = fake_quantize(x, scale, zero_point, qmin=0, qmax=255).astype(np.float64) - x
    expected = (np.square(error) * np.where(np.abs(error) > scale / 2, 3.0, 1.0)).mean()
    found = GridNoise.of(Histogram.of(x))(scale.reshape(1), zero_point.reshape(1), qmin=0, qmax=255, clipping=3.0)
    assert found[0] == pytest.approx(expected, rel=1e-2)


def test_points_are_exact() -> None:
    # The extremes and zero are bins that are a point: no spreading.
    x = np.float32([-1, -1, 0, 3])
    scale, zero_point = np.asarray(0.8, np.float32), np.asarray(1, np.int32)
    _, noise = expected_error(Histogram.of(x), scale, zero_point, qmin=0, qmax=15)
    assert noise == pytest.approx((0.2**2 + 0.2**2 + 0 + 0.2**2) / 4, rel=1e-6)


@given(
    x=hnp.arrays(np.float32, st.integers(1, 50), elements=st.floats(-1000, 1000, width=32)),
    scale=st.floats(1e-3, 1e3),
    zero_point=st.integers(0, 255),
)
def test_never_far_from_the_true_error(x: F32, scale: float, zero_point: int) -> None:
    # A value is at most a bin width, 2**-7 of itself, from where it is taken to be.
    step, zero = np.asarray(scale, np.float32), np.asarray(zero_point, np.int32)
    _, noise = expected_error(Histogram.of(x), step, zero, qmin=0, qmax=255)
    miss = fake_quantize(x, step, zero, qmin=0, qmax=255).astype(np.float64) - x
    width = np.abs(x, dtype=np.float64) * 2.0**-7
    assert noise <= np.square(np.abs(miss) + width).mean() * (1 + 1e-6) + 1e-12
    assert noise >= 0


def test_folding_and_thinning() -> None:
    hist = Histogram.of(np.random.default_rng(5).standard_t(4, 100_000).astype(np.float32))
    scales, zeros = np.geomspace(0.02, 0.5, 7), np.arange(100, 107)
    full = GridNoise.of(hist)(scales, zeros, qmin=0, qmax=255)
    folded = GridNoise.of(hist, 0.02)
    assert folded.edges.size < GridNoise.of(hist).edges.size
    np.testing.assert_allclose(folded(scales, zeros, qmin=0, qmax=255), full, rtol=1e-9)
    thin = GridNoise.of(hist, 0.02, thin=8)
    assert thin.edges.size < folded.edges.size / 4
    np.testing.assert_allclose(thin(scales, zeros, qmin=0, qmax=255), full, rtol=0.05)


def test_many_grids_equal_one_at_a_time() -> None:
    hist = Histogram.of(np.random.default_rng(6).normal(size=50_000).astype(np.float32))
    noise = GridNoise.of(hist)
    scales, zeros = np.geomspace(0.001, 0.1, 200), np.arange(200) % 256
    together = noise(scales, zeros, qmin=0, qmax=255)
    alone = [noise(scales[i : i + 1], zeros[i : i + 1], qmin=0, qmax=255)[0] for i in range(200)]
    np.testing.assert_array_equal(together, alone)


def test_sixteen_bits_keep_their_precision() -> None:
    x = np.random.default_rng(7).uniform(-1, 1, 200_000).astype(np.float32)
    scale, zero_point = choose_qparams(-1, 1, qmin=-32768, qmax=32767, symmetric=False)
    _, noise = expected_error(Histogram.of(x), scale, zero_point, qmin=-32768, qmax=32767)
    assert noise == pytest.approx(float(scale) ** 2 / 12, rel=1e-3)


def test_nothing_has_no_error() -> None:
    assert expected_error(Histogram.empty(), np.float32(1), np.int32(0), qmin=0, qmax=255) == (0.0, 0.0)
    assert expected_error(Histogram.of([0.0]), np.float32(1), np.int32(0), qmin=0, qmax=255) == (0.0, 0.0)
