"""A cache of keys and values in int8: what steps read is what they were judged with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from models.decoder import Sizes, write
from qcompiler import Recipe, compile, ir
from qcompiler.errors import UsageError
from qcompiler.numerics.observers import ChannelRange
from qcompiler.passes.lower.cache import KINDS, QuantizeCache, observed, store
from qcompiler.passes.lower.cache_codes import numbers
from qcompiler.passes.prepare.infer_shapes import InferShapes
from qcompiler.passes.prepare.name_everything import NameEverything
from qcompiler.pipeline import Pipeline
from tests.graphs import run

DOCS = Path(__file__).resolve().parents[2] / "models" / "docs_llama"
PARTS = ("key", "value")
TEXT = """<ir_version: 10, opset_import: ["" : 21]>
g (float[b, 2, n, 8] new, float[b, 2, p, 8] past.key) => (float[b, 2, t, 8] present.key, float[b, 2, t, 1] y) {
  present.key = Concat <axis = 2> (past.key, new)
  y = ReduceSum <keepdims = 1> (present.key, axes)
}"""


STORED = {"int8": (np.int8, 1), "fp8": (np.uint8, 1), "int4": (np.uint8, 2)}
STEPS = {"int8": 0.5001 / 127, "fp8": 1 / 16, "int4": 0.5001 / 7.5}


class Seen:
    """Statistics that know the extremes of one cache."""

    def __init__(self, seen: ChannelRange) -> None:
        self.seen = seen

    def channel_range(self, tensor: str, axis: object = 1) -> ChannelRange | None:
        return self.seen if (tensor, axis) == ("present_key", (1, 3)) else None

    histogram = channels = shape = channel_range


def cached(
    text: str = TEXT, kind: str = "int8", stats: Seen | None = None, *, fixed: bool = False
) -> tuple[ir.Model, list[str]]:
    proto = onnx.parser.parse_model(text.replace("past.key", "past_key").replace("present.key", "present_key"))
    proto.graph.initializer.append(onnx.numpy_helper.from_array(np.array([-1], np.int64), "axes"))
    model, pipeline = ir.Model.from_proto(proto), Pipeline()
    cache = QuantizeCache(kind, stats, fixed)  # type: ignore[arg-type]
    pipeline.graph(model, [NameEverything(), InferShapes(), cache])
    return model, list(pipeline.trace.notes)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("channels", [False, True])
def test_stored_tokens_are_what_was_judged(kind: str, channels: bool) -> None:
    rng = np.random.default_rng(0)
    large = np.ones((1, 2, 1, 8), np.float32)
    large[0, 1, 0, 3] = 50
    seen = ChannelRange((1, 3)).update(rng.standard_normal((1, 2, 99, 8)).astype(np.float32) * large)
    model, _ = cached(kind=kind, stats=Seen(seen) if channels else None)
    shipped, notes = store(model, kind)
    dtype, per = STORED[kind]
    assert [t.name for t in shipped.inputs] == ["new", "past_key", "past_key_scale"]
    assert [t.name for t in shipped.outputs] == ["present_key", "y", "present_key_scale"]
    assert shipped.inputs[1].dtype == shipped.outputs[0].dtype == dtype
    assert f"a token takes {2 * (8 // per + 4)} bytes of cache, in float 64" in notes[0]
    exact = floats = np.zeros((1, 2, 0, 8), np.float32)
    codes, scales = np.zeros((1, 2, 0, 8 // per), dtype), np.zeros((1, 2, 0, 1), np.float32)
    for tokens in (5, 1, 1, 3):
        new = rng.standard_normal((1, 2, tokens, 8)).astype(np.float32) * large
        new[:, :, 0] *= 0 if tokens == 3 else 1  # a token of zeros stays one
        exact = np.concatenate([exact, new], 2)
        before = codes
        floats, wanted = run(model, {"new": new, "past_key": floats})
        codes, got, scales = run(shipped, {"new": new, "past_key": codes, "past_key_scale": scales})
        np.testing.assert_allclose(got, wanted, rtol=1e-6)
        np.testing.assert_array_equal(codes[:, :, : before.shape[2]], before)
    even = seen.absmax.reshape(1, 2, 1, 8) if channels else np.ones((1, 2, 1, 8), np.float32)
    step = np.abs(exact / even).max(-1, keepdims=True) * STEPS[kind]
    off, most = np.abs(exact - floats) / even, np.abs(exact / even) / 15.9 + 1e-3 if kind == "fp8" else step + 1e-30
    assert codes.dtype == dtype and (off <= most).all()
    if kind == "int4":  # small channels beside a large one are nothing, unless channels are told apart
        assert ((np.abs(exact - floats) / large).max() < 0.5) == channels


def test_bytes_of_fp8_are_those_of_e4m3() -> None:
    import ml_dtypes

    every = np.arange(256, dtype=np.uint8).view(ml_dtypes.float8_e4m3fn).astype(np.float32)
    np.testing.assert_array_equal(numbers()[np.isfinite(every)], every[np.isfinite(every)])
    model, _ = cached(TEXT.replace("8] new", "512] new").replace("8] past", "512] past"), "fp8")
    shipped, _ = store(model, "fp8")
    rng = np.random.default_rng(1)
    new = rng.standard_normal((1, 2, 40, 512)).astype(np.float32) * np.exp2(rng.integers(-16, 8, (1, 2, 40, 512)))
    new[..., 0], new[..., 1], new[..., 2:20] = 448, -448, np.exp2(np.arange(-10, 8))  # scale 1, and its octaves
    new = np.clip(new, -448, 448).astype(np.float32)
    past = {"past_key": np.zeros((1, 2, 0, 512), np.uint8), "past_key_scale": np.zeros((1, 2, 0, 1), np.float32)}
    codes, _, scales = run(shipped, {"new": new, **past})
    wanted = (new / scales).astype(ml_dtypes.float8_e4m3fn).view(np.uint8)
    np.testing.assert_array_equal(np.where(codes == 128, 0, codes), np.where(wanted == 128, 0, wanted))


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
    assert store(model, "int8").model is model and not observed(model) and "caches stay float" in notes[-1]


@pytest.mark.parametrize(("kind", "least"), [("int8", 0.995), ("fp8", 0.99), ("int4", 0.97)])
def test_a_model_with_such_a_cache_compiles_and_speaks(kind: str, least: float, tmp_path: Path) -> None:
    recipe = Recipe(
        precision="w4", weight_method="rtn", metric="perplexity", samples=2, max_drop="none", bench_seconds=0,
        options={"bits": 8, "kv_cache": kind, "table_bits": 0, "accuracy_level": 0},
    )  # fmt: skip
    report = compile(
        DOCS / "model.onnx", "onnxruntime", str(DOCS / "evaluation.npz"), output=tmp_path / "o", recipe=recipe
    ).report
    per_token = {"int8": 864, "fp8": 864, "int4": 480}[kind]
    assert any(f"a token takes {per_token} bytes of cache, in float 3072" in note for note in report.notes)
    assert 0 < report.language["kl"] < (0.01 if kind == "int8" else 0.04)
    logits = [spoken(path) for path in (DOCS / "model.onnx", tmp_path / "o" / "model.onnx")]
    assert np.corrcoef(logits[0], logits[1])[0, 1] > least
    np.testing.assert_allclose(logits[1], spoken(tmp_path / "o" / "model.onnx", (12,)), atol=0.02)


def spoken(model: Path | bytes, parts: tuple[int, ...] = (8, 1, 1, 1, 1)) -> np.ndarray:
    """Scores of the last of 12 tokens, which come in parts: steps, with whatever the caches hold."""
    session = ort.InferenceSession(model if isinstance(model, bytes) else str(model))
    tokens = np.load(DOCS / "evaluation.npz")["input_ids"][:1, :12]
    types = {
        "tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(int8)": np.int8, "tensor(uint8)": np.uint8,
    }  # fmt: skip
    feed = {t.name: np.zeros((1, 2, 0, t.shape[3]), types[t.type]) for t in session.get_inputs() if "past" in t.name}
    names = [t.name for t in session.get_outputs()]
    for part in np.split(tokens, np.cumsum(parts)[:-1], axis=1):
        found = dict(zip(names, session.run(None, {**feed, "input_ids": part}), strict=True))
        feed = {name: found[name.replace("past_key_values", "present")] for name in feed}
    assert len(feed) in (12, 24)
    return np.asarray(found["logits"][0, -1])


def decoder(folder: Path) -> tuple[Path, list[dict[str, np.ndarray]]]:
    """A model that keeps its cache in GroupQueryAttention, and samples."""
    model, rng = write(folder, Sizes(2, 256, 96, 64, 64, half=False)), np.random.default_rng(0)
    empty = {f"past_key_values.{n}.{part}": np.zeros((1, 1, 0, 64), np.float32) for n in (0, 1) for part in PARTS}
    ids = [rng.integers(0, 64, (1, 20)) for _ in range(6)]
    return model, [{"input_ids": some, "attention_mask": np.ones((1, 20), np.int64), **empty} for some in ids]


@pytest.mark.parametrize(("kind", "least"), [("int8", 0.998), ("int4", 0.98)])
def test_attention_keeps_its_own_cache_in_codes(kind: str, least: float, tmp_path: Path) -> None:
    model, samples = decoder(tmp_path / "m")
    options = {"bits": 8, "kv_cache": kind, "table_bits": 0, "accuracy_level": 0}
    recipe = Recipe(precision="w4", weight_method="rtn", metric="kl", samples=4, bench_seconds=0, options=options)
    report = compile(model, "onnxruntime", samples[:5], output=tmp_path / "o", recipe=recipe).report
    width = 64 if kind == "int8" else 32
    said = f"4 caches are {kind} at the inputs and outputs, scales are fixed; a token takes {4 * width} bytes"
    assert any(said in note for note in report.notes) and report.language["kl"] < 0.05
    ids, shipped = samples[5]["input_ids"][:, :16], tmp_path / "o" / "model.onnx"
    stepwise, whole = (9, *[1] * 7), (16,)
    scores = answered(shipped, ids, stepwise, width)
    assert np.corrcoef(answered(model, ids, stepwise, 64), scores)[0, 1] > least
    np.testing.assert_allclose(scores, answered(shipped, ids, whole, width), atol=np.abs(scores).max() * (1 - least))


def answered(model: Path, ids: np.ndarray, parts: tuple[int, ...], width: int) -> np.ndarray:
    """Scores of the last token of a decoder that reads its tokens in parts."""
    session = ort.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    types = {"tensor(float)": np.float32, "tensor(int8)": np.int8, "tensor(uint8)": np.uint8}
    caches = [t for t in session.get_inputs() if "past" in t.name]
    assert all(t.shape[3] == width for t in caches)
    feed = {t.name: np.zeros((1, 1, 0, width), types[t.type]) for t in caches}
    names, end = [t.name for t in session.get_outputs()], 0
    for count in parts:
        start, end = end, end + count
        part = {"input_ids": ids[:, start:end], "attention_mask": np.ones((1, end), np.int64)}
        found = dict(zip(names, session.run(None, {**feed, **part}), strict=True))
        feed = {name: found[name.replace("past_key_values", "present")] for name in feed}
    return np.asarray(found["logits"][0, -1])


def test_where_it_cannot_be_it_says_so(tmp_path: Path) -> None:
    model, samples = decoder(tmp_path / "m")
    for kind, data, said in (
        ("int8", None, "takes fixed scales, which need --data"),
        ("fp8", samples[:2], "has no kernel for a cache of fp8"),
    ):
        recipe = Recipe(precision="w4", weight_method="rtn", bench_seconds=0, options={"kv_cache": kind})
        notes = compile(model, "onnxruntime", data, recipe=recipe).report.notes
        assert any("4 caches stay float: GroupQueryAttention" in note and said in note for note in notes)
    with pytest.raises(UsageError, match="no cache is stored as int2"):
        compile(model, "onnxruntime", recipe=Recipe(precision="w4", options={"kv_cache": "int2"}))
    with pytest.raises(UsageError, match="states hold float16 alone"):
        compile(model, "coreml", recipe=Recipe(options={"kv_cache": "int8"}))
