"""Whose values a histogram holds: exact counts, and histograms in which important channels count more."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from qcompiler.errors import DataError
from qcompiler.numerics.channel_histogram import BINS_A_CHANNEL, OCTAVES, SAMPLE, ChannelHistogram, sampled_bins
from qcompiler.numerics.histogram import Histogram
from qcompiler.numerics.ranges import METHODS

F32 = npt.NDArray[np.float32]


def tensor(seed: int = 0, shape: tuple[int, ...] = (2, 3, 5, 7)) -> F32:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def test_counts_by_channel_sign_and_octave() -> None:
    x = np.float32([[0.0, 1.0, 1.5, -2.0], [-0.0, 1e-30, 3e38, -0.6]]).reshape(1, 2, 4)
    counts = ChannelHistogram(1).update(x).counts
    assert counts.shape == (2, BINS_A_CHANNEL)
    found = [{int(place): int(n) for place, n in enumerate(row) if n} for row in counts]
    assert found == [{0: 1, 31: 2, OCTAVES + 32: 1}, {0: 1, OCTAVES: 1, 63: 1, OCTAVES + 30: 1}]


@pytest.mark.parametrize("axis", [0, 1, 2, -1])
def test_small_arrays_are_counted_whole(axis: int) -> None:
    x = tensor(shape=(4, 5, 6))
    seen = ChannelHistogram(axis).update(x)
    moved = np.moveaxis(x, axis, 0).reshape(x.shape[axis], -1)
    for channel, row in enumerate(moved):
        alone = ChannelHistogram(0).update(row.reshape(1, -1)).counts[0]
        np.testing.assert_array_equal(seen.counts[channel], alone)


def test_large_arrays_are_looked_at_in_every_channel_and_place() -> None:
    x = tensor(shape=(1, 64, 56, 56))
    bins = sampled_bins(x, 1)
    assert 0.9 * SAMPLE <= bins.size <= SAMPLE
    channels = np.bincount(bins // BINS_A_CHANNEL, minlength=64)
    assert channels.min() > 0.8 * SAMPLE / 64
    columns = np.broadcast_to(np.arange(56, dtype=np.float32) + 1, x.shape)
    seen = ChannelHistogram(1).update(columns).counts.sum(0)
    whole = np.bincount(31 + np.floor(np.log2(np.arange(1, 57))).astype(int), minlength=BINS_A_CHANNEL)
    np.testing.assert_allclose(seen / seen.sum(), whole / 56, atol=0.01)


def test_order_and_split_do_not_matter() -> None:
    parts = [tensor(seed) for seed in range(4)]
    whole = ChannelHistogram(1)
    for part in parts:
        whole = whole.update(part)
    halves = [ChannelHistogram(1).update(a).update(b) for a, b in (parts[2:], parts[:2])]
    np.testing.assert_array_equal(halves[0].merge(halves[1]).counts, whole.counts)
    np.testing.assert_array_equal(whole.merge(ChannelHistogram(1)).counts, whole.counts)
    assert not whole.counts.flags.writeable


def test_refusals() -> None:
    seen = ChannelHistogram(1).update(tensor())
    with pytest.raises(DataError, match="no axis 1 in an array of shape"):
        ChannelHistogram(1).update(np.zeros(3, np.float32))
    with pytest.raises(DataError, match="4 channels along axis 1, 3 before"):
        seen.update(np.zeros((1, 4), np.float32))
    with pytest.raises(DataError, match="cannot be merged"):
        seen.merge(ChannelHistogram(0))


def test_weighted_counts_follow_the_important_channel() -> None:
    """Two channels in different octaves: the histogram becomes that of the one that matters."""
    rng = np.random.default_rng(0)
    x = np.stack([rng.uniform(0.5, 1, 2000), rng.uniform(64, 128, 2000)]).astype(np.float32)[None]
    seen, histogram = ChannelHistogram(1).update(x), Histogram.of(x)
    found = seen.weighted(histogram, np.array([1.0, 1e-9]))
    values, counts = found.values_and_counts()
    assert counts[values > 10].sum() < 1e-4 * counts.sum()
    assert (found.minimum, found.maximum) == (histogram.minimum, histogram.maximum)
    grid = {"qmin": 0, "qmax": 255, "symmetric": False}
    assert METHODS["auto"](histogram, **grid)[1] > 120
    assert METHODS["auto"](found, **grid)[1] < 40
    twice = seen.weighted(histogram, np.array([2.0, 1.0]))
    values, counts = twice.values_and_counts()
    assert counts[values < 10].sum() == pytest.approx(2 * counts[values > 10].sum(), rel=1e-3)


def test_equal_importance_changes_no_range() -> None:
    x = np.random.default_rng(0).standard_t(3, size=(1, 8, 4000)).astype(np.float32)
    seen, histogram = ChannelHistogram(1).update(x), Histogram.of(x)
    grid = {"qmin": 0, "qmax": 255, "symmetric": False}
    weighted = seen.weighted(histogram, np.full(8, 0.3))
    np.testing.assert_allclose(METHODS["mse"](weighted, **grid), METHODS["mse"](histogram, **grid), rtol=1e-3)


@pytest.mark.parametrize("importance", [np.zeros(3), np.full(3, np.inf), np.ones(4)])
def test_importance_that_says_nothing_is_passed_over(importance: npt.NDArray[np.float64]) -> None:
    histogram = Histogram.of(tensor())
    assert ChannelHistogram(1).update(tensor()).weighted(histogram, importance) is histogram


def test_octaves_that_were_not_looked_at_count_like_their_neighbour() -> None:
    seen = ChannelHistogram(1).update(np.float32([[1, 1, 1, 1], [3, 3, 3, 3]])[None])
    histogram = Histogram.of(np.float32([1, 3, 100, 0.01, -7]))
    _, counts = seen.weighted(histogram, np.array([1.0, 0.25])).values_and_counts()
    one = 1 << 20
    assert counts.tolist() == [1, one, one, one // 4, one // 4]


def test_means() -> None:
    rng = np.random.default_rng(0)
    x = (rng.normal(size=(1, 6, 600)) * 0.3 + np.arange(-3, 3)[None, :, None]).astype(np.float32)
    seen = ChannelHistogram(1).update(x)
    np.testing.assert_allclose(seen.means(Histogram.of(x)), x.mean((0, 2)), rtol=0.15, atol=0.02)
    nothing = np.zeros((1, 2, 3), np.float32)
    assert ChannelHistogram(1).update(nothing).means(Histogram.of(nothing)).tolist() == [0, 0]


@pytest.mark.parametrize("sign", [1, -1])
def test_stretched_histograms_are_those_of_the_stretched_values(sign: int) -> None:
    rng = np.random.default_rng(0)
    x = np.stack([sign * np.abs(rng.normal(size=900)) * scale for scale in (1, 0.13, 0.02, 0)]).astype(np.float32)[None]
    x[0, :, ::7] = 0
    octaves = np.array([0, 2, 5, 0])
    y = np.ldexp(x, octaves.reshape(1, 4, 1).astype(np.int32))
    channels, histogram = ChannelHistogram(1).update(x).stretched(Histogram.of(x), octaves, y.min(), y.max())
    np.testing.assert_array_equal(channels.counts, ChannelHistogram(1).update(y).counts)
    exact = Histogram.of(y)
    assert (histogram.minimum, histogram.maximum) == (exact.minimum, exact.maximum)
    assert histogram.total == pytest.approx(16 * exact.total, rel=1e-3)
    assert histogram.mean_square() == pytest.approx(exact.mean_square(), rel=0.1)
    for grid in ({"qmin": 0, "qmax": 255, "symmetric": False}, {"qmin": -127, "qmax": 127, "symmetric": True}):
        np.testing.assert_allclose(METHODS["mse"](histogram, **grid), METHODS["mse"](exact, **grid), rtol=0.1)


def test_stretched_alike_is_exact() -> None:
    x = tensor(shape=(1, 4, 200))
    seen = ChannelHistogram(1).update(x)
    channels, histogram = seen.stretched(Histogram.of(x), np.full(4, 3), 8 * x.min(), 8 * x.max())
    np.testing.assert_array_equal(channels.counts, ChannelHistogram(1).update(8 * x).counts)
    np.testing.assert_array_equal(histogram.counts, 16 * Histogram.of(8 * x).counts)


def test_stretching_beyond_the_largest_number_loses_only_that() -> None:
    x = np.float32([[1e38, 1.0], [1e-3, 1e-30]])[None]
    octaves = np.array([0, 20])
    channels, histogram = ChannelHistogram(1).update(x).stretched(Histogram.of(x), octaves, 0.0, 1e38)
    assert channels.counts.sum() == 4
    assert histogram.finite_count > 0 and np.isfinite(histogram.mean_square())
