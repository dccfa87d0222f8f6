"""The integer program: exact, and exactly under its budget."""

from __future__ import annotations

import ctypes
import itertools
from collections.abc import Mapping
from typing import Any

import pytest
import scipy.optimize
from hypothesis import given, settings
from hypothesis import strategies as st

from qcompiler.search.solver import Option, Value, predicted, solve

Choices = dict[str, dict[str, Option]]


def best_by_hand(
    choices: Choices, values: list[Value], pairs: list[tuple[str, str]], per_element: float, budget: float
) -> float | None:
    """The cheapest cost, by trying everything."""
    found: float | None = None
    for options in itertools.product(*(choices[group] for group in choices)):
        chosen = dict(zip(choices, options, strict=True))
        result = predicted(choices, chosen, values, per_element)
        torn = any(chosen.get(a, "float") == "float" and chosen.get(b, "float") != "float" for a, b in pairs)
        if result.damage <= budget and not torn:
            found = result.cost if found is None else min(found, result.cost)
    return found


@st.composite
def problems(draw: st.DrawFn) -> tuple[Choices, list[Value], list[tuple[str, str]], float, float]:
    names = [f"g{i}" for i in range(draw(st.integers(1, 5)))]
    whole = st.integers(0, 50)
    choices = {}
    for name in names:
        options = ["int8", *draw(st.sampled_from([[], ["int16"]])), "float"]
        choices[name] = {o: Option(draw(whole), 0 if o == "float" else draw(whole)) for o in options}
    values = []
    for i, producer in enumerate(["", *names]):
        readers = draw(st.lists(st.sampled_from([*names[i:], "rest"]), max_size=3, unique=True))
        values.append(Value(producer, tuple(readers), draw(st.integers(0, 30))))
    pairs = draw(st.lists(st.sampled_from([(a, b) for a in names for b in names if a < b] or [("x", "y")]), max_size=2))
    pairs = [pair for pair in pairs if pair[0] in choices]
    return choices, values, pairs, draw(st.sampled_from([0.0, 0.5, 2.0])), draw(st.sampled_from([0, 20, 60, 500]))


@settings(max_examples=150)
@given(problems())
def test_nothing_under_the_budget_is_cheaper(
    problem: tuple[Choices, list[Value], list[tuple[str, str]], float, float],
) -> None:
    choices, values, pairs, per_element, budget = problem
    chosen = solve(choices, values, pairs, per_element=per_element, budget=budget)
    wanted = best_by_hand(*problem)
    if chosen is None:
        assert wanted is None
        return
    result = predicted(choices, chosen, values, per_element)
    assert wanted is not None and result.damage <= budget + 1e-6
    assert abs(result.cost - wanted) < 1e-4


def test_equal_costs_go_to_the_first_option() -> None:
    same: Mapping[str, Mapping[str, Option]] = {"a": {"int8": Option(1.0), "float": Option(1.0)}}
    assert solve(same) == {"a": "int8"}


def test_a_budget_that_nothing_keeps() -> None:
    assert solve({"a": {"int8": Option(1.0, 5.0)}}, budget=4.0) is None
    assert solve({}, budget=0.0) == {}


def test_float_where_the_budget_asks_for_it_and_where_it_does_least_harm() -> None:
    choices = {
        "harmful": {"int8": Option(1.0, 10.0), "float": Option(2.0)},
        "harmless": {"int8": Option(1.0, 1.0), "float": Option(2.0)},
    }
    assert solve(choices, budget=9.0) == {"harmful": "float", "harmless": "int8"}
    assert solve(choices, budget=11.0) == {"harmful": "int8", "harmless": "int8"}


def test_what_a_target_wants_float_together() -> None:
    choices = {
        "conv": {"int8": Option(9.0), "float": Option(1.0)},
        "pool": {"int8": Option(1.0), "float": Option(5.0)},
    }
    assert solve(choices) == {"conv": "float", "pool": "int8"}
    assert solve(choices, pairs=[("conv", "pool")]) == {"conv": "float", "pool": "float"}
    assert solve({"pool": choices["pool"]}, pairs=[("not quantized at all", "pool")]) == {"pool": "float"}


def test_of_choices_that_cost_the_same_the_least_harmful() -> None:
    same = {"fp8": Option(1.0, 3.0), "int8": Option(1.0, 2.0), "float": Option(2.0)}
    assert solve({"a": same, "b": same}) == {"a": "int8", "b": "int8"}
    dearer = {**same, "int8": Option(1.5, 2.0)}
    assert solve({"a": dearer}) == {"a": "fp8"}
    idle = {"int8": Option(1.0, 2.0), "float": Option(1.0)}
    assert solve({"a": idle}) == {"a": "int8"}, "it is not for harm alone that a group becomes float"


def test_values_in_one_form_need_no_conversion() -> None:
    chain = [Value("a", ("b",), 10)]
    narrow, weights = Option(1.0), Option(2.0, form="float")
    choices = {"a": {"int8": narrow}, "b": {"int8": Option(9.0), "w8": weights, "float": Option(4.0)}}
    assert solve(choices, chain, per_element=1.0)["b"] == "int8"  # type: ignore[index]
    assert solve(choices, [], per_element=1.0) == {"a": "int8", "b": "w8"}
    floats = {"a": {"float": Option(1.0)}, "b": choices["b"]}
    chosen = solve(floats, chain, per_element=1.0)
    assert chosen == {"a": "float", "b": "w8"} and predicted(floats, chosen, chain, 1.0).cost == 3.0


def test_what_the_solver_prints_stays_out_of_the_standard_output(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = scipy.optimize.milp

    def talkative(*args: Any, **named: Any) -> Any:
        ctypes.CDLL(None).printf(b"presolving\n")
        return real(*args, **named)

    monkeypatch.setattr(scipy.optimize, "milp", talkative)
    print("before")
    assert solve({"a": {"int8": Option(1.0), "float": Option(2.0)}}) == {"a": "int8"}
    print("after")
    assert capfd.readouterr().out == "before\nafter\n"
