"""The fast counter counts what `Histogram` counts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from qcompiler.analysis import counting
from qcompiler.analysis.counting import ChannelCounter, PatternCounter
from qcompiler.errors import DataError
from qcompiler.numerics import Histogram
from qcompiler.numerics.channel_histogram import ChannelHistogram

FINITE = st.floats(width=32, allow_nan=False, allow_infinity=False)


def counted(arrays: list[np.ndarray]) -> Histogram:
    counter = PatternCounter()
    for array in arrays:
        counter.add(array, float(array.min()), float(array.max()))
    return counter.finish()


@settings(max_examples=60)
@given(st.lists(hnp.arrays(np.float32, st.integers(1, 50), elements=FINITE), min_size=1, max_size=4))
def test_equals_the_histogram(arrays: list[np.ndarray]) -> None:
    assert counted(arrays).same(Histogram.of(np.concatenate(arrays)))


def test_equals_the_histogram_over_many_chunks() -> None:
    rng = np.random.default_rng(1)
    arrays = [rng.normal(size=n).astype(np.float32) for n in (3, 65536, 65537, 300_000)] + [np.float32([-0.0, 0.0])]
    assert counted(arrays).same(Histogram.of(np.concatenate(arrays)))


def test_the_narrow_table_is_emptied_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counting, "_FULL", 1000)
    arrays = [np.full(600, value, np.float32) for value in (1, 1, -2, 1)]
    assert counted(arrays).same(Histogram.of(np.concatenate(arrays)))


def test_numpy_stands_in(monkeypatch: pytest.MonkeyPatch) -> None:
    from scipy.sparse import _sparsetools

    values = np.random.default_rng(2).normal(size=1000).astype(np.float32)
    for broken in (None, lambda *args: None):
        if broken is None:
            monkeypatch.delattr(_sparsetools, "csr_column_index1")
        else:
            monkeypatch.setattr(_sparsetools, "csr_column_index1", broken, raising=False)
        counting._adder.cache_clear()
        assert counting._adder() is counting._by_numpy
        assert counted([values]).same(Histogram.of(values))
    monkeypatch.undo()
    counting._adder.cache_clear()
    assert counting._adder() is not counting._by_numpy, "SciPy no longer has the fast loop"


def test_channels_are_counted_like_the_observer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counting, "_FULL", 1000)
    rng = np.random.default_rng(3)
    arrays = [rng.normal(size=shape).astype(np.float32) for shape in ((1, 3, 4), (2, 3, 40), (1, 3, 5000))]
    counter, observer = ChannelCounter(1), ChannelHistogram(1)
    for array in arrays:
        counter.add(array, float(array.min()), float(array.max()))
        observer = observer.update(array)
    np.testing.assert_array_equal(counter.finish().counts, observer.counts)
    with pytest.raises(DataError, match="4 channels along axis 1, 3 before"):
        counter.add(np.zeros((1, 4, 1), np.float32), 0, 0)
    with pytest.raises(DataError, match="no axis 1"):
        ChannelCounter(1).add(np.zeros(4, np.float32), 0, 0)
