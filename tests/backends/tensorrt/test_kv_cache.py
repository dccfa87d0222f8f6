"""A cache of keys and values in int8, in a graph of float16, by the real builder."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest

from qcompiler import Recipe, compile
from qcompiler.backends.tensorrt import build as builder
from qcompiler.errors import UsageError
from tests.backends.test_kv_cache import DOCS, spoken

BOUNDS = {"batch": "1:1:4", "length": "1:64:128", "past": "0:64:512"}


def test_the_builder_takes_a_model_with_such_a_cache_and_it_speaks(tmp_path: Path) -> None:
    recipe = Recipe(
        precision="w8", metric="perplexity", samples=2, max_drop="none", options={"kv_cache": "int8"}, shapes=BOUNDS
    )
    result = compile(
        DOCS / "model.onnx", "tensorrt:sm89", str(DOCS / "evaluation.npz"), output=tmp_path / "o", recipe=recipe
    )
    report, folder = result.report, tmp_path / "o"
    said = "12 caches are int8 at the inputs and outputs, with a scale for each token beside each"
    assert any(said in note and "816 bytes of cache, in float 3072" in note for note in report.notes)
    assert 0 < report.language["kl"] < 0.01
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["cache_bytes_per_token"] == 816 and len(manifest["caches"]) == 12
    assert manifest["caches"]["past_key_values.0.key"] == {"type": "int8", "scale": "past_key_values.0.key_scale"}
    assert manifest["inputs"]["past_key_values.0.key"]["type"] == "int8"
    assert manifest["inputs"]["past_key_values.0.key_scale"] == {
        "type": "float16", "shape": ["batch", 2, "past", 1], "profile": [[1, 2, 0, 1], [1, 2, 64, 1], [4, 2, 512, 1]],
    }  # fmt: skip
    scores = [spoken(path) for path in (DOCS / "model.onnx", folder / "model.onnx")]
    assert np.corrcoef(scores[0], scores[1])[0, 1] > 0.995
    with np.load(folder / "golden" / "inputs.npz") as golden:
        assert golden["past_key_values.0.key"].dtype == np.int8
    if builder.version():
        assert result.exit_status == 0 and report.backend["kernels"] > 0 and "refusal" not in report.backend


@pytest.mark.parametrize(("kind", "why"), [("int4", "internal error"), ("fp8", "fixed scales alone"), ("int2", "")])
def test_kinds_that_are_not_made_say_why(kind: str, why: str) -> None:
    with pytest.raises(UsageError, match=f"no cache is stored as {kind}.*{why}"):
        compile(DOCS / "model.onnx", "tensorrt", recipe=Recipe(options={"kv_cache": kind}))


def test_a_cache_in_bfloat16_stays_and_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(builder, "version", lambda: "")
    recipe = Recipe(precision="bf16", options={"kv_cache": "int8"}, shapes=BOUNDS)
    report = compile(DOCS / "model.onnx", "tensorrt", output=tmp_path / "o", recipe=recipe).report
    assert any("12 caches stay float" in note and "bfloat16" in note for note in report.notes)
    model = onnx.load(tmp_path / "o" / "model.onnx")
    assert len(model.graph.input) == 13
