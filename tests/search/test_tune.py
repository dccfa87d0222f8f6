"""Options are kept for a confirmed gain of more than 3 %, never for less, and never at the cost of accuracy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from qcompiler import ir
from qcompiler.analysis import Runner, SessionConfig, Timing
from qcompiler.analysis.session import mark
from qcompiler.data import Sample
from qcompiler.search import tune as module
from qcompiler.search.tune import LOSS_DB, Tuned, less_accurate, tune
from tests.graphs import parse

PLAIN, A, B = SessionConfig(), SessionConfig(disabled_optimizers=("A",)), SessionConfig(disabled_optimizers=("B",))
FEED = {"x": np.ones((2, 4), np.float32)}
Times = Mapping[tuple[str, ...], float]


def net(noise: float = 0.0) -> ir.Model:
    weights = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    weights += noise * np.random.default_rng(1).normal(size=weights.shape).astype(np.float32)
    return parse("g (float[N,4] x) => (float[N,3] y) { y = MatMul(x, w) }", {"w": weights})


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Milliseconds by the optimizers that are left out, one table a round of measurement; and what was measured."""
    state: dict[str, Any] = {"rounds": [], "measured": []}

    def fake(
        runners: Mapping[str, Runner], feeds: Sequence[Any], *, seconds: float, cache: object
    ) -> dict[str, Timing]:
        table: Times = state["rounds"][min(len(state["measured"]), len(state["rounds"]) - 1)]
        state["measured"].append([runner.config.disabled_optimizers for runner in runners.values()])
        state["seconds"] = state.get("seconds", 0.0) + seconds * len(runners)
        return {
            name: Timing(np.full((5, 3), 0.002 if name == "given" else table[runner.config.disabled_optimizers] / 1e3))
            for name, runner in runners.items()
        }

    monkeypatch.setattr(module, "measure_each", fake)
    return state


def tuned(*offered: SessionConfig, seconds: float = 4.0, model: ir.Model | None = None) -> Tuned:
    return tune(net(), model or net(), [PLAIN, *offered], [FEED], None, threads=1, seconds=seconds)


def test_a_gain_over_three_percent_is_kept_and_all_times_are_told(clock: dict[str, Any]) -> None:
    clock["rounds"] = [{(): 1.0, ("A",): 0.9, ("B",): 1.2}]
    found = tuned(A, B)
    assert found.config == A
    assert [(t.config, t.said) for t in found.tried] == [(A, "kept"), (B, "not kept: not the fastest")]
    assert found.tried[0].gain.ratio == pytest.approx(1 / 0.9)
    assert found.given is not None and found.plain is not None and found.timing is not None
    assert [t.median_ms for t in (found.given, found.plain, found.timing)] == pytest.approx([2, 1, 0.9])
    assert clock["seconds"] <= 4.0 + 1e-9


def test_a_gain_of_two_percent_is_not_worth_options(clock: dict[str, Any]) -> None:
    clock["rounds"] = [{(): 1.0, ("A",): 0.98}]
    found = tuned(A)
    assert found.config == PLAIN and len(clock["measured"]) == 1
    assert "not over 3 %" in found.tried[0].said


def test_a_gain_that_the_second_round_does_not_see_is_not_kept(clock: dict[str, Any]) -> None:
    clock["rounds"] = [{(): 1.0, ("A",): 0.9}, {(): 1.0, ("A",): 0.99}]
    found = tuned(A)
    assert found.config == PLAIN and found.tried[0].said == "not kept: the gain was not confirmed"
    assert found.plain is found.timing


def test_options_that_gain_alone_are_tried_together(clock: dict[str, Any]) -> None:
    clock["rounds"] = [{(): 1.0, ("A",): 0.9, ("B",): 0.8}, {(): 1.0, ("B",): 0.8, ("A", "B"): 0.7}]
    assert tuned(A, B).config.disabled_optimizers == ("A", "B")
    assert clock["measured"][1:] == [[(), (), ("B",), ("A", "B")]]


def test_together_they_may_be_worse(clock: dict[str, Any]) -> None:
    clock["rounds"] = [{(): 1.0, ("A",): 0.9, ("B",): 0.8}, {(): 1.0, ("B",): 0.8, ("A", "B"): 0.95}]
    assert tuned(A, B).config == B


def test_accuracy_is_not_given_for_speed(clock: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    clock["rounds"] = [{(): 1.0, ("A",): 0.5}]
    monkeypatch.setattr(module, "less_accurate", lambda *_: True)
    found = tuned(A)
    assert found.config == PLAIN and found.tried[0].said == "not kept: it costs accuracy"


def test_nothing_is_measured_where_nothing_is_offered_or_no_time_is_given(clock: dict[str, Any]) -> None:
    assert tuned().config == PLAIN
    assert tuned(A, seconds=0).config == PLAIN
    assert clock["measured"] == []


def test_options_that_the_model_came_with_are_tried_too(clock: dict[str, Any]) -> None:
    clock["rounds"] = [{(): 1.0, ("A",): 0.5}]
    original = net()
    mark(original, A)
    assert tune(original, original, [PLAIN], [FEED], None, threads=1, seconds=1.0).config == A


def test_threads_are_those_of_the_recipe() -> None:
    assert tune(net(), net(), (), [FEED], None, threads=2, seconds=1.0).config == SessionConfig(threads=2)


def test_less_accurate_is_a_decibel_at_the_worst_output() -> None:
    rng = np.random.default_rng(2)
    samples = [Sample({"x": rng.normal(size=(8, 4)).astype(np.float32)}, None, str(i)) for i in range(4)]
    reference, plain = Runner(net()), Runner(net(0.01))
    assert LOSS_DB == 1.0
    assert not less_accurate(reference, plain, Runner(net(0.0105)), samples, None)
    assert less_accurate(reference, plain, Runner(net(0.02)), samples, None)
    assert not less_accurate(reference, plain, reference, samples, None)


def test_rounding_is_no_loss_of_accuracy() -> None:
    samples = [Sample({"x": np.random.default_rng(2).normal(size=(8, 4)).astype(np.float32)}, None, "0")]
    reference = Runner(net())
    assert not less_accurate(reference, reference, Runner(net(1e-6)), samples, None)
    assert less_accurate(reference, reference, Runner(net(1e-3)), samples, None)
