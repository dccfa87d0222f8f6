"""SQNR: exact, merged whatever the split, NaN never hidden."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from qcompiler.errors import InternalError
from qcompiler.numerics.error_measures import SqnrMeter

F32 = npt.NDArray[np.float32]


def test_sqnr_of_known_noise() -> None:
    x = np.random.default_rng(0).normal(size=(7, 100_000)).astype(np.float32)
    meter = SqnrMeter().update(x, x * np.float32(1.01))
    assert meter.db == pytest.approx(40, abs=1e-3)
    assert meter.count == x.size
    noise = np.random.default_rng(1).normal(size=x.shape).astype(np.float32) * np.float32(0.1)
    wanted = 10 * np.log10(np.square(x, dtype=np.float64).sum() / np.square((x + noise) - x, dtype=np.float64).sum())
    assert SqnrMeter().update(x, x + noise).db == pytest.approx(wanted, rel=1e-6)


pairs = st.integers(1, 40).flatmap(
    lambda n: st.tuples(*[hnp.arrays(np.float32, n, elements=st.floats(-1e6, 1e6, width=32))] * 2)
)


@given(pair=pairs, cut=st.integers(0, 40))
def test_sqnr_does_not_depend_on_the_split(pair: tuple[F32, F32], cut: int) -> None:
    x, y = pair
    whole = SqnrMeter().update(x, y)
    parts = SqnrMeter().update(x[cut:], y[cut:]).merge(SqnrMeter().update(x[:cut], y[:cut]))
    assert parts.count == whole.count
    assert parts.db == pytest.approx(whole.db, rel=1e-9)


def test_sqnr_at_the_ends() -> None:
    one, zero = np.float32([1.0]), np.float32([0.0])
    assert SqnrMeter().db == math.inf
    assert SqnrMeter().update(one, one).db == math.inf
    assert SqnrMeter().update(zero, zero).db == math.inf
    assert SqnrMeter().update(zero, one).db == -math.inf
    assert SqnrMeter().update(one, zero).db == 0


@pytest.mark.parametrize("lost", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_are_a_total_loss(lost: float) -> None:
    good = SqnrMeter().update(np.float32([1, 2]), np.float32([1, 2.1]))
    bad = SqnrMeter().update(np.float32([1, 2]), np.float32([lost, 2]))
    assert bad.db == -math.inf
    assert good.merge(bad).db == bad.merge(good).db == -math.inf


def test_infinite_references_are_left_out() -> None:
    masked = np.float32([1, -np.inf, np.nan, 2])
    meter = SqnrMeter().update(masked, np.float32([1, -3e38, 5, 2.2]))
    assert meter.count == 2
    assert meter.db == pytest.approx(10 * math.log10(5 / 0.04), abs=1e-4)
    assert SqnrMeter().update(masked, masked).db == math.inf
    assert SqnrMeter().update(masked, np.float32([1, np.nan, 5, 2])).db == -math.inf


def test_sqnr_of_other_types_and_shapes() -> None:
    x = np.arange(12).reshape(3, 4)
    assert SqnrMeter().update(x, x.astype(np.float16)).db == math.inf
    assert SqnrMeter().update(x, x.astype(np.uint8)).db == math.inf
    with pytest.raises(InternalError, match="shape \\(4, 3\\) with one of shape \\(3, 4\\)"):
        SqnrMeter().update(x, x.T)
