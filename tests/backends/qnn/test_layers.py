"""Layer by layer in the emulator."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from qcompiler import ir
from qcompiler.backends.qnn.backend import Qnn
from qcompiler.backends.qnn.layers import values
from qcompiler.cli.main import main
from tests.backends.qnn.helper import convnet, need_qnn, quantized
from tests.graphs import feed_for, parse


def files(folder: Path) -> tuple[Path, Path, Path]:
    model = convnet()
    ir.save(model, folder / "float.onnx")
    ir.save(quantized(model, "w8a8").model, folder / "qdq.onnx")
    np.savez(folder / "data.npz", x=np.concatenate([feed_for(model, seed)["x"] for seed in range(3)])[:, None])
    return folder / "float.onnx", folder / "qdq.onnx", folder / "data.npz"


def test_every_stored_value_is_looked_at() -> None:
    found = values(quantized(convnet(), "w8a8").model)
    assert list(found) == ["x", "r", "m", "c", "s", "p", "f", "y"]


def test_emulation_against_itself_and_against_float(tmp_path: Path) -> None:
    need_qnn()
    real, qdq, data = files(tmp_path)
    arguments = ["--target", "qnn", "--data", str(data), "--samples", "1", "--top", "20"]
    done = CliRunner().invoke(main, ["compare", str(qdq), *arguments])
    assert done.exit_code == 0, done.output
    assert "8 tensors compared on 1 sample" in done.output
    done = CliRunner().invoke(main, ["compare", str(real), str(qdq), *arguments])
    assert "7 tensors compared on 1 sample" in done.output and "1 tensor (e.g. x)" in done.output


def test_a_target_without_an_emulator(tmp_path: Path) -> None:
    real, _, data = files(tmp_path)
    done = CliRunner().invoke(main, ["compare", str(real), "--target", "onnxruntime", "--data", str(data)])
    assert done.exit_code == 2 and "there is no emulator of 'onnxruntime' (qnn has one)" in done.output


def test_one_model_alone_is_nothing_to_compare(tmp_path: Path) -> None:
    real, _, data = files(tmp_path)
    done = CliRunner().invoke(main, ["compare", str(real), "--data", str(data)])
    assert done.exit_code == 2 and "two models are compared" in done.output


def test_without_the_extra_one_line_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, qdq, data = files(tmp_path)
    monkeypatch.setitem(Qnn.layers.__globals__, "versions", lambda: "the package onnxruntime-qnn is not installed")
    done = CliRunner().invoke(main, ["compare", str(qdq), "--target", "qnn", "--data", str(data)])
    assert (
        done.exit_code == 2 and "nothing can be emulated: the package onnxruntime-qnn is not installed" in done.output
    )


LINEAR_ATTENTION = """g (float[1, 8, 4, 4] x) => (float[1, 2, 16, 5] y) {
    c = Conv(x, w) h = Reshape(c, s) t = Transpose <perm = [0, 1, 3, 2]> (h)
    q = Slice(t, i0, i4, last) k = Slice(t, i4, i8, last) v = Slice(t, i8, i12, last)
    qr = Relu(q) kr = Relu(k) one = Pad(v, ends, value) kt = Transpose <perm = [0, 1, 3, 2]> (kr)
    kv = MatMul(kt, one) y = MatMul(qr, kv) }"""


def test_values_that_are_not_given_out_are_left_out(tmp_path: Path) -> None:
    """As outputs they would make the provider refuse the Slices in front of them."""
    need_qnn()
    whole = {f"i{i}": np.int64([i]) for i in (0, 4, 8, 12)} | {"last": np.int64([-1]), "s": np.int64([1, 2, 12, 16])}
    weight = np.random.default_rng(0).normal(size=(24, 8, 1, 1)).astype(np.float32) / 3
    pad = {"ends": np.int64([0, 0, 0, 0, 0, 0, 0, 1]), "value": np.float32(1)}
    model = parse(LINEAR_ATTENTION, {"w": weight, **whole, **pad})
    made = quantized(model, "w8a8")
    assert "Pad" not in {node.op for node in made.model.nodes}
    ir.save(made.model, tmp_path / "qdq.onnx")
    np.savez(tmp_path / "data.npz", x=feed_for(model)["x"][:, None].reshape(1, 1, 8, 4, 4))
    arguments = ["--target", "qnn", "--data", str(tmp_path / "data.npz"), "--samples", "1", "--top", "20", "--json"]
    done = CliRunner().invoke(main, ["compare", str(tmp_path / "qdq.onnx"), *arguments])
    assert done.exit_code == 0, done.output
    found = json.loads(done.output)
    assert {"kv", "y", "c"} <= {line["tensor"] for line in found["tensors"]}
    assert found["skipped"] and set(found["skipped"].values()) == {"the provider does not give it out"}
    assert min(line["sqnr_db"] for line in found["tensors"] if not line["equal"]) > 25
