"""Contests: candidates with a clear verdict stop, the others go on; rounds may be of any size."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import pytest

from qcompiler.analysis.measures import Hits, Measure
from qcompiler.analysis.record import Record
from qcompiler.search.contest import Contract, Result, Round, contest
from qcompiler.search.limit import UNSTATED, Limit

MEASURE: Measure = Hits("y")
NONE = np.zeros(0, np.bool_)


def rounds(rates: Mapping[str, float], running: dict[str, str], total: int, size: int = 1) -> Iterator[Round]:
    """A float model that is always right, and candidates that are wrong at these rates; `size` samples a round."""
    random = np.random.default_rng(0)
    wrong = {name: random.random(total) < rate for name, rate in rates.items()}
    for start in range(0, total, size):
        some = range(start, min(start + size, total))
        yield (
            MEASURE,
            {
                name: [Record(str(i), np.array([True]), np.array([not wrong[name][i]]), NONE, {}) for i in some]
                for name in running
            },
        )


def held(rates: Mapping[str, float], total: int, limit: Limit, size: int = 1, known: bool = True) -> dict[str, Result]:
    running = {name: name for name in rates}
    found = rounds(rates, running, total, size)
    return contest(found, running, Contract(limit, 0.95), total=total if known else None, keep=("float",))


@pytest.mark.parametrize("size", [1, 16, 100])
@pytest.mark.parametrize("known", [True, False])
def test_what_is_clear_stops_and_what_is_not_goes_on(size: int, known: bool) -> None:
    rates = {"good": 0.0, "near": 0.009, "bad": 0.4, "float": 0.0}
    found = held(rates, 1600, Limit.of("1%"), size, known)
    assert list(found) == list(rates)
    assert found["bad"].evaluation.samples < 120 and found["bad"].early and found["bad"].loss.ci_low > 0.01
    assert 1024 <= found["good"].evaluation.samples < 1200 and found["good"].early
    assert found["good"].loss.ci_high <= 0.01 and found["good"].needed is None
    near = found["near"]
    assert near.evaluation.samples == 1600 and not near.early
    assert near.loss.ci_low < 0.01 < near.loss.ci_high
    assert near.needed is None or near.needed > 1600
    assert found["float"].evaluation.samples == 1600


def test_the_end_is_reached_when_all_verdicts_are_clear() -> None:
    found = held({"bad": 0.5, "worse": 0.9, "float": 0.0}, 1600, Limit.of("1%"))
    assert {name: result.evaluation.samples for name, result in found.items()} == {"bad": 64, "worse": 64, "float": 64}
    assert all(result.early for result in found.values())


def test_without_a_limit_all_samples_are_seen() -> None:
    found = held({"bad": 0.5, "float": 0.0}, 300, Limit.of("none"))
    assert {result.evaluation.samples for result in found.values()} == {300}
    assert found["bad"].max_drop is None and not found["bad"].early


def test_float_alone_sees_all_samples() -> None:
    assert held({"float": 0.0}, 300, UNSTATED)["float"].evaluation.samples == 300


def test_few_samples_leave_it_undecided_and_say_how_many_are_needed() -> None:
    result = held({"good": 0.0, "float": 0.0}, 50, UNSTATED)["good"]
    assert not result.early and result.needed is not None and 300 <= result.needed <= 303


def test_nothing_comes_of_nothing() -> None:
    assert contest([], {"a": 1}, Contract(UNSTATED, 0.95)) == {}


def test_a_contest_keeps_the_stated_confidence() -> None:
    """Candidates whose true loss is just over the limit are said to hold in 5 % of all contests at most."""
    random, limit, holds = np.random.default_rng(5), 0.01, 0
    for _ in range(60):
        wrong = random.random(1200) < 0.0105
        records = [Record("", np.array([True]), np.array([not miss]), NONE, {}) for miss in wrong]
        running = {"a": 1}
        found = contest(
            ((MEASURE, {"a": [one]}) for one in records), running, Contract(Limit.of(limit), 0.95), total=1200
        )
        holds += found["a"].loss.ci_high <= limit
    assert holds <= 7  # 3 expected at most; more than 7 of 60 comes by chance in 1 % of all cases
