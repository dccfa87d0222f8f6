"""Second moments from few rows: nearer to those of many, what is sure left alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qcompiler.numerics import shrinkage
from qcompiler.numerics.shrinkage import shrink


@given(seed=st.integers(0, 10**6), k=st.integers(1, 30), rows=st.integers(1, 400))
@settings(max_examples=40)
def test_only_what_inputs_have_to_do_with_each_other_gets_less(seed: int, k: int, rows: int) -> None:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((rows, k)) @ rng.standard_normal((k, k))
    x[:, 0] *= rng.integers(2)
    h = x.T @ x
    found = h.copy()
    keep = shrink(found, rows)
    assert 0 <= keep <= 1
    np.testing.assert_array_equal(np.diag(found), np.diag(h))
    np.testing.assert_allclose(found, keep * h + (1 - keep) * np.diag(np.diag(h)), rtol=1e-12, atol=1e-9)
    assert np.linalg.eigvalsh(found).min() >= -1e-9 * max(np.trace(h), 1)


def test_scales_of_inputs_do_not_matter_and_pieces_neither(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    x, s = rng.standard_normal((90, 12)) @ rng.standard_normal((12, 12)), np.exp(3 * rng.standard_normal(12))
    plain, scaled = x.T @ x, (x * s).T @ (x * s)
    keep = shrink(plain, 90)
    assert 0.3 < keep < 1 and shrink(scaled, 90) == pytest.approx(keep)
    monkeypatch.setattr(shrinkage, "PIECE", 25)
    again = x.T @ x
    assert shrink(again, 90) == pytest.approx(keep)


def test_many_rows_are_believed_and_one_is_not() -> None:
    rng = np.random.default_rng(1)
    mixing = rng.standard_normal((8, 16))
    x = rng.standard_normal((100_000, 8)) @ mixing
    assert shrink(x.T @ x, len(x)) > 0.999
    assert shrink(x[:1].T @ x[:1], 1) == 0
    assert shrink(np.zeros((4, 4)), 3) == 0


def test_few_rows_come_nearer_to_what_many_show(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where rows are independent, with g = 1; by the mean over draws, inputs alike in size."""
    monkeypatch.setattr(shrinkage, "DEPENDENT", 1)
    rng = np.random.default_rng(2)
    mixing = rng.standard_normal((4, 24)) + 2 * np.eye(4, 24)
    truth = mixing.T @ mixing + np.eye(24)
    plain, shrunk = 0.0, 0.0
    for _ in range(50):
        x = rng.standard_normal((12, 4)) @ mixing + rng.standard_normal((12, 24))
        h = x.T @ x
        plain += float(((h / 12 - truth) ** 2).sum())
        shrink(h, 12)
        shrunk += float(((h / 12 - truth) ** 2).sum())
    assert shrunk < 0.9 * plain
