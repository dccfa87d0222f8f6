"""The search: stops at the fastest plan that keeps the contract, whatever the sensitivities say."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qcompiler.numerics import SqnrMeter
from qcompiler.search.costs import Cost, Costs
from qcompiler.search.damage import Damage
from qcompiler.search.explore import Dial, Proposal, explore, placements
from qcompiler.search.groups import Group
from qcompiler.search.sensitivity import Sensitivity
from tests.search.corruption import corrupted


def group(name: str) -> Group:
    return Group(name, "Conv", "int8", (name,), (name,), (f"{name}_out",), False)


def dial(harms: list[float], gains: list[float]) -> Dial:
    groups = tuple(group(f"g{i}") for i in range(len(harms)))
    quantized = {g.name: Cost(10e-6) for g in groups}
    floating = {g.name: Cost((10 + gain) * 1e-6) for g, gain in zip(groups, gains, strict=True)}
    found = [Sensitivity(g, Damage({"y": SqnrMeter(1.0, harm, 1)})) for g, harm in zip(groups, harms, strict=True)]
    return Dial.of(Costs(groups, quantized, floating, (), ()), found)


def judge(truth: dict[str, float], limit: float, seen: list[Proposal]) -> object:
    """A contract on the true sum of harm."""

    def keeps(proposal: Proposal) -> bool:
        seen.append(proposal)
        return sum(harm for name, harm in truth.items() if name not in proposal.floats) <= limit

    return keeps


@settings(max_examples=60)
@given(st.integers(2, 12), st.integers(0, 1000), st.floats(0.05, 0.9))
def test_with_true_sensitivities_the_best_of_one_trade_is_found(count: int, seed: int, share: float) -> None:
    rng = random.Random(seed)
    harms, gains = ([rng.uniform(0.1, 1) for _ in range(count)] for _ in range(2))
    made = dial(harms, gains)
    truth = {f"g{i}": harm for i, harm in enumerate(harms)}
    seen: list[Proposal] = []
    limit = share * sum(harms)
    done = explore(made, judge(truth, limit, seen), rounds=40)  # type: ignore[arg-type]
    kept = [p for p in done if sum(h for n, h in truth.items() if n not in p.floats) <= limit]
    best = made.at(limit)
    assert best is not None and seen == done
    if len(best.floats) < count:
        assert kept and min(p.microseconds for p in kept) <= best.microseconds * 1.02


@settings(max_examples=40)
@given(st.integers(0, 1000))
def test_with_corrupted_sensitivities_what_is_kept_still_keeps_the_contract(seed: int) -> None:
    rng = random.Random(seed)
    harms = [rng.uniform(0.1, 1) for _ in range(8)]
    true = dial(harms, [5.0] * 8)
    wrong = Dial.of(true.first, corrupted(true.found["int8"], [10 ** rng.uniform(-3, 3) for _ in harms]))
    truth = {f"g{i}": harm for i, harm in enumerate(harms)}
    verdicts: dict[frozenset[str], bool] = {}

    def keeps(proposal: Proposal) -> bool:
        verdicts[proposal.floats] = sum(h for n, h in truth.items() if n not in proposal.floats) <= 1.0
        return verdicts[proposal.floats]

    done = explore(wrong, keeps, rounds=8)
    assert len(done) <= 8 and {p.floats for p in done} == set(verdicts)


def test_each_plan_is_evaluated_once_and_the_time_is_kept() -> None:
    made = dial([1.0, 0.5, 0.25], [1.0, 1.0, 1.0])
    seen: list[Proposal] = []
    explore(made, lambda p: seen.append(p) or False, rounds=10)  # type: ignore[func-returns-value]
    assert len({p.floats for p in seen}) == len(seen)
    assert explore(made, lambda p: True, rounds=10, expired=lambda: True) == []


def test_harmless_models_are_left_alone() -> None:
    assert explore(dial([0.0, 0.0], [1.0, 1.0]), lambda p: True, rounds=5) == []


def test_reasons_name_time_and_harm() -> None:
    made = dial([1.0, 0.001], [5.0, -5.0])
    proposal = made.at(0.5)
    assert proposal is not None and proposal.floats == {"g0", "g1"}
    said = {name: put.reason for name, put in placements(made, proposal).items()}
    assert said["g0"] == "harms the outputs (alone 0.0 dB) more than it saves (10 us, 15 us in float)"
    assert said["g1"] == "does not pay in int8 (10 us, 5 us in float)"


def test_a_group_that_ruins_an_output_is_the_first_to_go() -> None:
    made = dial([float("inf"), 0.1], [5.0, 5.0])
    proposal = made.at(1.0)
    assert proposal is not None and proposal.floats == {"g0"}
    assert made.float_microseconds("g0") == pytest.approx(15.0)
