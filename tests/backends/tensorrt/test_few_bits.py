"""Weights in blocks through the whole compile, with data: scales that the target needs come from `encode`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from qcompiler.backends.tensorrt import build as builder
from qcompiler.compiler import compile
from qcompiler.recipe import Recipe


@pytest.mark.parametrize(("variant", "precision"), [("sm89", "w4"), ("sm120", "nvfp4")])
def test_blocks_with_data(variant: str, precision: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(builder, "version", lambda: "")
    rng = np.random.default_rng(0)
    proto = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> g (float[8, 128] x) => (float[8, 32] y) { y = MatMul(x, w) }'
    )
    w = rng.normal(size=(128, 32)).astype(np.float32)
    proto.graph.initializer.append(onnx.numpy_helper.from_array(w, "w"))
    onnx.save(proto, tmp_path / "m.onnx")
    data = [{"x": rng.normal(size=(8, 128)).astype(np.float32)} for _ in range(3)]
    found = compile(tmp_path / "m.onnx", f"tensorrt:{variant}", data, recipe=Recipe(precision=precision))
    assert found.report.target["shipped"] == precision
    assert found.report.candidates[0].worst_sqnr_db is not None and found.report.candidates[0].worst_sqnr_db > 12
