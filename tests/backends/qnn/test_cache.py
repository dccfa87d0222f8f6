"""A cache in bytes at the border: what a step gives is what the next one reads, in ONNX Runtime and in the emulator."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from qcompiler import ir
from qcompiler.backends.qnn import gate
from qcompiler.backends.qnn.backend import Qnn
from qcompiler.backends.qnn.cache import Border, store
from qcompiler.backends.qnn.emulate import emulated
from qcompiler.backends.qnn.socs import parse as chips
from qcompiler.cli.main import main
from qcompiler.errors import UsageError
from qcompiler.numerics import SqnrMeter
from qcompiler.search.candidates import Candidate
from tests.backends.qnn.helper import built, need_qnn, quantized
from tests.graphs import feed_for, parse, run

PAST, NEW, STEPS = 12, 2, 4
NAMES = ("key", "value")
CACHED = Qnn(kv_cache="int8")
BYTES = "2 caches are int8 at the inputs and outputs, scales are fixed; a token takes 32 bytes of cache, in float 128"


def decoder(edit: tuple[str, str] = ("", "")) -> ir.Model:
    """One layer of attention over a window of tokens, without positions: old ones fall out at the front."""
    rng = np.random.default_rng(0)
    names = ("wq", "wk", "wv", "wo")
    constants = {name: rng.normal(size=(16, 16), scale=0.25).astype(np.float32) for name in names}
    constants |= {"heads": np.array([1, -1, 2, 8]), "flat": np.array([1, -1, 16]), "root": np.float32(8**-0.5)}
    text = f"""g (float[1,{NEW},16] x, float[1,2,{PAST},8] past_key, float[1,2,{PAST},8] past_value)
        => (float[1,{NEW},16] y, float[1,2,{PAST + NEW},8] present_key, float[1,2,{PAST + NEW},8] present_value) {{
            q0 = MatMul(x, wq) q1 = Reshape(q0, heads) q = Transpose<perm=[0,2,1,3]>(q1)
            k0 = MatMul(x, wk) k1 = Reshape(k0, heads) k = Transpose<perm=[0,2,1,3]>(k1)
            v0 = MatMul(x, wv) v1 = Reshape(v0, heads) v = Transpose<perm=[0,2,1,3]>(v1)
            present_key = Concat<axis=2>(past_key, k)
            present_value = Concat<axis=2>(past_value, v)
            t = Transpose<perm=[0,1,3,2]>(present_key)
            e = MatMul(q, t) s = Mul(e, root) a = Softmax(s) o = MatMul(a, present_value)
            o1 = Transpose<perm=[0,2,1,3]>(o) o2 = Reshape(o1, flat) y = MatMul(o2, wo)
        }}"""
    assert edit[0] in text
    return parse(text.replace(*edit) if edit[0] else text, constants)


def stored(precision: str) -> tuple[ir.Model, Candidate, ir.Model]:
    """The float model, the quantized one as it is judged, and as it ships."""
    model = decoder()
    candidate = quantized(model, precision, CACHED, feeds=[feed_for(model, seed) for seed in range(40)])
    return model, candidate, store(candidate.model).model


def after(model: ir.Model, feed: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return dict(zip([tensor.name for tensor in model.outputs], run(model, feed), strict=True))


def slid(results: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The cache of the next step."""
    return {f"past_{name}": results[f"present_{name}"][:, :, NEW:] for name in NAMES}


@pytest.mark.parametrize("precision", ["w8a8", "w8a16", "w4a16"])
def test_past_and_present_are_bytes_of_one_grid(precision: str) -> None:
    model, candidate, shipped = stored(precision)
    border, feed = Border.of(shipped), feed_for(model)
    for name in NAMES:
        assert border.grids[f"past_{name}"] == border.grids[f"present_{name}"]
    assert {t.name: t.dtype for t in shipped.inputs} == {"x": np.float32, "past_key": np.uint8, "past_value": np.uint8}
    assert [t.dtype for t in shipped.outputs] == [np.float32, np.uint8, np.uint8]
    coded = dict(border.codes(feed))
    got, wanted = after(shipped, coded), after(candidate.model, feed)
    for name, values in border.numbers(got).items():
        np.testing.assert_allclose(values, wanted[name], rtol=1e-6)
    np.testing.assert_array_equal(got["present_key"][:, :, :PAST], coded["past_key"])  # no token is rounded twice
    seconds = [node.inputs[1].inputs[0].inputs[0] for node in shipped.nodes if node.op == "MatMul"]
    assert [codes.dtype for codes in seconds if not isinstance(codes, ir.Constant)] == [np.uint8, np.uint8]


def test_steps_give_what_one_run_gives() -> None:
    _, _, shipped = stored("w8a16")
    proto = shipped.to_proto()
    del proto.graph.value_info[:]
    for value in (*proto.graph.input, *proto.graph.output):
        for axis, dim in enumerate(value.type.tensor_type.shape.dim):
            if dim.dim_value in (NEW, PAST, PAST + NEW) and axis:
                dim.dim_param = f"{value.name}_{axis}"
    free, rng = ir.Model.from_proto(proto), np.random.default_rng(1)
    x = rng.normal(size=(1, 6, 16)).astype(np.float32)
    start = {f"past_{name}": rng.integers(90, 160, (1, 2, 3, 8)).astype(np.uint8) for name in NAMES}
    whole, past = after(free, {"x": x, **start}), start
    for token in range(6):
        found = after(free, {"x": x[:, token : token + 1], **past})
        past = {f"past_{name}": found[f"present_{name}"] for name in NAMES}
    np.testing.assert_allclose(found["y"][:, 0], whole["y"][:, -1], atol=1e-5)
    for name in NAMES:
        np.testing.assert_array_equal(found[f"present_{name}"], whole[f"present_{name}"])


@pytest.mark.parametrize(("precision", "least"), [("w8a8", 20.0), ("w8a16", 30.0)])
def test_the_emulator_decodes_step_by_step(precision: str, least: float, tmp_path: Path) -> None:
    need_qnn()
    model, candidate, shipped = stored(precision)
    seen = built(candidate, model, tmp_path, CACHED)
    assert seen.compiled and seen.executed and not seen.failures and not seen.fallback
    assert seen.facts["partitions"] == 1 and seen.facts["islands"] == [] and BYTES in seen.notes
    rng, meter, feed = np.random.default_rng(2), SqnrMeter(), feed_for(model, 7)
    floats = {name: feed[name] for name in feed if name != "x"}
    codes = dict(Border.of(shipped).codes(floats))
    for step in range(STEPS):
        x = rng.normal(size=(1, NEW, 16)).astype(np.float32)
        wanted = after(model, {"x": x, **floats})
        got, _, error = emulated(
            tmp_path / "model_ctx.onnx", [{"x": x, **codes}], chips("sm8650")[0], tmp_path / str(step), lambda *_: None
        )
        assert not error
        meter = meter.update(wanted["y"], got[0]["y"])
        floats, codes = slid(wanted), slid(dict(got[0]))
    assert codes["past_key"].dtype == np.uint8 and meter.db > least


@pytest.mark.parametrize(
    ("edit", "why"),
    [
        (("(past_key, k)", "(k, past_key)"), "'past_key' is not read by a Concat of bytes alone"),
        (
            ("present_key = Concat<axis=2>(past_key, k)", "j = Concat<axis=2>(past_key, k) present_key = Relu(j)"),
            "'past_key' is not given back with its new tokens",
        ),
    ],
)
def test_others_stay_float(edit: tuple[str, str], why: str) -> None:
    shipped, notes = store(quantized(decoder(edit), "w8a16", CACHED).model)
    assert [t.dtype for t in shipped.inputs[1:]] == [np.float32, np.uint8]
    assert "1 caches are int8" in notes[0] and notes[1] == f"1 caches stay float: {why}"


def test_on_the_command_line_past_and_present_come_out_in_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gate, "versions", lambda: "not installed")
    model, feeds = decoder(), [feed_for(decoder(), seed) for seed in range(4)]
    ir.save(model, tmp_path / "m.onnx")
    np.savez(tmp_path / "data.npz", **{name: np.concatenate([feed[name] for feed in feeds]) for name in feeds[0]})
    arguments = [str(tmp_path / "m.onnx"), "--target", "qnn", "--precision", "w8a16", "--kv-cache", "int8"]
    arguments += ["--data", str(tmp_path / "data.npz"), "--max-drop", "none", "-o", str(tmp_path / "out")]
    result = CliRunner().invoke(main, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert BYTES in " ".join(result.output.split())
    written = ir.load(tmp_path / "out" / "model.qdq.onnx")
    assert [tensor.dtype for tensor in written.inputs] == [np.float32, np.uint8, np.uint8]
    raw = tmp_path / "out" / "samples" / "0000"
    assert (raw / "past_key.raw").stat().st_size == 2 * PAST * 8  # what the device reads are codes
    assert (raw / "present_key.output.raw").stat().st_size == 2 * (PAST + NEW) * 8


def test_what_it_cannot_is_refused() -> None:
    with pytest.raises(UsageError, match="no cache is stored as fp8: activations are integers of 8 or 16 bits"):
        Qnn(kv_cache="fp8")
    model = decoder()
    candidate = quantized(model, "w8a8", CACHED, keep_float=("*Concat*",))
    shipped, notes = store(candidate.model)
    assert [t.dtype for t in shipped.inputs] == [np.float32] * 3
    assert notes == ("2 caches stay float: 'past_key' is not read by a Concat of bytes alone",)
    without = parse("g (float[1,4] x) => (float[1,4] y) { y = Relu(x) }")
    assert store(without).notes == ("the model has no cache: no input whose name begins with 'past'",)
