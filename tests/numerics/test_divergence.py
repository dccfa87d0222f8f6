"""Divergence of class scores."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.special import softmax
from scipy.stats import entropy

from qcompiler.errors import InternalError
from qcompiler.numerics.divergence import divergence

SCORES = hnp.arrays(np.float32, (3, 5), elements=st.floats(-20, 20, width=32))


@given(SCORES, SCORES)
def test_it_is_that_of_scipy(first: np.ndarray, second: np.ndarray) -> None:
    p, q = softmax(first.astype(np.float64), axis=-1), softmax(second.astype(np.float64), axis=-1)
    found, rows = divergence(first, second)
    assert rows == 3
    np.testing.assert_allclose(found, entropy(p, q, axis=-1).sum(), rtol=1e-6, atol=1e-9)


@given(SCORES)
def test_equal_scores_do_not_diverge_and_shifts_do_not_matter(scores: np.ndarray) -> None:
    assert divergence(scores, scores)[0] == 0
    assert divergence(scores, scores + np.float32(3))[0] < 1e-5


def test_probabilities_are_taken_as_they_are() -> None:
    p, q = np.float32([[0.5, 0.5, 0.0]]), np.float32([[0.25, 0.75, 0.0]])
    assert divergence(p, q)[0] == pytest.approx(0.5 * np.log(2) + 0.5 * np.log(0.5 / 0.75))
    assert 80 < divergence(np.float32([[1.0, 0.0]]), np.float32([[0.0, 1.0]]))[0] < 90


def test_what_is_not_finite_diverges_without_bound() -> None:
    assert divergence([[1.0, np.nan]], [[1.0, 0.0]])[0] == np.inf


def test_shapes_must_agree() -> None:
    with pytest.raises(InternalError, match="shape"):
        divergence([1.0], [1.0, 2.0])
