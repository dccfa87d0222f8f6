"""The arithmetic of the benchmarks, and one small timing; the benchmarks themselves take minutes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from benchmarks import coverage, light
from benchmarks.speed import best_peer, table
from benchmarks.timing import latencies, pinned
from qcompiler import ir
from qcompiler.analysis import SessionConfig
from tests.graphs import parse


def result(metric: float | None, speedup: float) -> dict[str, Any]:
    figures = {"min_ms": 1.0, "median_ms": 1.1, "spread": 0.01, "speedup": speedup, "noise": 0.02}
    return {"metric": metric, "threads": {"1": figures, "2": {**figures, "speedup": 2 * speedup}}}


def test_the_peer_is_the_fastest_within_a_percent_of_float_else_the_most_accurate() -> None:
    results = {"float": result(0.8, 1), "ort minmax": result(0.795, 2.0), "ort dynamic": result(0.7, 3.0)}
    assert best_peer(results, "1", True) == "ort minmax"
    results["ort minmax"]["metric"] = 0.75
    assert best_peer(results, "1", True) == "ort minmax"
    results["ort percentile"] = result(0.799, 1.1)
    assert best_peer(results, "1", True) == "ort percentile"


def test_a_lower_perplexity_is_better_and_without_a_metric_the_fastest_counts() -> None:
    perplexity = {"float": result(10.0, 1), "ort minmax": result(9.9, 1.5), "ort dynamic": result(12.0, 3.0)}
    assert best_peer(perplexity, "1", False) == "ort minmax"
    made_up = {"float": result(None, 1), "ort minmax": result(None, 1.5), "ort dynamic": result(None, 3.0)}
    assert best_peer(made_up, "1", True) == "ort dynamic"
    assert best_peer({"float": result(None, 1)}, "1", True) == ""


def test_the_table_shows_both_numbers_of_threads() -> None:
    row: dict[str, Any] = {"model": "net", "ort": "ort minmax"}
    row["results"] = {"float": result(0.8, 1.0), "ours": result(0.79, 3.0), "ort minmax": result(0.79, 2.0)}
    lines = table(row)
    assert [line[21:36].strip() for line in lines] == ["float", "ours", "ort minmax"]
    assert lines[0].startswith("net ") and "  3.00 +-0.02" in lines[1] and "  6.00 +-0.02" in lines[1]


def test_one_thread_stays_on_one_cpu_while_it_is_measured() -> None:
    if not hasattr(os, "sched_getaffinity"):
        pytest.skip("this system pins no threads")
    before = os.sched_getaffinity(0)
    with pinned(1) as said:
        assert len(os.sched_getaffinity(0)) == 1 and said.startswith("pinned to CPU")
    with pinned(2) as said:
        assert os.sched_getaffinity(0) == before and said == "not pinned"
    assert os.sched_getaffinity(0) == before


def test_latencies_compare_with_the_first_model(tmp_path: Path) -> None:
    for name, size in (("small", 8), ("large", 512)):
        text = f"g (float[64,{size}] x) => (float[64,{size}] y) {{ h = MatMul(x, w)\n y = MatMul(h, w) }}"
        ir.save(parse(text, {"w": np.ones((size, size), np.float32)}), tmp_path / f"{name}.onnx")
    plain = SessionConfig()
    models = {"first": (tmp_path / "large.onnx", plain), "same": (tmp_path / "large.onnx", plain)}
    found = latencies(models, [{"x": np.ones((64, 512), np.float32)}], 1, 0.1)
    assert found["first"]["speedup"] == 1 and 0.3 < found["same"]["speedup"] < 3
    assert 0 < found["same"]["min_ms"] <= found["same"]["median_ms"]


def test_a_network_of_the_onnx_package_gets_constant_weights_and_runs(tmp_path: Path) -> None:
    assert "squeezenet" in light.names()
    path = light.with_weights("squeezenet", tmp_path / "m.onnx")
    graph = onnx.load(path).graph
    assert len(graph.input) == 1 and "ConstantOfShape" not in {node.op_type for node in graph.node}
    (output,) = ort.InferenceSession(path).run(None, light.feeds("squeezenet", 1)[0])
    assert np.isfinite(output).all()


def test_the_table_of_coverage_counts_what_is_right() -> None:
    assert coverage.hits(50, 0.0, 0.0, 20) == (1.0, 1.0)
    assert min(coverage.agreement(60, 0.05, 300)) >= 0.92
    assert min(coverage.stopped(0.3, 0.0, 20)) >= 0.8
    assert min(coverage.drawn(20, "normal", 40)) >= 0.8
