"""correct-float-bias: without data the mean of each layer's result is nearly that of the float model."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import qcompiler
from qcompiler import ir
from qcompiler.backends import get
from qcompiler.frontend import Frontend, front
from qcompiler.search.candidates import Candidate, Drafter
from tests.graphs import run
from tests.small import graph

# The input is what training saw: normal numbers, so that the promise holds but for the borders.
LAYERS = {
    "conv": "y = Conv (r, v, c)",
    "without bias": "y = Conv (r, v)",
    "padded": "y = Conv <pads = [1, 1, 1, 1]> (r, v, c)",
    "groups": "y = Conv <group = 2> (r, half_v, c)",
    "gemm": "p = GlobalAveragePool (r) f = Flatten (p) y = Gemm (f, m8, n)",
    "matmul": "p = GlobalAveragePool (r) f = Flatten (p) q = MatMul (f, m8) y = Add (q, n)",
}


def model(folder: Path, layer: str, seed: int = 0) -> tuple[Frontend, dict[str, np.ndarray]]:
    """A layer behind Conv, BatchNormalization and Relu; what the normalization says is so on the feed."""
    rng = np.random.default_rng(seed)

    def normal(*shape: int) -> np.ndarray:
        return rng.normal(size=shape).astype(np.float32)

    feed = {"x": normal(8, 4, 24, 24)}
    w = normal(8, 4, 1, 1)
    a = np.einsum("nihw,oi->nohw", feed["x"], w[:, :, 0, 0])
    constants = {
        "w": w, "g": normal(8), "e": normal(8) + 1, "u": a.mean((0, 2, 3)), "s": a.var((0, 2, 3)),
        "v": normal(6, 8, 3, 3) + 0.3, "half_v": normal(6, 4, 3, 3) + 0.3, "c": normal(6),
        "m8": normal(8, 32) + 0.3, "n": normal(32),
    }  # fmt: skip
    body = f"a = Conv (x, w) n1 = BatchNormalization (a, g, e, u, s) r = Relu (n1) {layer}"
    out = "float[N, M] y" if "Flatten" in layer else "float[N, M, P, Q] y"
    proto = graph(body, "float[8, 4, 24, 24] x", out, constants).to_proto()
    onnx.save(proto, folder / "model.onnx")
    return front(folder / "model.onnx"), feed


def candidate(ready: Frontend, on: bool = True, target: str = "coreml", precision: str = "w8") -> Candidate:
    drafter = Drafter(ready.prepared, get(target), only_given=True, promised=ready.promised)
    drafter = replace(drafter, algorithms=drafter.algorithms.updated({"correct-bias": on}))
    return drafter.candidate(drafter.draft(precision), None, "auto", {})  # type: ignore[arg-type]


def off(ready: Frontend, made: ir.Model, feed: dict[str, np.ndarray]) -> float:
    """By how much the means of the channels are off, beside the size of the result."""
    wanted, got = (np.asarray(run(which, feed)[0], np.float64) for which in (ready.prepared, made))
    axes = (0, 2, 3) if wanted.ndim == 4 else (0,)
    return float(np.abs((got - wanted).mean(axes)).mean() / wanted.std())


@pytest.mark.parametrize("name", LAYERS)
def test_means_come_back(tmp_path: Path, name: str) -> None:
    ready, feed = model(tmp_path, LAYERS[name])
    plain, better = (candidate(ready, on) for on in (False, True))
    (record,) = [record for record in better.trace.records if record.name == "correct-float-bias"]
    assert record.changes == 1 and len(plain.model.nodes) == len(better.model.nodes)
    assert off(ready, better.runs, feed) < 0.5 * off(ready, plain.runs, feed)


@given(st.integers(0, 10**6))
@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_it_never_harms_where_the_promise_holds(tmp_path: Path, seed: int) -> None:
    ready, feed = model(tmp_path, LAYERS["conv"], seed)
    plain, better = (candidate(ready, on) for on in (False, True))
    assert off(ready, better.runs, feed) < off(ready, plain.runs, feed)


def test_what_it_cannot_do_is_said(tmp_path: Path) -> None:
    ready, _ = model(tmp_path, "p = GlobalAveragePool (r) f = Flatten (p) y = MatMul (f, m8)")
    (record,) = [r for r in candidate(ready).trace.records if r.name == "correct-float-bias"]
    assert record.changes == 0
    assert [refusal.reason for refusal in record.refusals] == ["it adds no constant"]


def test_a_compile_without_data_corrects(tmp_path: Path) -> None:
    ready, feed = model(tmp_path, LAYERS["gemm"])
    sure = {"precision": "w8", "bench_seconds": 0.0}
    made = {}
    for name, changes in {"on": {}, "off": {"correct-bias": False}}.items():
        folder = tmp_path / name
        recipe = qcompiler.Recipe(**sure, algorithms=changes)  # type: ignore[arg-type]
        qcompiler.compile(ready.path, "onnxruntime", output=folder, recipe=recipe)
        report = json.loads((folder / "report.json").read_text())
        lines = [line for line in report["passes"] if line["name"] == "correct-float-bias"]
        assert [line["changes"] for line in lines] == ([1] if name == "on" else [])
        made[name] = off(ready, ir.load(folder / "model.onnx"), feed)
    assert made["on"] < made["off"]
