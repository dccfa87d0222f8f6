"""A model in float16 is quantized like one in float32, and comes back as it was where it is not; doubles stay."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnxruntime.transformers.float16 import convert_float_to_float16

from qcompiler.passes.prepare.widen_half import NOTE
from tests.cli.conftest import CNN, FAST, Run


@pytest.fixture
def half(tmp_path: Path) -> tuple[Path, Path]:
    """digits_cnn in float16, inputs too, and samples for it."""
    onnx.save(convert_float_to_float16(onnx.load(CNN / "model.onnx")), tmp_path / "half.onnx")
    with np.load(CNN / "calibration.npz") as samples:
        arrays = {name: v.astype(np.float16) if v.dtype == np.float32 else v for name, v in samples.items()}
    np.savez(tmp_path / "half.npz", **arrays)
    return tmp_path / "half.onnx", tmp_path / "half.npz"


def test_int8(run: Run, half: tuple[Path, Path]) -> None:
    model, data = half
    result = run(model, "--target", "onnxruntime", "--precision", "int8", "--data", data, "-o", "out", *FAST)
    assert result.exit_code == 0, result.output
    report = json.loads(Path("out/report.json").read_text())
    assert NOTE in report["notes"] and report["target"]["shipped"] == "int8"
    assert report["backend"]["integer_nodes"] > report["backend"]["float_nodes"]
    assert report["accuracy"]["quantized"] > 0.9
    assert report["size"]["quantized_bytes"] < 0.7 * report["size"]["float_bytes"]
    made, given = onnx.load("out/model.onnx").graph, onnx.load(model).graph
    for mine, theirs in ((made.input, given.input), (made.output, given.output)):
        assert [(t.name, t.type.tensor_type.elem_type) for t in mine] == [
            (t.name, t.type.tensor_type.elem_type) for t in theirs
        ]


def test_float_is_the_model_as_given(run: Run, half: tuple[Path, Path]) -> None:
    model, data = half
    result = run(model, "--target", "onnxruntime", "--precision", "float", "--data", data, "-o", "out", *FAST)
    assert result.exit_code == 0, result.output
    size = json.loads(Path("out/report.json").read_text())["size"]
    assert size["quantized_bytes"] == size["float_bytes"]


def test_statistics_fit(run: Run, half: tuple[Path, Path]) -> None:
    model, data = half
    assert (
        run("calibrate", model, "--target", "onnxruntime", "--data", data, "-o", "s.npz", "--samples", "24").exit_code
        == 0
    )
    options = ("--target", "onnxruntime", "--precision", "int8", "--stats", "s.npz", "--bench-seconds", "0")
    result = run(model, *options, "-o", "out")
    assert result.exit_code == 0, result.output


def test_doubles_stay_float_and_are_told(run: Run, tmp_path: Path) -> None:
    text = """<ir_version: 9, opset_import: ["" : 17]> g (double[2, 3] x) => (double[2, 3] y)
    <double[3, 3] w = {1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.5}> { [m] y = MatMul(x, w) }"""
    onnx.save(onnx.parser.parse_model(text), tmp_path / "double.onnx")
    np.savez(tmp_path / "double.npz", x=np.eye(2, 3))
    result = run(tmp_path / "double.onnx", "--target", "onnxruntime", "--data", tmp_path / "double.npz", "-o", "o")
    assert result.exit_code == 0, result.output
    notes = json.loads(Path("o/report.json").read_text())["notes"]
    assert "int8: no node of the model qualifies; its layers compute in float64: export it in float32" in notes
