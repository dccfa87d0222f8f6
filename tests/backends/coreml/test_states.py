"""Caches as states: written by each prediction, read by the next; what is no cache is refused with the rule."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from qcompiler import ir
from qcompiler.analysis import SessionConfig
from qcompiler.analysis.run import Runner
from qcompiler.backends.base import configured
from qcompiler.backends.coreml import backend
from qcompiler.backends.coreml.convert import Settings, convert
from qcompiler.backends.coreml.evaluate import Package
from qcompiler.backends.coreml.interface import interface
from qcompiler.backends.coreml.package import save
from qcompiler.backends.coreml.states import State, parsed, states
from qcompiler.compiler import compile
from qcompiler.errors import DataError, ModelError, UsageError
from qcompiler.recipe import Recipe

pytest.importorskip("coremltools", reason="the extra coreml is not installed")

LLAMA = Path(__file__).resolve().parents[3] / "models" / "docs_llama"
GROWING = """<ir_version: 10, opset_import: ["" : 21]>
g (float[1, n, 4] q, float[1, past, 4] keys) => (float[1, n, 4] y, float[1, total, 4] present) {
    present = Concat <axis = 1> (keys, q)
    k = Transpose <perm = [0, 2, 1]> (present)
    s = MatMul (q, k)
    p = Softmax (s)
    m = MatMul (p, present)
    shape = Shape <start = 1, end = 2> (keys)
    count = Cast <to = 1> (shape)
    y = Add (m, count)
}"""
WHOLE = """<ir_version: 10, opset_import: ["" : 21]>
g (float[1, 4] x, float[1, 4] old) => (float[1, 4] y, float[1, 4] new) { new = Add (x, old) y = Tanh (new) }"""


def model_of(text: str) -> ir.Model:
    return ir.Model.from_proto(onnx.shape_inference.infer_shapes(onnx.parser.parse_model(text)))


def saved(model: ir.Model, folder: Path, half: bool, caches: list[str], **ranges: str) -> Package:
    wishes = interface(model, ranges=ranges, caches=caches)
    save(convert(model, Settings(half=half), wishes).model, folder / "m.mlpackage")
    return Package.load(folder / "m.mlpackage")


@pytest.mark.parametrize("half", [False, True])
def test_a_cache_that_grows_holds_what_was_given(tmp_path: Path, half: bool) -> None:
    model = model_of(GROWING)
    package = saved(model, tmp_path, half, ["keys=present:8"], q="1x1x4:1x1x4:1x4x4")
    assert {"read_state", "slice_update", "coreml_update_state"} <= package.ops.keys()
    assert package.output_names == ["y"] and set(package.inputs) == {"q", "keys", "cache_length"}
    run, past = Runner(model, SessionConfig("off")), np.zeros((1, 0, 4), np.float32)
    for step, count in enumerate((3, 1, 1, 2)):
        q = np.random.default_rng(step).normal(size=(1, count, 4)).astype(np.float16).astype(np.float32)
        wanted = run.run({"q": q, "keys": past})
        got = package.run({"q": q, "cache_length": np.array([past.shape[1]], np.int32)})
        np.testing.assert_allclose(got["y"], wanted["y"], rtol=2e-2 if half else 1e-5, atol=5e-3 if half else 1e-5)
        past = wanted["present"]
        np.testing.assert_array_equal(package.states["keys"][:, : past.shape[1]], past)
    assert not package.states["keys"][:, past.shape[1] :].any()


@pytest.mark.parametrize("half", [False, True])
def test_a_cache_of_one_shape_is_replaced(tmp_path: Path, half: bool) -> None:
    package = saved(model_of(WHOLE), tmp_path, half, ["old=new"])
    held = np.zeros((1, 4), np.float32)
    for step in range(3):
        x = np.random.default_rng(step).normal(size=(1, 4)).astype(np.float32)
        held = (held + x).astype(np.float16).astype(np.float32)
        np.testing.assert_allclose(package.run({"x": x})["y"], np.tanh(held), atol=4e-3)
        np.testing.assert_allclose(package.states["old"], held, atol=4e-3)


def test_what_has_no_room_is_told(tmp_path: Path) -> None:
    package = saved(model_of(GROWING), tmp_path, False, ["keys=present:2"], q="1x1x4:1x1x4:1x4x4")
    q = np.zeros((1, 1, 4), np.float32)
    with pytest.raises(DataError, match=r"\[1, 3, 4\]; the state has \[1, 2, 4\]"):
        package.run({"q": q, "keys": np.zeros((1, 3, 4), np.float32)})
    with pytest.raises(ModelError, match="slice_update"):
        package.run({"q": q, "keys": np.zeros((1, 2, 4), np.float32)})


REFUSED = [
    (WHOLE, "old", "names no cache"),
    (WHOLE, "older=new", "is no input"),
    (WHOLE, "old=newer", "is no output"),
    (WHOLE.replace("float[1, 4] y, ", "").replace("y = Tanh (new)", ""), "old=new", "nothing is left"),
    (
        WHOLE.replace("float[1, 4] old", "float[2, 4] old").replace("float[1, 4] new", "float[2, 4] new"),
        "old=y",
        "one sh",
    ),
    (WHOLE.replace("float[1, 4]", "int32[1, 4]").replace("Tanh", "Abs"), "old=new", "states hold float16"),
    (GROWING, "keys=present", "one dimension of a cache may be open"),
    (GROWING.replace("Concat <axis = 1> (keys, q)", "Concat <axis = 1> (q, keys)"), "keys=present:8", "is not Concat"),
    (GROWING.replace("s = MatMul (q, k)", "t = Relu (keys) s = MatMul (q, k)"), "keys=present:8", "read by Relu"),
]


@pytest.mark.parametrize(("text", "wish", "rule"), REFUSED)
def test_what_is_no_cache_is_refused_with_the_rule(text: str, wish: str, rule: str) -> None:
    with pytest.raises(UsageError, match=rule):
        states(model_of(text), [wish])


def test_states_want_ios_18() -> None:
    with pytest.raises(UsageError, match="iOS 18"):
        configured(backend("ios17-gpu"), {"state": ["a=b"]})


def test_a_star_stands_for_the_same_text() -> None:
    assert parsed("past.*=present.*:16") == ("past.*", "present.*", 16)
    text = WHOLE.replace("old", "c0in").replace("new", "c0out")
    assert states(model_of(text), ["c*in=c*out"]) == (State("c0in", "c0out", (1, 4), None),)


def test_a_language_model_keeps_its_cache(tmp_path: Path) -> None:
    recipe = Recipe(
        precision="w8", bench_seconds=0, samples=2, shapes={"batch": "1", "input_ids": "1x1:1x1:1x256"},
        options={"state": ["past_key_values.*=present.*:256"]},
    )  # fmt: skip
    result = compile(LLAMA / "model.onnx", "coreml", LLAMA / "calibration.npz", output=tmp_path / "out", recipe=recipe)
    assert result.exit_status == 0
    package = Package.load(tmp_path / "out" / "model.mlpackage")
    assert package.ops["coreml_update_state"] == 12 and package.output_names == ["logits"]
    with np.load(LLAMA / "evaluation.npz") as archive:
        ids = archive["input_ids"][:1, :10]
    empty = {
        f"past_key_values.{n}.{kind}": np.zeros((1, 2, 0, 32), np.float32)
        for n in range(6)
        for kind in ("key", "value")
    }
    wanted = Runner(LLAMA / "model.onnx", SessionConfig("off")).run({"input_ids": ids, **empty})["logits"]
    parts = [(0, 6), (6, 7), (7, 8), (8, 10)]
    got = [package.run({"input_ids": ids[:, a:b], "cache_length": np.array([a], np.int32)})["logits"] for a, b in parts]
    found = np.concatenate(got, axis=1)
    assert np.linalg.norm(found - wanted) < 0.03 * np.linalg.norm(wanted)
    assert (found.argmax(-1) == wanted.argmax(-1)).all()
