"""The loss of an evaluation: which bound it gets, what it covers, and how many samples would settle a promise."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qcompiler.analysis.evaluate import Evaluation
from qcompiler.analysis.loss import loss_of, provable, samples_needed, settled
from qcompiler.analysis.measures import Agreement, Fidelity, Hits, Measure
from qcompiler.analysis.measures_of_text import Perplexity, Tokens
from qcompiler.analysis.measures_of_values import MaskF1
from qcompiler.analysis.record import Record
from qcompiler.numerics.exact_drop import drop_bounds, share_bounds


def evaluation(measure: Measure, before: npt.ArrayLike, after: npt.ArrayLike) -> Evaluation:
    """One record for each row."""
    rows = zip(np.asarray(before), np.asarray(after), strict=True)
    none = np.zeros(0, np.bool_)
    return Evaluation.of(measure, (Record(str(i), b[None], a[None], none, {}) for i, (b, a) in enumerate(rows)))


def hits(lost: int, gained: int, total: int, measure: Measure | None = None) -> Evaluation:
    before = np.arange(total) < total - gained
    after = (np.arange(total) >= lost) & (np.arange(total) < total)
    return evaluation(measure or Hits("y"), before, after)


def test_the_bound_of_hits_is_exact() -> None:
    found = loss_of(hits(5, 3, 300), 0.05)
    assert found.drop == pytest.approx(2 / 300)
    assert (found.ci_low, found.ci_high) == drop_bounds(5, 3, 300, 0.05)


def test_the_bound_of_agreement_is_that_of_a_share() -> None:
    found = loss_of(hits(3, 0, 300, Agreement("y")), 0.05)
    assert (found.ci_low, found.ci_high) == share_bounds(3, 300, 0.05)


def test_how_many_samples_could_prove_anything() -> None:
    for measure in (Hits("y"), Agreement("y")):
        for alpha in (0.05, 0.01):
            least = next(n for n in range(290, 600) if loss_of(hits(0, 0, n, measure), alpha).ci_high <= 0.01)
            assert provable(hits(9, 0, least, measure), 0.01, alpha)
            assert not provable(hits(0, 0, least - 1, measure), 0.01, alpha)
    same = np.array([[9.0, 10.0]] * 5)
    assert provable(evaluation(Perplexity("y"), same, same), 0.01, 0.05)


def test_a_share_that_never_differs_is_not_certain() -> None:
    same = np.array([[9.0, 10.0]] * 50)
    assert loss_of(evaluation(Tokens("y"), same, same), 0.05)[:3] == (0, 0, pytest.approx(1 - 0.05 ** (1 / 50)))
    assert loss_of(evaluation(Perplexity("y"), same, same), 0.05)[:3] == (0, 0, 0)


def test_what_is_not_a_number_has_no_bounds() -> None:
    broken = loss_of(evaluation(Perplexity("y"), [[1.0, 2.0]] * 3, [[math.nan, 2.0]] * 3), 0.05)
    assert math.isnan(broken.drop) and math.isnan(broken.ci_high)


def test_coverage_of_aggregates_by_simulation() -> None:
    """Perplexity and F1 of many texts and masks, drawn so that the true loss is known from a large draw."""
    random = np.random.default_rng(4)

    def texts(count: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        length = random.integers(20, 60, count).astype(float)
        surprise = length * random.gamma(20, 0.065, count)
        return np.stack([surprise, length], 1), np.stack(
            [surprise + length * random.normal(0.01, 0.03, count), length], 1
        )

    def masks(count: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        size = random.integers(50, 400, count).astype(float)
        missed = np.floor(size * random.beta(1, 30, count))
        return np.stack([2 * size, 2 * size], 1), np.stack([2 * (size - missed), 2 * size - missed], 1)

    for measure, draw in ((Perplexity("y"), texts), (MaskF1("y"), masks)):
        true = float(measure.loss(*draw(400_000)))
        bounds = [loss_of(evaluation(measure, *draw(80)), 0.05) for _ in range(150)]
        above = np.mean([found.ci_high >= true for found in bounds])
        below = np.mean([found.ci_low <= true for found in bounds])
        assert min(above, below) >= 0.9 and max(above, below) < 1


def test_fidelity_is_bounded_too() -> None:
    power = [{"y": (100.0, 0.5 + 0.1 * (i % 3))} for i in range(30)]
    none = np.zeros(0, np.bool_)
    found = loss_of(Evaluation.of(Fidelity(), (Record("", none, none, none, p) for p in power)), 0.05)
    assert found.drop == pytest.approx(0.006) and 0.0055 < found.ci_low < found.drop < found.ci_high < 0.0065


def test_samples_needed_of_a_perfect_candidate() -> None:
    found = hits(0, 0, 100)
    needed = samples_needed(found, loss_of(found, 0.05), 0.01)
    assert needed is not None and 300 <= needed <= 302
    agreeing = hits(0, 0, 100, Agreement("y"))
    assert samples_needed(agreeing, loss_of(agreeing, 0.05), 0.01) in (299, 300)


def test_no_number_of_samples_tells_a_loss_that_is_the_limit() -> None:
    found = hits(2, 1, 100)
    assert samples_needed(found, loss_of(found, 0.05), 0.01) is None


@settings(max_examples=20)
@given(st.integers(0, 6), st.integers(0, 4), st.sampled_from([0.004, 0.01, 0.03]), st.booleans())
def test_so_many_samples_of_the_same_kind_do_settle_it(lost: int, gained: int, limit: float, labelled: bool) -> None:
    gained = gained if labelled else 0
    found = hits(lost, gained, 200, Hits("y") if labelled else Agreement("y"))
    loss = loss_of(found, 0.05)
    assert settled(found, limit, 0.05) == (loss.ci_high <= limit or loss.ci_low > limit)
    if settled(found, limit, 0.05) or loss.drop == limit:
        return
    needed = samples_needed(found, loss, limit)
    if needed is not None:
        assert needed > 200
        more = hits(round(lost / 200 * needed), round(gained / 200 * needed), needed, found.measure)
        assert settled(more, limit, 0.05)


def test_samples_needed_where_samples_are_drawn() -> None:
    random = np.random.default_rng(0)
    before = np.stack([random.uniform(0.5, 1, 50) * 30, np.full(50, 30.0)], 1)
    after = before - np.stack([random.normal(0.2, 1, 50), np.zeros(50)], 1)
    found = evaluation(Tokens("y"), before, after)
    loss = loss_of(found, 0.05)
    needed = samples_needed(found, loss, loss.drop + (loss.ci_high - loss.drop) / 3)
    assert needed == pytest.approx(450, abs=2)
