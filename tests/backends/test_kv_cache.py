"""A cache of keys and values in int8: what steps read is what they were judged with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from models.decoder import Sizes, write
from qcompiler import Recipe, compile, ir
from qcompiler.backends.onnxruntime.cache import QuantizeCache, caches, store
from qcompiler.errors import UsageError
from qcompiler.passes.prepare.infer_shapes import InferShapes
from qcompiler.passes.prepare.name_everything import NameEverything
from qcompiler.pipeline import Pipeline
from tests.graphs import run

DOCS = Path(__file__).resolve().parents[2] / "models" / "docs_llama"
TEXT = """<ir_version: 10, opset_import: ["" : 21]>
g (float[b, 2, n, 8] new, float[b, 2, p, 8] past.key) => (float[b, 2, t, 8] present.key, float[b, 2, t, 1] y) {
  present.key = Concat <axis = 2> (past.key, new)
  y = ReduceSum <keepdims = 1> (present.key, axes)
}"""


def cached(text: str = TEXT) -> tuple[ir.Model, list[str]]:
    proto = onnx.parser.parse_model(text.replace("past.key", "past_key").replace("present.key", "present_key"))
    proto.graph.initializer.append(onnx.numpy_helper.from_array(np.array([-1], np.int64), "axes"))
    model, pipeline = ir.Model.from_proto(proto), Pipeline()
    pipeline.graph(model, [NameEverything(), InferShapes(), QuantizeCache()])
    return model, list(pipeline.trace.notes)


def test_stored_tokens_are_what_was_judged() -> None:
    model, _ = cached()
    shipped = store(model)
    assert len(caches(model)) == 1 and not caches(shipped)
    assert [t.name for t in shipped.inputs] == ["new", "past_key", "past_key_scale"]
    assert [t.name for t in shipped.outputs] == ["present_key", "y", "present_key_scale"]
    assert shipped.inputs[1].dtype == shipped.outputs[0].dtype == np.int8
    rng = np.random.default_rng(0)
    floats = np.zeros((1, 2, 0, 8), np.float32)
    codes, scales = np.zeros((1, 2, 0, 8), np.int8), np.zeros((1, 2, 0, 1), np.float32)
    exact = floats
    for tokens in (5, 1, 1, 3):
        new = rng.standard_normal((1, 2, tokens, 8)).astype(np.float32)
        new[:, :, 0] *= 0 if tokens == 3 else 1  # a token of zeros stays one
        exact = np.concatenate([exact, new], 2)
        floats, wanted = run(model, {"new": new, "past_key": floats})
        codes, got, scales = run(shipped, {"new": new, "past_key": codes, "past_key_scale": scales})
        np.testing.assert_allclose(got, wanted, rtol=1e-6)
        np.testing.assert_array_equal(floats, codes * scales)
    step = np.abs(exact).max(-1, keepdims=True) / 127
    assert (np.abs(exact - floats) <= 0.5001 * step).all() and codes.dtype == np.int8


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("Concat <axis = 2> (past.key, new)", "Concat <axis = 2> (new, past.key)"),
        ("axis = 2> (past.key", "axis = 1> (past.key"),
        ("y = ReduceSum", "q = Relu (past.key) y = ReduceSum"),
        ("float[b, 2, p, 8] past.key) => (float[b, 2, t, 8] present.key, ", "float[b, 2, p, 8] past.key) => ("),
    ],
)
def test_other_forms_stay_float_and_are_said(old: str, new: str) -> None:
    model, notes = cached(TEXT.replace(old, new))
    assert not caches(model) and store(model) is model and "caches stay float" in notes[-1]


def test_a_model_with_such_a_cache_compiles_and_speaks(tmp_path: Path) -> None:
    recipe = Recipe(
        precision="w4", weight_method="rtn", metric="perplexity", samples=2, bench_seconds=0,
        options={"bits": 8, "kv_cache": "int8", "table_bits": 0, "accuracy_level": 0},
    )  # fmt: skip
    report = compile(
        DOCS / "model.onnx", "onnxruntime", str(DOCS / "evaluation.npz"), output=tmp_path / "o", recipe=recipe
    ).report
    assert any("NAME_scale" in note for note in report.notes) and report.language["kl"] < 0.01
    sessions = [
        ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        for path in (DOCS / "model.onnx", tmp_path / "o" / "model.onnx")
    ]
    tokens = np.load(DOCS / "evaluation.npz")["input_ids"][:1, :12]
    logits = []
    for session in sessions:
        types = {"tensor(float)": np.float32, "tensor(int8)": np.int8}
        feed = {
            t.name: np.zeros((1, 2, 0, t.shape[3]), types[t.type]) for t in session.get_inputs() if "past" in t.name
        }
        names = [t.name for t in session.get_outputs()]
        for part in (tokens[:, :8], *(tokens[:, i : i + 1] for i in range(8, 12))):
            found = dict(zip(names, session.run(None, {**feed, "input_ids": part}), strict=True))
            feed = {name: found[name.replace("past_key_values", "present")] for name in feed}
        logits.append(found["logits"])
    assert sum("scale" in t.name for t in sessions[1].get_inputs()) == 12
    assert np.corrcoef(logits[0].ravel(), logits[1].ravel())[0, 1] > 0.995


def test_where_it_cannot_be_it_says_so(tmp_path: Path) -> None:
    recipe = Recipe(precision="w4", weight_method="rtn", bench_seconds=0, options={"kv_cache": "int8"})
    model = write(tmp_path / "m", Sizes(1, 64, 96, 64, 32))
    report = compile(model, "onnxruntime", recipe=recipe).report
    assert any("GroupQueryAttention" in note and "stay float" in note for note in report.notes)
    for kind in ("fp8", "int4"):
        with pytest.raises(UsageError, match="joins no tensors"):
            compile(model, "onnxruntime", recipe=Recipe(precision="w4", options={"kv_cache": kind}))
    with pytest.raises(UsageError, match="no such option"):
        compile(model, "qnn", recipe=Recipe(options={"kv_cache": "int8"}))
