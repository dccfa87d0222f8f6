"""Sensitivities are measured once."""

from __future__ import annotations

from pathlib import Path

import pytest

from qcompiler.analysis import SessionConfig
from qcompiler.search import remembered as module
from qcompiler.search.groups import groups_of
from qcompiler.search.journal import Journal
from qcompiler.search.remembered import remembered
from qcompiler.search.sensitivity import Sensitivity
from tests.search.test_sensitivity import candidate


def figures(found: tuple[Sensitivity, ...]) -> list[object]:
    return [(one.group, one.alone.outputs, one.alone.divergence, one.local_db) for one in found]


def test_a_second_measurement_reads_the_journal_to_the_last_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, made, samples = candidate()
    groups, calls = groups_of(model, made), []
    real = module.swept
    monkeypatch.setattr(module, "swept", lambda *a, **k: calls.append(a) or real(*a, **k))

    def ask(count: int) -> tuple[Sensitivity, ...]:
        journal = Journal.open(tmp_path, "model")
        return remembered(
            journal, {"int8": (made, groups)}, samples[:count], SessionConfig("off"), 1 << 30, lambda *_: None
        )["int8"]

    first, second = ask(3), ask(3)
    assert figures(first) == figures(second) and len(calls) == 1
    assert figures(ask(4)) != figures(first) and len(calls) == 2
