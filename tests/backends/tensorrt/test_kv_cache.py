"""A cache of keys and values in int8, in a graph of float16, by the real builder."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from ml_dtypes import float8_e4m3fn

from qcompiler import Recipe, compile, ir
from qcompiler.backends.tensorrt import build as builder
from qcompiler.backends.tensorrt.simulate import simulated
from qcompiler.errors import UsageError
from qcompiler.numerics.observers import ChannelRange
from qcompiler.passes.lower.cache import store
from tests.backends.test_kv_cache import DOCS, Seen, cached, spoken
from tests.graphs import run

BOUNDS = {"batch": "1:1:4", "length": "1:64:128", "past": "0:64:512"}


@pytest.mark.parametrize(
    ("kind", "per_token", "said", "most"),
    [("int8", 816, "with a scale for each token beside each", 0.002), ("fp8", 768, "scales are fixed", 0.004)],
)
def test_the_builder_takes_a_model_with_such_a_cache_and_it_speaks(
    kind: str, per_token: int, said: str, most: float, tmp_path: Path
) -> None:
    recipe = Recipe(
        precision="w8", metric="perplexity", samples=2, max_drop="none", options={"kv_cache": kind}, shapes=BOUNDS
    )
    result = compile(
        DOCS / "model.onnx", "tensorrt:sm89", str(DOCS / "evaluation.npz"), output=tmp_path / "o", recipe=recipe
    )
    report, folder = result.report, tmp_path / "o"
    note = next(note for note in report.notes if f"12 caches are {kind} at the inputs and outputs" in note)
    assert said in note and f"{per_token} bytes of cache, in float 3072" in note
    assert 0 < report.language["kl"] < most
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["cache_bytes_per_token"] == per_token and len(manifest["caches"]) == 12
    stored = {"int8": "int8", "fp8": "float8_e4m3fn"}[kind]
    scale = "past_key_values.0.key_scale"
    beside = {"scale": scale} if kind == "int8" else {}
    assert manifest["caches"]["past_key_values.0.key"] == {"type": stored, **beside}
    assert manifest["inputs"]["past_key_values.0.key"]["type"] == stored
    assert (scale in manifest["inputs"]) == bool(beside)
    assert not beside or manifest["inputs"][scale] == {
        "type": "float16", "shape": ["batch", 2, "past", 1], "profile": [[1, 2, 0, 1], [1, 2, 64, 1], [4, 2, 512, 1]],
    }  # fmt: skip
    shipped = simulated(ir.load(folder / "model.onnx")).to_proto().SerializeToString()
    scores = [spoken(model) for model in (DOCS / "model.onnx", shipped)]
    assert np.corrcoef(scores[0], scores[1])[0, 1] > 0.99
    np.testing.assert_allclose(scores[1], spoken(shipped, (12,)), atol=0.1)
    with np.load(folder / "golden" / "inputs.npz") as golden:
        assert golden["past_key_values.0.key"].dtype == {"int8": np.int8, "fp8": np.uint8}[kind]
    if builder.version():
        assert result.exit_status == 0 and report.backend["kernels"] > 0 and "refusal" not in report.backend


def test_fixed_scales_stand_in_the_graph_and_codes_are_what_was_judged() -> None:
    rng = np.random.default_rng(0)
    large = np.exp2(rng.integers(-6, 6, (1, 2, 1, 8))).astype(np.float32)
    large[0, 0, 0, 0] = 0  # a channel that was always 0
    seen = ChannelRange((1, 3)).update(rng.uniform(-1, 1, (1, 2, 999, 8)).astype(np.float32) * large)
    model, _ = cached(kind="fp8", stats=Seen(seen), fixed=True)
    shipped, notes = store(model, "fp8")
    assert "scales are fixed; a token takes 16 bytes of cache, in float 64" in notes[0]
    assert [t.name for t in shipped.inputs] == ["new", "past_key"] and shipped.inputs[1].dtype == float8_e4m3fn
    assert [t.name for t in shipped.outputs] == ["present_key", "y"] and shipped.outputs[0].dtype == float8_e4m3fn
    bytes_of, floats, codes = simulated(shipped), np.zeros((1, 2, 0, 8), np.float32), np.zeros((1, 2, 0, 8), np.uint8)
    for tokens in (5, 1, 3):
        new = rng.uniform(-3, 3, (1, 2, tokens, 8)).astype(np.float32) * large
        floats, wanted = run(model, {"new": new, "past_key": floats})
        codes, got = run(bytes_of, {"new": new, "past_key": codes})
        np.testing.assert_allclose(got, wanted, rtol=1e-6)
        most, stored = 1.75 * seen.absmax.reshape(1, 2, 1, 8), floats[:, :, -tokens:]
        cut = np.clip(new, -most, most)
        assert (np.abs(stored - cut) <= np.abs(cut) / 15.9 + most * 2.0**-18).all() and (cut != new).any()
        assert codes.dtype == np.uint8 and codes.shape == floats.shape


def test_without_data_there_are_no_fixed_scales(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(builder, "version", lambda: "")
    recipe = Recipe(precision="w8", options={"kv_cache": "fp8"}, shapes=BOUNDS)
    report = compile(DOCS / "model.onnx", "tensorrt:sm89", output=tmp_path / "o", recipe=recipe).report
    assert any(
        "12 caches stay float" in note and "takes fixed scales, which need --data" in note for note in report.notes
    )


@pytest.mark.parametrize(("kind", "why"), [("int4", "internal error"), ("fp8", "before sm89"), ("int2", "")])
def test_kinds_that_are_not_made_say_why(kind: str, why: str) -> None:
    with pytest.raises(UsageError, match=f"no cache is stored as {kind}.*{why}"):
        compile(DOCS / "model.onnx", "tensorrt:sm86", recipe=Recipe(options={"kv_cache": kind}))


def test_a_cache_in_bfloat16_stays_and_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(builder, "version", lambda: "")
    recipe = Recipe(precision="bf16", options={"kv_cache": "int8"}, shapes=BOUNDS)
    report = compile(DOCS / "model.onnx", "tensorrt", output=tmp_path / "o", recipe=recipe).report
    assert any("12 caches stay float" in note and "bfloat16" in note for note in report.notes)
    model = onnx.load(tmp_path / "o" / "model.onnx")
    assert len(model.graph.input) == 13
