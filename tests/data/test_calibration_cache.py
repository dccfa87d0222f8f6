"""Calibration caches: both forms of numbers, what is no cache, and a compile by one."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import onnx
import pytest

from qcompiler.compiler import compile
from qcompiler.data.calibration_cache import read_cache
from qcompiler.errors import DataError
from qcompiler.recipe import Recipe


def hexadecimal(scale: float) -> str:
    return struct.pack(">f", scale).hex()


def test_hexadecimal_and_decimal(tmp_path: Path) -> None:
    file = tmp_path / "c.cache"
    file.write_text(f"TRT-8601-EntropyCalibration2\nx: {hexadecimal(0.5)}\na:b: 0.25\n\nzero: 00000000\n12: 3f800000\n")
    assert read_cache(file) == {"x": 63.5, "a:b": 31.75, "12": 127.0}


@pytest.mark.parametrize(
    "text", ["", "x: 3f800000\n", "TRT-1\nx 3f800000\n", "TRT-1\nx: abc\n", "TRT-1\nx: -1.0\n", "TRT-1\nx: 7f800000\n"]
)
def test_what_is_no_cache(text: str, tmp_path: Path) -> None:
    file = tmp_path / "c.cache"
    file.write_text(text)
    with pytest.raises(DataError, match=r"is no calibration cache|is not NAME: SCALE") as caught:
        read_cache(file)
    assert str(file) in caught.value.where
    with pytest.raises(DataError, match="cannot be read"):
        read_cache(tmp_path / "missing")


def network(folder: Path) -> Path:
    rng = np.random.default_rng(0)
    proto = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> g (float[1, 32, 8, 8] x) => (float[1, 32, 8, 8] y) '
        "{ a = Conv<pads = [1, 1, 1, 1]>(x, v) b = Relu(a) y = Conv<pads = [1, 1, 1, 1]>(b, w) }"
    )
    for name in ("v", "w"):
        proto.graph.initializer.append(
            onnx.numpy_helper.from_array(rng.normal(size=(32, 32, 3, 3)).astype(np.float32) * 0.1, name)
        )
    onnx.save(proto, folder / "m.onnx")
    return folder / "m.onnx"


@pytest.mark.parametrize(("precision", "high"), [("int8", 127), ("fp8", 448)])
def test_a_cache_takes_the_place_of_data(precision: str, high: int, tmp_path: Path) -> None:
    file = tmp_path / "c.cache"
    file.write_text(f"TRT-8601-EntropyCalibration2\nx: {hexadecimal(4 / 127)}\nb: {hexadecimal(2 / 127)}\n")
    found = compile(network(tmp_path), "tensorrt:sm89", recipe=Recipe(precision=precision, ranges=str(file)))
    scales = {line.name: line.scale for line in found.report.tensors if isinstance(line.scale, float)}
    assert scales == pytest.approx({"x": 4 / high, "b": 2 / high}, rel=1e-3)
    assert all(line.precision == precision for line in found.report.nodes if line.op == "Conv")


def test_a_tensor_that_the_cache_lacks_stays_float(tmp_path: Path) -> None:
    file = tmp_path / "c.cache"
    file.write_text(f"TRT-8601-EntropyCalibration2\nx: {hexadecimal(4 / 127)}\n")
    found = compile(network(tmp_path), "tensorrt", recipe=Recipe(precision="int8", ranges=str(file)))
    assert [line.precision for line in found.report.nodes if line.op == "Conv"] == ["int8", "float"]
    file.write_text(f"TRT-8601-EntropyCalibration2\nother: {hexadecimal(4 / 127)}\n")
    with pytest.raises(DataError, match="of other tensors"):
        compile(network(tmp_path), "tensorrt", recipe=Recipe(precision="int8", ranges=str(file)))
