"""Sensitivities are measured once, wherever that is done, and a sweep that was stopped goes on."""

from __future__ import annotations

from pathlib import Path

import pytest

from qcompiler.analysis import SessionConfig
from qcompiler.backends import get
from qcompiler.data import Sample
from qcompiler.search import sweep as module
from qcompiler.search.candidates import Candidate
from qcompiler.search.executors import open_executor
from qcompiler.search.groups import Group, groups_of
from qcompiler.search.journal import Journal
from qcompiler.search.means import Means
from qcompiler.search.sensitivity import Sensitivity, sensitivities
from qcompiler.search.sweep import Asking, sweep, units_of
from tests.search.test_sensitivity import candidate

SIMULATE = get("onnxruntime").simulate
ASKING = Asking(SessionConfig("off"), 1 << 30, SIMULATE, without=True)


def figures(found: tuple[Sensitivity, ...]) -> list[object]:
    return [
        (one.group, one.alone.outputs, one.alone.divergence, one.without and one.without.outputs, one.local_db)
        for one in found
    ]


def swept(means: Means, made: Candidate, groups: tuple[Group, ...], samples: list[Sample]) -> tuple[Sensitivity, ...]:
    return sweep(means, {"int8": (made, groups)}, samples, ASKING, lambda done, total: None)["int8"]


def test_a_sweep_that_was_stopped_goes_on_and_a_second_one_reads_the_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "GROUPS", 2)
    model, made, samples = candidate()
    groups, calls, real = groups_of(model, made), list[object](), module.measured

    def measured(*arguments: object) -> object:
        if len(calls) == 1:
            calls.append("stopped")
            raise KeyboardInterrupt
        calls.append(arguments)
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "measured", measured)

    def ask(count: int) -> tuple[Sensitivity, ...]:
        return swept(Means(journal=Journal.open(tmp_path, "model")), made, groups, samples[:count])

    assert len(units_of({"int8": (made, groups)})) == 2
    with pytest.raises(KeyboardInterrupt):
        ask(3)
    first = ask(3)
    assert len(calls) == 3, "the first unit was not measured again"
    assert figures(ask(3)) == figures(first) and len(calls) == 3
    assert figures(ask(4)) != figures(first) and len(calls) == 5


def test_two_processes_give_the_bits_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "GROUPS", 2)
    model, made, samples = candidate()
    groups = groups_of(model, made)
    here = swept(Means(), made, groups, samples)
    with open_executor(2) as crew:
        there = swept(Means(crew=crew), made, groups, samples)
    assert figures(there) == figures(here)


def test_units_give_what_one_pass_gives() -> None:
    model, made, samples = candidate()
    groups = groups_of(model, made)
    whole = sensitivities(made, groups, samples, config=SessionConfig("off"), without=True)
    assert figures(swept(Means(), made, groups, samples)) == figures(whole)
