"""The histogram over bfloat16 patterns: exact, and the same whatever the order and the split."""

from __future__ import annotations

import dataclasses
import math

import ml_dtypes
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from qcompiler.numerics.histogram import BINS, Histogram

F32 = npt.NDArray[np.float32]

# Any bit pattern: subnormals, both zeros, infinities, NaN with every payload.
patterns = hnp.arrays(np.uint32, st.integers(0, 60), elements=st.integers(0, 2**32 - 1))
special = st.sampled_from([0x80000000, 0, 1, 0x80000001, 0x7F800000, 0xFF800000, 0x7F800001, 0xFFC00000, 0x7F7FFFFF])
anything = st.one_of(patterns, hnp.arrays(np.uint32, st.integers(0, 30), elements=special)).map(
    lambda bits: bits.view(np.float32)
)
finite = hnp.arrays(np.float32, st.integers(1, 80), elements=st.floats(width=32, allow_nan=False, allow_infinity=False))


@given(x=anything, data=st.data())
def test_order_and_split_do_not_matter(x: F32, data: st.DataObject) -> None:
    whole = Histogram.of(x)
    shuffled = x[np.array(data.draw(st.permutations(range(x.size))), np.intp)]
    cuts = sorted(data.draw(st.lists(st.integers(0, x.size), max_size=4)))
    parts = np.split(shuffled, cuts)
    updated = Histogram.empty()
    for part in parts:
        updated = updated.update(part)
    merged = Histogram.empty()
    for part in reversed(parts):
        merged = Histogram.of(part).merge(merged)
    for other in (updated, merged):
        assert whole.same(other)
        assert math.copysign(1, whole.minimum) == math.copysign(1, other.minimum)
        assert math.copysign(1, whole.maximum) == math.copysign(1, other.maximum)


@given(x=anything)
def test_every_value_is_counted_once(x: F32) -> None:
    hist = Histogram.of(x)
    kept = x[np.isfinite(x)]
    assert hist.counts.dtype == np.int64 and hist.counts.shape == (BINS,)
    assert hist.counts.sum() == hist.total == x.size
    assert hist.nan_count == np.isnan(x).sum()
    assert hist.inf_count == np.isinf(x).sum()
    assert hist.minimum == kept.min(initial=np.inf)
    assert hist.maximum == kept.max(initial=-np.inf)
    low, high, counts = hist.bins()
    assert counts.sum() == kept.size == hist.finite_count
    assert (counts > 0).all()
    assert (low <= high).all() and (high[:-1] <= low[1:]).all()


def test_counts_are_those_of_the_upper_half_words() -> None:
    x = np.random.default_rng(0).normal(size=300_001).astype(np.float32)
    wanted = np.bincount(x.view(np.uint32) >> 16, minlength=BINS)
    np.testing.assert_array_equal(Histogram.of(x).counts, wanted)
    # Few values take another way through the code.
    few = np.concatenate([x[i : i + 999] for i in range(0, x.size, 999)])
    hist = Histogram.empty()
    for i in range(0, few.size, 999):
        hist = hist.update(few[i : i + 999])
    np.testing.assert_array_equal(hist.counts, wanted)


@given(x=finite)
def test_each_value_lies_in_its_bin(x: F32) -> None:
    hist = Histogram.of(x)
    low, high, counts = hist.bins()
    ordinary = x[np.abs(x) >= 2.0**-133].astype(np.float64)
    inside = (low <= ordinary[:, None]) & (ordinary[:, None] <= high)
    assert inside.any(axis=1).all()
    centres, same_counts = hist.values_and_counts()
    np.testing.assert_array_equal(counts, same_counts)
    assert (np.diff(centres) > 0).all()
    assert ((centres >= min(hist.minimum, 0)) & (centres <= max(hist.maximum, 0))).all()
    # Half of the widest relative bin, 2**-7.
    nearest = centres[np.abs(ordinary[:, None] - centres).argmin(axis=1)]
    assert (np.abs(nearest - ordinary) <= np.abs(ordinary) * 2.0**-7 + 1e-40).all()


def test_zeros_share_an_exact_bin() -> None:
    hist = Histogram.of(np.float32([0.0, -0.0, -0.0, 1e-44, 2.0, -4.0]))
    centres, counts = hist.values_and_counts()
    assert centres.tolist() == [-4.0, 0.0, 2.0]
    assert counts.tolist() == [1, 4, 1]
    assert hist.counts[0x8000] == 0
    only = Histogram.of(np.float32([-0.0]))
    assert math.copysign(1, only.minimum) == math.copysign(1, only.maximum) == 1


def test_moments_come_from_the_bins() -> None:
    x = np.random.default_rng(3).normal(0.5, 2, 200_000).astype(np.float32)
    hist = Histogram.of(x)
    assert hist.mean() == pytest.approx(x.astype(np.float64).mean(), rel=1e-3)
    assert hist.mean_square() == pytest.approx(np.square(x, dtype=np.float64).mean(), rel=1e-3)
    halves = Histogram.of(x[1::2]).merge(Histogram.of(x[::2]))
    assert (halves.mean(), halves.mean_square()) == (hist.mean(), hist.mean_square())


@pytest.mark.parametrize("dtype", [np.float16, np.float64, ml_dtypes.bfloat16, np.int64])
def test_other_types_are_converted(dtype: npt.DTypeLike) -> None:
    x = np.arange(-40, 40).astype(dtype)
    assert Histogram.of(x).same(Histogram.of(x.astype(np.float32)))


def test_float64_beyond_float32_is_infinite() -> None:
    hist = Histogram.of(np.array([1e300, -1e300, 1.0]))
    assert (hist.inf_count, hist.minimum, hist.maximum) == (2, 1.0, 1.0)


def test_any_layout_and_shape() -> None:
    x = np.arange(-12, 12, dtype=np.float32).reshape(2, 3, 4)
    for view in (x.T, x[:, ::-1], np.asfortranarray(x), x[..., None]):
        assert Histogram.of(view).same(Histogram.of(x))
    assert Histogram.of(np.float32(3)).same(Histogram.of([3.0]))


def test_empty_is_neutral() -> None:
    empty, some = Histogram.empty(), Histogram.of([1.0, 2.0])
    assert empty.merge(some).same(some) and some.merge(empty).same(some)
    assert some.update(np.zeros((0, 3), np.float32)).same(some)
    assert not empty.same(some)
    assert (empty.mean(), empty.mean_square(), empty.finite_count) == (0, 0, 0)
    assert [part.size for part in empty.bins()] == [0, 0, 0]


def test_is_immutable() -> None:
    hist = Histogram.of([1.0])
    before = hist.counts.copy()
    hist.update([2.0, 3.0])
    np.testing.assert_array_equal(hist.counts, before)
    with pytest.raises(ValueError, match="read-only"):
        hist.counts[0] = 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        hist.total = 5  # type: ignore[misc]


@given(x=anything)
def test_sparse_form_round_trips(x: F32) -> None:
    hist = Histogram.of(x)
    bins, counts = hist.to_sparse()
    back = Histogram.from_sparse(
        bins, counts, minimum=hist.minimum, maximum=hist.maximum, nan_count=hist.nan_count, inf_count=hist.inf_count
    )
    assert back.same(hist)


@given(x=finite, low=st.sampled_from([-math.inf, -3.0, -0.7, 0.0]), high=st.sampled_from([math.inf, 6.0, 0.3, 0.0]))
def test_clamped(x: F32, low: float, high: float) -> None:
    x = x + np.float32(0)  # the two zeros have bins of their own, and clip may turn one into the other
    found, expected = Histogram.of(x).clamped(low, high), Histogram.of(np.clip(x, np.float32(low), np.float32(high)))
    assert (found.total, found.finite_count) == (x.size, x.size)
    for end, true in ((found.minimum, expected.minimum), (found.maximum, expected.maximum)):
        assert end == pytest.approx(true, rel=1e-7)
    # Bins that a bound cuts keep their values, and so do those about zero: none is farther away than a bin is wide.
    bins = x.view(np.uint32) >> 16
    assert np.abs(found.counts - expected.counts).sum() <= 2 * np.isin(bins, cut(low, high)).sum()


def cut(low: float, high: float) -> npt.NDArray[np.uint32]:
    return np.append(np.float32([low, high]).view(np.uint32) >> 16, np.uint32([0, 0x8000]))


def test_clamped_to_nothing_loses_no_count() -> None:
    assert Histogram.of(np.float32([0, -1, -1, -1])).clamped(0.0, 0.0).counts[0] == 4


def test_clamped_is_itself_where_nothing_is_beyond() -> None:
    seen = Histogram.of(np.float32([-1, 2]))
    assert seen.clamped(-1, 2) is seen
    assert Histogram.empty().clamped(0, 0).total == 0
    bounded = seen.clamped(0.0, math.inf)
    assert (bounded.minimum, bounded.maximum, bounded.counts[0], bounded.counts[0x8000]) == (0, 2, 1, 0)
