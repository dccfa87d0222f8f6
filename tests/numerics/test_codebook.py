"""Books that are learned from a matrix in blocks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qcompiler.numerics import codebook
from qcompiler.numerics.block_rounding import round_blocks
from qcompiler.numerics.codebook import learned, whole
from qcompiler.numerics.levels import NF4_BOOK, Levels


@pytest.mark.parametrize("count", [4, 8, 16])
@given(seed=st.integers(0, 10**6), k=st.integers(1, 70), sign=st.sampled_from([-1, 0, 1, 2]))
@settings(max_examples=20)
def test_a_book_has_whole_numbers_of_both_signs_and_zero(count: int, seed: int, k: int, sign: int) -> None:
    weight = np.random.default_rng(seed).standard_t(3, (5, k)).astype(np.float32)
    weight = weight if sign == 2 else sign * np.abs(weight)
    book = learned(weight, count, 16)
    assert len(book) == count and list(book) == sorted(set(book)) and 0 in book
    assert -127 <= book[0] < 0 < book[-1] <= 127 and all(level == int(level) for level in book)
    assert Levels.of(book).bottom == book[0]


@given(levels=st.lists(st.floats(-200, 200, width=32), min_size=4, max_size=16, unique=True))
def test_levels_become_a_book(levels: list[float]) -> None:
    book = whole(np.sort(np.float32([0, *levels[1:]])), len(levels))
    assert len(book) == len(levels) and 0 in book and book[0] < 0 < book[-1]


def test_levels_that_weights_have_are_found() -> None:
    rng = np.random.default_rng(0)
    levels = np.float32([-127, -90, -40, -11, 0, 5, 30, 77])
    codes = rng.integers(0, 8, (64, 128))
    codes[:, ::16] = 0  # each block has the widest level
    weight = levels[codes] * np.repeat(np.exp(rng.normal(size=(64, 8))), 16, axis=1).astype(np.float32)
    assert learned(weight, 8, 16) == tuple(levels)
    found = round_blocks(weight, Levels.of(learned(weight, 8, 16)), 16, "rtn")
    np.testing.assert_allclose(found.grid.values(found.codes), weight, rtol=1e-5)


def test_inputs_that_matter_have_the_nearer_levels() -> None:
    rng = np.random.default_rng(1)
    weight = rng.standard_t(4, (64, 64)).astype(np.float32)
    importance = np.where(np.arange(64) % 16 < 2, 100.0, 0.01)
    weight[:, importance > 1] *= 0.2  # what matters is small in each block

    def loss(book: tuple[float, ...]) -> float:
        grid = round_blocks(weight, Levels.of(book), 16, "rtn").grid
        return float((np.square(weight - grid.nearest(weight)) * importance).sum())

    assert loss(learned(weight, 8, 16, importance)) < 0.7 * loss(learned(weight, 8, 16))


def test_a_learned_book_loses_less_than_a_fixed_one(monkeypatch: pytest.MonkeyPatch) -> None:
    weight = np.random.default_rng(2).standard_t(3, (64, 256)).astype(np.float32)
    books = {"learned": learned(weight, 16, 32), "nf4": NF4_BOOK, "even": tuple(range(-120, 128, 16))}
    lost = {name: round_blocks(weight, Levels.of(book), 32, "mse").loss for name, book in books.items()}
    assert lost["learned"] < lost["nf4"] < lost["even"]
    monkeypatch.setattr(codebook, "ENOUGH", 4096)  # every fourth row
    some = round_blocks(weight, Levels.of(learned(weight, 16, 32)), 32, "mse").loss
    assert some < 1.1 * lost["learned"]
