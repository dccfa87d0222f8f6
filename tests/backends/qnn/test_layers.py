"""Layer by layer in the emulator."""

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from qcompiler import ir
from qcompiler.backends.qnn.backend import Qnn
from qcompiler.backends.qnn.layers import values
from qcompiler.cli.main import main
from tests.backends.qnn.helper import convnet, need_qnn, quantized
from tests.graphs import feed_for


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
