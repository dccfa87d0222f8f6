"""Grids of whole numbers and codebooks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from qcompiler.errors import InternalError
from qcompiler.numerics.levels import E2M1_BOOK, NF4_BOOK, Levels

GRIDS = {
    "uint8": Levels.unsigned(8),
    "int8": Levels(-128, 127, True),
    "uint4": Levels.unsigned(4),
    "uint4 symmetric": Levels.unsigned(4, symmetric=True),
    "int4": Levels(-8, 7, True),
    "uint3": Levels.unsigned(3),
    "uint2": Levels.unsigned(2),
    "ternary": Levels(-1, 1, True),
    "nf4": Levels.of(NF4_BOOK),
    "fp4": Levels.of(E2M1_BOOK),
}
FLOATS = hnp.arrays(np.float32, st.integers(1, 40), elements=st.floats(-100, 100, width=32))


@pytest.mark.parametrize("name", GRIDS)
@given(codes=st.data(), scale=st.floats(2.0**-20, 2.0**20, width=32), zero=st.integers(0, 255))
@settings(max_examples=30)
def test_every_code_comes_back(name: str, codes: st.DataObject, scale: float, zero: int) -> None:
    levels = GRIDS[name]
    point = levels.middle if levels.symmetric else levels.low + zero % (levels.high - levels.low + 1)
    some = np.array(codes.draw(st.lists(st.integers(levels.low, levels.high), min_size=1)), np.int32)
    assert (levels.codes(levels.values(some, scale, point), np.float32(scale), point) == some).all()


@pytest.mark.parametrize("name", GRIDS)
@given(x=FLOATS, scale=st.floats(2.0**-6, 2.0**6, width=32))
@settings(max_examples=30)
def test_no_level_is_nearer(name: str, x: np.ndarray, scale: float) -> None:
    levels = GRIDS[name]
    point = levels.middle
    every = levels.values(np.arange(levels.low, levels.high + 1, dtype=np.int32), scale, point).astype(np.float64)
    chosen = levels.nearest(x, np.float32(scale), point).astype(np.float64)
    least = np.abs(x.astype(np.float64)[:, None] - every[None]).min(1)
    assert np.abs(x - chosen) == pytest.approx(least, rel=1e-5, abs=1e-5 * scale)


@pytest.mark.parametrize("name", GRIDS)
@given(x=FLOATS, scale=st.floats(2.0**-6, 2.0**6, width=32))
@settings(max_examples=30)
def test_the_short_way_is_the_long_way(name: str, x: np.ndarray, scale: float) -> None:
    levels = GRIDS[name]
    long = levels.values(levels.codes(x, np.float32(scale), levels.middle), scale, levels.middle)
    np.testing.assert_array_equal(levels.nearest(x, np.float32(scale), levels.middle), long)


@given(x=FLOATS)
@settings(max_examples=30)
def test_e2m1_rounds_to_what_the_type_holds(x: np.ndarray) -> None:
    import ml_dtypes

    got = GRIDS["fp4"].nearest(x, np.float32(0.5), 0)
    exact = np.clip(x, -6, 6).astype(ml_dtypes.float4_e2m1fn).astype(np.float32)
    assert (np.abs(x - got) <= np.abs(np.clip(x, -6, 6) - exact) + np.abs(x - np.clip(x, -6, 6))).all()
    assert set((2 * got).tolist()) <= set(E2M1_BOOK)


def test_a_scale_may_be_negative() -> None:
    levels = GRIDS["int4"]
    assert levels.nearest(np.float32([8, -7, 1.2]), np.float32(-1), 0).tolist() == [8, -7, 1]


@pytest.mark.parametrize("wrong", [(2, 2, ()), (0, 2, (1.0, 0.0, 2.0)), (0, 3, (0.0, 1.0))])
def test_grids_make_sense(wrong: tuple[int, int, tuple[float, ...]]) -> None:
    with pytest.raises(InternalError):
        Levels(wrong[0], wrong[1], True, wrong[2])
