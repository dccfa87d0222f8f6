"""Compressed weights that only others write: sparse ones, alone and on top of codes and palettes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qcompiler.backends.coreml.evaluate.compressed import lut_to_sparse, sparse_blockwise, sparse_to_dense


@given(st.integers(0, 10**6))
def test_codes_behind_a_mask_are_those_of_the_whole(seed: int) -> None:
    rng = np.random.default_rng(seed)
    codes, mask = rng.integers(-8, 8, (4, 6)).astype(np.int8), rng.integers(0, 2, (4, 6)).astype(np.uint8)
    scale, offset = rng.uniform(0.1, 1, (4, 2)).astype(np.float32), rng.integers(-2, 3, (4, 2)).astype(np.int8)
    shown, values = sparse_blockwise(mask, codes[mask == 1], scale, offset)
    whole = (codes.astype(np.float32) - offset.repeat(3, 1)) * scale.repeat(3, 1)
    np.testing.assert_allclose(sparse_to_dense(values, shown), np.where(mask, whole, 0), rtol=1e-6)


@given(st.integers(0, 10**6))
def test_entries_behind_a_mask_are_those_of_the_whole(seed: int) -> None:
    rng = np.random.default_rng(seed)
    codes, mask = rng.integers(0, 4, (4, 6)).astype(np.uint8), rng.integers(0, 2, (4, 6)).astype(np.uint8)
    table = rng.normal(size=(2, 1, 4, 1)).astype(np.float32)
    shown, values = lut_to_sparse(mask, codes[mask == 1], table)
    whole = table[np.arange(4)[:, None] // 2, 0, codes, 0]
    np.testing.assert_array_equal(sparse_to_dense(values, shown), np.where(mask, whole, 0).astype(np.float32))


def test_palettes_of_vectors_are_refused() -> None:
    with pytest.raises(ValueError, match="vectors"):
        lut_to_sparse(np.ones((2, 2), np.uint8), np.zeros(4, np.uint8), np.zeros((1, 1, 4, 2), np.float32))
