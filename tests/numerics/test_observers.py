"""Per-channel observers: exact, and the same whatever the order and the split."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from qcompiler.errors import DataError
from qcompiler.numerics.histogram import Histogram
from qcompiler.numerics.observers import ChannelAbsMax, ChannelRange, Observer

F32 = npt.NDArray[np.float32]
T = TypeVar("T", bound=Observer)
batches = st.lists(
    hnp.arrays(np.float32, st.tuples(st.integers(0, 3), st.just(4), st.integers(0, 3)), elements=st.floats(width=32)),
    min_size=1,
    max_size=5,
)


def through(start: T, arrays: list[F32]) -> T:
    for array in arrays:
        start = start.update(array)
    return start


@given(arrays=batches, data=st.data())
def test_order_and_split_do_not_matter(arrays: list[F32], data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(arrays)))
    shuffled = data.draw(st.permutations(arrays))
    whole = through(ChannelAbsMax(1), arrays)
    parts = through(ChannelAbsMax(1), shuffled[cut:]).merge(through(ChannelAbsMax(1), shuffled[:cut]))
    np.testing.assert_array_equal(whole.absmax, parts.absmax)
    assert not np.signbit(whole.absmax).any()
    wide = through(ChannelRange(1), arrays)
    wide_parts = through(ChannelRange(1), shuffled[cut:]).merge(through(ChannelRange(1), shuffled[:cut]))
    np.testing.assert_array_equal(wide.minimum, wide_parts.minimum)
    np.testing.assert_array_equal(wide.maximum, wide_parts.maximum)
    np.testing.assert_array_equal(wide.absmax, whole.absmax)


@pytest.mark.parametrize("axis", [0, 1, 2, -1])
def test_equals_numpy(axis: int) -> None:
    x = np.random.default_rng(0).normal(size=(3, 4, 5)).astype(np.float32)
    others = tuple(i for i in range(3) if i != axis % 3)
    np.testing.assert_array_equal(ChannelAbsMax(axis).update(x).absmax, np.abs(x).max(others))
    seen = ChannelRange(axis).update(x).update(-x)
    np.testing.assert_array_equal(seen.maximum, np.abs(x).max(others))
    np.testing.assert_array_equal(seen.minimum, -np.abs(x).max(others))


def test_other_axes_may_change_length() -> None:
    seen = ChannelAbsMax(-1).update(np.float32([[1, -2]])).update(np.float32([[[0, 3]], [[-4, 1]]]))
    assert seen.absmax.tolist() == [4, 3]


def test_nan_is_kept() -> None:
    seen = ChannelAbsMax(1).update(np.float32([[np.nan, 1]])).update(np.float32([[2, 3]]))
    assert np.isnan(seen.absmax[0]) and seen.absmax[1] == 3


def test_refusals() -> None:
    seen = ChannelAbsMax(1).update(np.zeros((1, 4), np.float32))
    with pytest.raises(DataError, match="no axis 1 in an array of shape"):
        ChannelAbsMax(1).update(np.zeros(4, np.float32))
    with pytest.raises(DataError, match="5 channels along axis 1, 4 before"):
        seen.update(np.zeros((1, 5), np.float32))
    with pytest.raises(DataError, match="cannot be merged"):
        seen.merge(ChannelAbsMax(0))


def test_all_follow_the_protocol() -> None:
    observers: list[Observer] = [Histogram.empty(), ChannelAbsMax(0), ChannelRange(0)]
    x = np.ones((2, 2), np.float32)
    for observer in observers:
        assert type(observer.update(x).merge(observer)) is type(observer)


def test_is_immutable() -> None:
    seen = ChannelAbsMax(0).update(np.float32([1, 2]))
    seen.update(np.float32([5, 6]))
    assert seen.absmax.tolist() == [1, 2]
    with pytest.raises(ValueError, match="read-only"):
        ChannelRange(0).update(np.float32([1, 2])).minimum[0] = 3
