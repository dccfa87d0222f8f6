"""When `auto` tries mixed, and with which ranges."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import qcompiler
from qcompiler import Recipe, ir
from qcompiler.report.record import CandidateLine
from tests.graphs import parse

RNG = np.random.default_rng(0)
CONSTANTS = {
    "k": RNG.normal(size=(8, 4, 3, 3)).astype(np.float32) / 4,
    "m": RNG.normal(size=(16, 16)).astype(np.float32) / 4,
}
CONV = "a = Conv <pads = [1, 1, 1, 1]> (x, k)"
LINES = {
    "convolutions alone": (CONV, "a", 8),
    "products alone": ("a = MatMul(x, m)", "a", 4),
    "both": (f"{CONV} s = Softmax(a) y = MatMul(s, m)", "y", 8),
}


def compiled(tmp_path: Path, name: str, precision: str = "auto") -> dict[str, CandidateLine]:
    body, result, channels = LINES[name]
    used = {key: value for key, value in CONSTANTS.items() if f" {key})" in body}
    text = f"g (float[1, 4, 16, 16] x) => (float[1, {channels}, 16, 16] {result}) {{ {body} }}"
    ir.save(parse(text, used), tmp_path / "m.onnx")
    data = [{"x": RNG.normal(size=(1, 4, 16, 16)).astype(np.float32)} for _ in range(3)]
    recipe = Recipe(precision=precision, bench_seconds=0)
    report = qcompiler.compile(tmp_path / "m.onnx", "onnxruntime", data, recipe=recipe).report
    return {line.precision: line for line in report.candidates}


@pytest.mark.parametrize("name", LINES)
def test_auto_tries_mixed_only_where_it_is_neither_of_the_others(tmp_path: Path, name: str) -> None:
    tried = compiled(tmp_path, name)
    assert ("mixed" in tried) == (name == "both")
    if name == "both":
        assert tried["mixed"].method == tried["int8"].method != ""


def test_mixed_can_be_asked_for_by_name(tmp_path: Path) -> None:
    assert set(compiled(tmp_path, "both", "mixed")) == {"mixed", "float"}
    assert set(compiled(tmp_path, "convolutions alone", "mixed")) == {"mixed", "float"}
