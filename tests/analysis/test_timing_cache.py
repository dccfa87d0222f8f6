"""Times that are kept: what was measured once decides again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import qcompiler
from qcompiler.analysis import Runner, TimingCache, measure_each, node_times
from tests.graphs import parse

TEXT = "g (float[4, 8] x) => (float[4, 8] y) { a = MatMul(x, w) y = Relu(a) }"
FEED = {"x": np.ones((4, 8), np.float32)}
CNN = Path(__file__).resolve().parents[2] / "models" / "digits_cnn"


def test_the_same_is_not_measured_twice(tmp_path: Path) -> None:
    cache, model = TimingCache(tmp_path), parse(TEXT, {"w": np.eye(8, dtype=np.float32)})
    first = measure_each({"m": Runner(model)}, [FEED], seconds=0.01, cache=cache)
    again = measure_each({"m": Runner(model)}, [FEED], seconds=0.01, cache=cache)
    np.testing.assert_array_equal(first["m"].times, again["m"].times)
    assert node_times(model, FEED, cache=cache) == node_times(model, FEED, cache=cache)
    other = parse(TEXT, {"w": 2 * np.eye(8, dtype=np.float32)})
    assert measure_each({"m": Runner(other)}, [FEED], seconds=0.01, cache=cache)["m"].times.tolist() != (
        first["m"].times.tolist()
    )


def test_a_broken_cache_costs_nothing_but_time(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    calls = []
    for _ in range(2):
        TimingCache(tmp_path / "file").get(["k"], lambda: calls.append(1) or {"a": 1})
    assert len(calls) == 2
    cache = TimingCache(tmp_path)
    assert cache.get(["k"], lambda: {"a": 1}) == {"a": 1}
    next((tmp_path / "timings").iterdir()).write_text("{")
    assert cache.get(["k"], lambda: {"a": 2}) == {"a": 2}


def test_where_it_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QCOMPILER_CACHE", "")
    assert TimingCache.default().folder is None
    monkeypatch.delenv("QCOMPILER_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert TimingCache.default().folder == tmp_path / "qcompiler"


def test_two_compiles_with_measurements_give_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QCOMPILER_CACHE", str(tmp_path / "cache"))
    recipe = qcompiler.Recipe(bench_seconds=0.5, samples=32)
    for name in ("one", "two"):
        model, data = CNN / "model.onnx", CNN / "calibration.npz"
        qcompiler.compile(model, "onnxruntime", data, output=tmp_path / name, recipe=recipe)
    for file in ("model.onnx", "plan.json", "stats.npz", "session.json"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes(), file
