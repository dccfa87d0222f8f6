"""Block grids, GPTQ, descent, HQQ, AWQ: what each of them promises."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qcompiler.errors import DataError, InternalError
from qcompiler.numerics import awq, gptq
from qcompiler.numerics.block_range import extremes, least_squares
from qcompiler.numerics.block_rounding import ROUNDINGS, round_blocks
from qcompiler.numerics.descent import descend
from qcompiler.numerics.hqq import P, hqq
from qcompiler.numerics.levels import E2M1_BOOK, NF4_BOOK, Levels
from qcompiler.numerics.scale_forms import Held, rounded_scale

GRIDS = [
    Levels.unsigned(4), Levels.unsigned(4, symmetric=True), Levels(-8, 7, True), Levels.unsigned(3), Levels.unsigned(2),
    Levels(-1, 1, True), Levels.unsigned(8), Levels.of(NF4_BOOK),
]  # fmt: skip


def problem(seed: int, rows: int = 6, k: int = 40, samples: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """Weights with outliers, and the second moments of correlated inputs of unequal size."""
    rng = np.random.default_rng(seed)
    weight = rng.standard_t(4, (rows, k)).astype(np.float32)
    x = rng.standard_normal((samples, k)) @ rng.standard_normal((k, k)) * np.exp(rng.normal(size=k))
    return weight, x.T @ x


@pytest.mark.parametrize("levels", GRIDS)
@given(seed=st.integers(0, 10**6), k=st.integers(1, 70), size=st.sampled_from([16, 32, 128]))
@settings(max_examples=15)
def test_least_squares_is_no_worse_than_extremes(levels: Levels, seed: int, k: int, size: int) -> None:
    weight = np.random.default_rng(seed).standard_t(3, (3, k)).astype(np.float32)
    wide, fitted = (f(weight, levels, size) for f in (extremes, least_squares))
    assert wide.scale.shape == fitted.scale.shape == (3, -(-k // size))
    for block in range(wide.scale.shape[1]):
        part = slice(block * size, (block + 1) * size)
        errors = [((weight - grid.nearest(weight))[:, part] ** 2).sum(1) for grid in (fitted, wide)]
        assert (errors[0] <= errors[1] * (1 + 1e-4) + 1e-6).all()


@pytest.mark.parametrize("levels", GRIDS)
def test_extremes_cover_the_block(levels: Levels) -> None:
    weight, _ = problem(1)
    grid = extremes(weight, levels, 16)
    step = np.abs(grid.spread(slice(None), weight.shape[1])[0])
    widest = 0.5 if not levels.book else max(np.diff(levels.book)) / 2
    # ternary and the short side of -8 .. 7 are no exception: the longer half takes the longer side
    assert (np.abs(weight - grid.nearest(weight)) <= widest * step * 1.001).all()


@pytest.mark.parametrize("levels", GRIDS)
def test_pieces_at_once_or_in_turn_give_the_same(levels: Levels, monkeypatch: pytest.MonkeyPatch) -> None:
    weight = np.random.default_rng(7).standard_t(4, (40, 10_000)).astype(np.float32)
    together = round_blocks(weight, levels, 64, "hqq")
    monkeypatch.setattr("qcompiler.numerics.block_rounding.THREADS", 1)
    alone = round_blocks(weight, levels, 64, "hqq")
    np.testing.assert_array_equal(together.codes, alone.codes)
    np.testing.assert_array_equal(together.grid.scale, alone.grid.scale)
    # a row has the same codes whatever stands beside it
    np.testing.assert_array_equal(together.codes[17:18], round_blocks(weight[17:18], levels, 64, "hqq").codes)


@pytest.mark.parametrize("levels", GRIDS)
def test_zeros_stay_zeros(levels: Levels) -> None:
    weight = np.zeros((2, 20), np.float32)
    for method in ROUNDINGS:
        found = round_blocks(weight, levels, 16, method, np.eye(20))
        assert not found.grid.values(found.codes).any() and np.isfinite(found.grid.scale).all()
        assert found.loss == 0.0


@given(seed=st.integers(0, 10**6))
@settings(max_examples=20)
def test_gptq_with_equal_and_independent_inputs_rounds_to_nearest(seed: int) -> None:
    weight, _ = problem(seed)
    for levels in GRIDS:
        grid = least_squares(weight, levels, 16)
        found = gptq.gptq(weight, 3.0 * np.eye(weight.shape[1]), grid)
        np.testing.assert_array_equal(found.codes, grid.codes(weight))


@pytest.mark.parametrize("levels", GRIDS)
@given(seed=st.integers(0, 10**6), samples=st.integers(1, 60))
@settings(max_examples=10)
def test_gptq_and_descent_never_lose_more(levels: Levels, seed: int, samples: int) -> None:
    weight, h = problem(seed, samples=samples)
    grid = least_squares(weight, levels, 16, np.diag(h))
    nearest = gptq.proxy_loss(weight - grid.nearest(weight), h)
    found = gptq.gptq(weight, h, grid)
    assert found.loss <= nearest
    assert found.loss == pytest.approx(gptq.proxy_loss(weight - grid.values(found.codes), h), rel=1e-9)
    better, codes, loss = descend(weight, h, grid, found.codes, found.loss)
    assert loss <= found.loss
    assert loss == pytest.approx(gptq.proxy_loss(weight - better.values(codes), h), rel=1e-9)
    assert levels.low <= codes.min() and codes.max() <= levels.high


@pytest.mark.parametrize("rows", [1, 3])
def test_descent_leaves_what_it_is_given(rows: int) -> None:
    """One row has its columns in one piece whichever way round."""
    weight, h = problem(7, rows=rows)
    grid = least_squares(weight, Levels.unsigned(3), 16)
    codes = np.zeros(weight.shape, np.int32)
    loss = gptq.proxy_loss(weight - grid.values(codes), h)
    _, better, after = descend(weight, h, grid, codes, loss)
    assert after < loss and better.any() and not codes.any()


@given(seed=st.integers(0, 10**6), noise=st.floats(0.01, 1.0), rows=st.integers(5, 80))
@settings(max_examples=20)
def test_a_correction_brings_outputs_nearer(seed: int, noise: float, rows: int) -> None:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((rows, 20)) @ rng.standard_normal((20, 20))
    y = x + noise * rng.standard_normal(x.shape)
    weight = rng.standard_normal((6, 20))
    better = weight + weight @ gptq.correction(y.T @ y, (x - y).T @ y)
    before, after = (float(((x @ weight.T - y @ w.T) ** 2).sum()) for w in (weight, better))
    assert after <= before * (1 + 1e-9)
    assert np.abs(gptq.correction(x.T @ x, np.zeros((20, 20)))).max() < 1e-9


def test_gptq_gains_where_inputs_are_correlated() -> None:
    weight, h = problem(3, rows=16, k=64, samples=200)
    grid = least_squares(weight, Levels.unsigned(4), 32, np.diag(h))
    nearest = gptq.proxy_loss(weight - grid.nearest(weight), h)
    assert gptq.gptq(weight, h, grid).loss < 0.7 * nearest


def test_inputs_that_are_never_seen_round_to_nearest() -> None:
    weight, h = problem(4)
    h[:, 5] = h[5, :] = 0
    grid = least_squares(weight, Levels.unsigned(4), 16)
    found = gptq.gptq(weight, h, grid)
    np.testing.assert_array_equal(found.codes[:, 5], grid.codes(weight)[:, 5])


def test_a_singular_matrix_gets_more_damping_and_says_so() -> None:
    h = -1e-2 * np.eye(8)
    h[0, 0] = 10.0
    _, used = gptq.cholesky(h, 1e-6)
    assert used > 1e-6
    with pytest.raises(DataError, match="not finite"):
        gptq.cholesky(np.full((2, 2), np.inf))


@given(seed=st.integers(0, 10**6), k=st.integers(1, 40))
@settings(max_examples=20)
def test_the_factor_is_that_of_the_inverse(seed: int, k: int) -> None:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((k + 5, k)) * rng.uniform(0.1, 3, k)
    h = x.T @ x
    order, upper, used = gptq.Factored.of(h)
    damped = h + used * np.mean(np.diag(h)) * np.eye(k)
    np.testing.assert_allclose(upper.T @ upper @ damped[np.ix_(order, order)], np.eye(k), atol=1e-7)
    assert (np.diff(np.diag(h)[order]) <= 0).all() and (np.diag(upper) > 0).all()
    np.testing.assert_array_equal(upper, np.triu(upper))


def test_solving_takes_few_matrices() -> None:
    """What `search.memory` counts with."""
    k = 600
    x = np.random.default_rng(0).standard_normal((k, k))
    h = x @ x.T
    for most, solve in ((2.5, lambda: gptq.Factored.of(h)), (1.5, lambda: gptq.correction(h, x))):
        tracemalloc.start()
        solve()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < most * h.nbytes


@given(seed=st.integers(0, 10**6))
@settings(max_examples=20)
def test_hqq_never_loses_more_by_its_own_norm(seed: int) -> None:
    weight, _ = problem(seed)
    for levels in GRIDS:
        grid = least_squares(weight, levels, 16)
        after, before = (np.abs(weight - g.nearest(weight)).astype(np.float64) ** P for g in (hqq(weight, grid), grid))
        for start in range(0, weight.shape[1], 16):
            part = slice(start, start + 16)
            assert (after[:, part].sum(1) <= before[:, part].sum(1) * (1 + 1e-3) + 1e-5).all()


def test_awq_finds_scales_that_gain_and_keeps_what_would_not() -> None:
    weight, h = problem(5, rows=16, k=64, samples=200)
    levels = Levels.unsigned(3)

    def rounded(w: np.ndarray, moments: np.ndarray) -> np.ndarray:
        return least_squares(w, levels, 32).nearest(w)

    s, after, before = awq.search([weight, 2 * weight], h, rounded)
    assert after < before and (s > 0).all()
    scaled = awq.scaled_moments(h, s)
    # exact without rounding: outputs of x / s with W s
    want = weight @ h @ weight.T
    np.testing.assert_allclose((weight * s) @ scaled @ (weight * s).T, want, atol=1e-5 * np.abs(want).max())
    same, loss, plain = awq.search([weight], np.eye(64), rounded)
    assert (same == 1).all() and loss == plain


@pytest.mark.parametrize("method", ROUNDINGS)
def test_methods_name_themselves_and_say_what_they_lose(method: str) -> None:
    weight, h = problem(6)
    found = round_blocks(weight, Levels.unsigned(4), 16, method, h)
    assert found.method == ("gptq" if method == "auto" else method)
    lost = gptq.proxy_loss(weight - found.grid.values(found.codes), h) / gptq.proxy_loss(weight, h)
    assert found.loss == pytest.approx(lost)
    assert round_blocks(weight, Levels.unsigned(4), 16, "auto").method == "hqq"
    assert round_blocks(weight, Levels.unsigned(2), 16, "auto").method == "mse"


def test_an_unknown_method_is_an_error_of_the_compiler() -> None:
    with pytest.raises(InternalError):
        round_blocks(np.ones((1, 1), np.float32), Levels.unsigned(4), 16, "best")


@pytest.mark.parametrize("method", ROUNDINGS)
@given(seed=st.integers(0, 10**6))
@settings(max_examples=10)
def test_scales_are_positive_where_they_must_be(method: str, seed: int) -> None:
    weight, moments = problem(seed)
    found = round_blocks(weight, Levels(-8, 7, True, positive=True), 16, method, moments, form="half")
    assert (found.grid.scale > 0).all() and found.codes.min() >= -8 and found.codes.max() <= 7
    np.testing.assert_array_equal(found.grid.scale, found.grid.scale.astype(np.float16))


@pytest.mark.parametrize("form", ["e8m0", "e4m3", "half"])
@pytest.mark.parametrize("method", ROUNDINGS)
@given(seed=st.integers(0, 10**6), k=st.integers(1, 70), size=st.floats(2.0**-20, 2.0**20))
@settings(max_examples=15)
def test_scales_are_what_their_form_holds(form: str, method: str, seed: int, k: int, size: float) -> None:
    weight, moments = problem(seed, k=k)
    weight, levels = weight * np.float32(size), Levels.of(E2M1_BOOK)
    found = round_blocks(weight, levels, 16, method, moments, form=form)
    assert (found.grid.scale > 0).all()
    again = found.grid.scale.astype(np.float16) if form == "half" else rounded_scale(found.grid.scale, form)
    np.testing.assert_array_equal(again, found.grid.scale)
    if method in ("rtn", "mse", "hqq"):
        np.testing.assert_array_equal(found.codes, found.grid.codes(weight))
    if form == "e8m0":  # fitted with these scales
        fitted, covering = (round_blocks(weight, levels, 16, name, form=form).loss for name in ("mse", "rtn"))
        assert fitted <= covering * (1 + 1e-4)


@pytest.mark.parametrize("form", ["e8m0", "e4m3"])
@given(seed=st.integers(0, 10**6))
@settings(max_examples=15)
def test_scales_move_only_nearer(form: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    scale, wanted = (np.exp(rng.normal(size=20)).astype(np.float32) for _ in range(2))
    held = Held.of(form, scale)
    before = held.nearest(scale)
    after = held.moved(before, wanted)
    assert (np.abs(after - wanted) <= np.abs(before - wanted)).all() and after.max() >= before.max() * (form == "e4m3")
    np.testing.assert_array_equal(held.nearest(after), after)
