"""What no sample shows stays float: a detector that found nothing, experts that were not asked."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

import qcompiler
from qcompiler import Recipe
from tests.graphs import parse

RNG = np.random.default_rng(7)
FOUND = """g (float[N, 64] x) => (float[N, 64] y, float[K, 64] z) {
    a = MatMul(x, w) b = Relu(a) best = ReduceMax <axes = [1], keepdims = 0> (b) some = Greater(best, limit)
    rows = Compress <axis = 0> (b, some) d = MatMul(rows, v) e = Relu(d) z = MatMul(e, v) y = MatMul(b, v) }"""


def model(folder: Path) -> Path:
    """Rows that reach the limit go on; none does."""
    weights = {name: RNG.normal(size=(64, 64)).astype(np.float32) / 8 for name in ("w", "v")}
    onnx.save(parse(FOUND, {**weights, "limit": np.float32(1e6)}, opset=17).to_proto(), folder / "m.onnx")
    return folder / "m.onnx"


@pytest.mark.parametrize("precision", ["auto", "int8"])
def test_values_of_no_elements(precision: str, tmp_path: Path) -> None:
    data = [{"x": RNG.normal(size=(4, 64)).astype(np.float32)} for _ in range(8)]
    recipe = Recipe(precision=precision, bench_seconds=0).updated({"max_drop": "none"})
    found = qcompiler.compile(model(tmp_path), "onnxruntime", data, recipe=recipe, output=tmp_path / "out")
    report = found.report
    assert found.exit_status == 0 and report.target["shipped"] == "int8"
    why = {node.name: (node.precision, node.reason) for node in report.nodes}
    assert why["n0_MatMul"][0] == "int8"
    for name in ("n5_MatMul", "n7_MatMul"):
        assert why[name][0] == "float" and "no sample showed" in why[name][1], why[name]
    assert any("no sample showed their values" in note for note in report.notes)


def test_statistics_of_a_file(tmp_path: Path) -> None:
    path = model(tmp_path)
    data = [{"x": RNG.normal(size=(4, 64)).astype(np.float32)} for _ in range(4)]
    stats = qcompiler.calibrate(path, "onnxruntime", data, output=tmp_path / "s.npz")
    recipe = Recipe(precision="int8", bench_seconds=0)
    found = qcompiler.compile(path, "onnxruntime", stats=stats, recipe=recipe)
    assert found.report.target["shipped"] == "int8"
    assert {node.name for node in found.report.nodes if node.precision == "float"} >= {"n5_MatMul", "n7_MatMul"}
