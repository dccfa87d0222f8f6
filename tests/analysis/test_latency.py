"""Timing: blocks that alternate, a bounded time, and a verdict that noise does not sway. The clock is ours."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pytest

from qcompiler.analysis import Runner, Timing, measure, speedup
from qcompiler.errors import DataError
from tests.graphs import parse


class Clock:
    """Time that passes only when a model runs."""

    def __init__(self) -> None:
        self.now = 0.0
        self.log: list[str] = []

    def __call__(self) -> float:
        return self.now


class Fake(Runner):
    """A model whose runs take the given times."""

    def __init__(self, name: str, clock: Clock, times: Iterator[float]) -> None:
        self.name, self.clock, self.times = name, clock, times
        self.feeds: list[Any] = []

    def run(self, feed: Mapping[str, Any], *, sample: str = "") -> dict[str, Any]:
        self.clock.log.append(self.name)
        self.clock.now += next(self.times)
        self.feeds.append(feed["x"])
        return {}


def steady(seconds: float, noise: float = 0.0, seed: int = 0) -> Iterator[float]:
    rng = np.random.default_rng(seed)
    while True:
        yield seconds * (1 + noise * float(rng.standard_normal()))


def pair(a: Iterator[float], b: Iterator[float], **options: Any) -> tuple[Clock, dict[str, Timing]]:
    clock = Clock()
    models = {"a": Fake("a", clock, a), "b": Fake("b", clock, b)}
    return clock, measure(models, [{"x": 0}], clock=clock, **options)


def test_blocks_alternate_and_turn_round() -> None:
    clock, times = pair(steady(0.01), steady(0.01), blocks=4, seconds=0.4)
    runs = 1 + 10  # one warm, ten timed
    forth, back = ["a"] * runs + ["b"] * runs, ["b"] * runs + ["a"] * runs
    assert clock.log == ["a"] * 2 + ["b"] * 2 + [*forth, *back, *forth, *back]
    assert {timing.times.shape for timing in times.values()} == {(4, 10)}


def test_a_block_has_forty_runs_at_most() -> None:
    _, times = pair(steady(1e-5), steady(1e-3), blocks=5, seconds=1.0)
    assert times["a"].times.shape == (5, 40) and times["b"].times.shape == (5, 40)


def test_slow_models_get_fewer_runs() -> None:
    _, times = pair(steady(0.5), steady(0.1), blocks=10, seconds=3.0)
    assert times["a"].times.shape == (6, 1) and times["b"].times.shape == (6, 5)
    _, times = pair(steady(20.0), steady(9.0), blocks=10, seconds=3.0)
    assert times["a"].times.shape == (3, 1) and times["b"].times.shape == (3, 1)


def test_figures() -> None:
    timing = Timing(np.array([[1.0, 3.0, 2.0], [4.0, 4.0, 7.0], [2.0, 2.0, 2.0]]) / 1e3)
    assert timing.min_ms == pytest.approx(1.0) and timing.median_ms == pytest.approx(2.0)
    assert timing.blocks_ms.tolist() == pytest.approx([2, 4, 2])
    assert timing.spread == pytest.approx(0.25)


def test_ratio_of_steady_models() -> None:
    _, times = pair(steady(0.03), steady(0.01))
    found = speedup(times["a"], times["b"])
    assert found.ratio == pytest.approx(3.0) and found.noise == 0.005
    assert found.faster and not found.slower
    assert speedup(times["b"], times["a"]).slower


def test_noise_alone_decides_nothing() -> None:
    for seed in range(20):
        _, times = pair(steady(0.01, 0.1, seed), steady(0.01, 0.1, seed + 100), blocks=10, seconds=0.5)
        found = speedup(times["a"], times["b"])
        assert found.noise > 0.005 and not (found.slower and found.ratio > 0.97)
    _, times = pair(steady(0.01, 0.1), steady(0.02, 0.1, 7), blocks=10, seconds=0.5)
    assert speedup(times["a"], times["b"]).slower


def test_a_drift_hits_both_models_alike() -> None:
    clock = Clock()

    def drifting() -> Iterator[float]:
        while True:
            yield 0.01 * (1 + clock.now)

    models = {name: Fake(name, clock, drifting()) for name in "ab"}
    times = measure(models, [{"x": 0}], clock=clock, blocks=10, seconds=1.0)
    assert abs(speedup(times["a"], times["b"]).ratio - 1) < 0.01


def test_feeds_are_taken_in_turn() -> None:
    clock = Clock()
    fake = Fake("a", clock, steady(0.1))
    measure({"a": fake}, [{"x": i} for i in range(3)], clock=clock, blocks=3, seconds=1.2)
    assert fake.feeds == [0, 0] + [2, 0, 1, 2, 0] * 3


def test_real_sessions() -> None:
    model = parse("g (float[64,64] x) => (float[64,64] y) { y = MatMul(x, x) }")
    times = measure({"a": Runner(model), "b": Runner(model)}, [{"x": np.ones((64, 64), np.float32)}], seconds=0.05)
    assert 0 < times["a"].min_ms <= times["a"].median_ms < 100
    assert 0.2 < speedup(times["a"], times["b"]).ratio < 5


def test_no_feeds() -> None:
    with pytest.raises(DataError, match="no samples to time the models on"):
        measure({}, [])
