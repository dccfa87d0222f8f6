"""The gate through the whole compile: what ships, what fails, what is the same twice."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from qcompiler import ir
from qcompiler.analysis import Runner, SessionConfig
from qcompiler.backends.tensorrt import build as builder
from qcompiler.backends.tensorrt.backend import NO_FUSION, TensorRT
from qcompiler.compiler import Result, compile
from qcompiler.recipe import Recipe
from qcompiler.report.text import summary

needs_builder = pytest.mark.skipif(not builder.version(), reason="needs the extra `tensorrt`")


def network(folder: Path, text: str, **shapes: tuple[int, ...]) -> Path:
    rng = np.random.default_rng(0)
    proto = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> {text}')
    for name, shape in shapes.items():
        values = rng.normal(size=shape).astype(np.float32) / np.sqrt(np.prod(shape[1:]))
        proto.graph.initializer.append(onnx.numpy_helper.from_array(values.astype(np.float32), name))
    onnx.save(proto, folder / "m.onnx")
    return folder / "m.onnx"


CNN = (
    "g (float[batch, 16, 8, 8] x) => (float[batch, 16, 8, 8] y) "
    "{ a = Conv<pads = [1, 1, 1, 1]>(x, v) b = Relu(a) c = Conv<pads = [1, 1, 1, 1]>(b, w) y = Add(c, x) }"
)
WEIGHTS = {"v": (16, 16, 3, 3), "w": (16, 16, 3, 3)}
SAMPLES = [{"x": np.random.default_rng(i).normal(size=(1, 16, 8, 8)).astype(np.float32)} for i in range(4)]


def compiled(folder: Path, output: str = "out", target: str = "tensorrt:sm89", **wishes: object) -> Result:
    path = network(folder, CNN, **WEIGHTS)
    recipe = Recipe(precision="int8").updated(wishes)
    return compile(path, target, SAMPLES, output=folder / output, recipe=recipe)


@needs_builder
def test_what_ships(tmp_path: Path) -> None:
    found = compiled(tmp_path, shapes={"batch": "1:2:4"}, options={"engine": True})
    out = tmp_path / "out"
    backend = json.loads((out / "report.json").read_text())["backend"]
    assert found.exit_status == 0 and backend["compiled"] and not backend["executed"] and backend["fallback"] == []
    assert backend["precision_by_node"]["Conv_0" if "Conv_0" in backend["precision_by_node"] else "Conv_a"] == "int8"
    assert backend["kernels_by_precision"]["int8"] == 2 and backend["kernels"] >= 3
    assert backend["engine_bytes"] == (out / "model.engine").stat().st_size > 1000
    assert backend["seconds"] > 0 and backend["peak_rss_mib"] > 10 and backend["weights_unpacked"] == []

    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["min_sm"] == 80 and manifest["types"]["int8"] == {"min_sm": 80, "min_tensorrt": "10.0"}
    assert manifest["inputs"]["x"]["type"] == "float32" and manifest["inputs"]["x"]["profile"][2] == [4, 16, 8, 8]
    assert manifest["sha256"]["model.onnx"] == next(a.sha256 for a in found.report.artifacts if a.path == "model.onnx")

    script = (out / "trt_build.sh").read_text()
    assert "--minShapes=x:1x16x8x8" in script and "--maxShapes=x:4x16x8x8" in script
    assert not any(flag in script for flag in ("--int8", "--fp16", "--best"))
    assert "--trt-opt-shapes 'x:[2,16,8,8]'" in (out / "polygraphy_check.sh").read_text()
    for name in ("trt_build.sh", "polygraphy_check.sh"):
        assert (out / name).stat().st_mode & 0o111
        assert subprocess.run(["sh", "-n", str(out / name)]).returncode == 0

    inputs, outputs = (dict(np.load(out / "golden" / f"{part}.npz")) for part in ("inputs", "outputs"))
    np.testing.assert_array_equal(inputs["x"], SAMPLES[0]["x"])
    runner = Runner(ir.load(out / "model.onnx"), SessionConfig(entries=(NO_FUSION,)))
    np.testing.assert_array_equal(runner.run(inputs)["y"], outputs["y"])
    raw = np.fromfile(out / manifest["golden"]["files"]["x"], np.float32)
    np.testing.assert_array_equal(raw, inputs["x"].reshape(-1))


@needs_builder
def test_two_runs_give_the_same_bytes(tmp_path: Path) -> None:
    one, two = (compiled(tmp_path, name, options={"engine": True}) for name in ("one", "two"))
    for found in (
        "model.onnx",
        "model.engine",
        "manifest.json",
        "golden/inputs.npz",
        "golden/outputs.npz",
        "plan.json",
    ):
        assert (tmp_path / "one" / found).read_bytes() == (tmp_path / "two" / found).read_bytes(), found
    assert one.exit_status == two.exit_status == 0


@needs_builder
def test_a_node_that_computes_in_float_fails_the_gate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from qcompiler.backends.tensorrt.spec import spec

    module = sys.modules[TensorRT.__module__]
    # the table of sm89 for sm75, which computes convolutions in float: a table that promises too much
    monkeypatch.setattr(module, "spec", lambda variant, put=(): spec("sm89"))
    found = compiled(tmp_path, target="tensorrt:sm75")
    assert found.exit_status == 3 and len(found.report.backend["fallback"]) == 2
    assert all("computes in fp" in failure for failure in found.report.backend["failures"])
    name = found.report.backend["fallback"][0]["node"]
    half = compiled(tmp_path, target="tensorrt:sm75", options={"allow_float": [name]})
    assert half.exit_status == 3 and len(half.report.backend["failures"]) == 1
    for options in ({"allow_float": ["*"]}, {"allow_fallback": True}):
        allowed = compiled(tmp_path, target="tensorrt:sm75", options=options)
        assert allowed.exit_status == 0 and len(allowed.report.backend["fallback"]) == 2


@needs_builder
def test_a_refused_model_is_kept_and_explained(tmp_path: Path) -> None:
    path = network(tmp_path, "g (float[2, 3] x) => (float[2, 3] y, int64[n, 2] z) { y = Relu(x) i = NonZero(y) "
                             "z = Transpose(i) }")  # fmt: skip
    found = compile(path, "tensorrt", output=tmp_path / "out", recipe=Recipe(shapes={}))
    assert (tmp_path / "out" / "model.onnx").is_file()
    assert found.exit_status in (0, 3)  # whether NonZero is taken is the builder's to say
    assert bool(found.report.backend["failures"]) == (found.exit_status == 3)


def test_without_the_builder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(builder, "version", lambda: "")
    found = compiled(tmp_path)
    assert found.exit_status == 0 and not found.report.backend["compiled"]
    assert sum("TensorRT-RTX is not installed" in note and "pip install" in note for note in found.report.notes) == 1
    assert (tmp_path / "out" / "model.onnx").is_file() and (tmp_path / "out" / "trt_build.sh").is_file()
    assert found.report.backend["integer_nodes"] is None  # 0 would claim to know
    assert "nodes as planned, what tensorrt makes of them is not known:" in summary(found.report)


def test_auto_chooses_by_data_and_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(builder, "version", lambda: "")
    path, recipe = network(tmp_path, CNN, **WEIGHTS), Recipe().updated({"max_drop": "none"})
    assert compile(path, "tensorrt").report.target["shipped"] == "fp16"
    assert compile(path, "tensorrt", SAMPLES, recipe=recipe).report.target["shipped"] == "int8"
    text = (
        "g (float[2, 24, 32] x) => (float[2, 24, 32] y) { k = MatMul(x, v) t = Transpose<perm = [0, 2, 1]>(k) "
        "s = MatMul(x, t) p = Softmax<axis = -1>(s) y = MatMul(p, x) }"
    )
    path = network(tmp_path, text, v=(32, 32))
    data = [{"x": np.random.default_rng(i).normal(size=(2, 24, 32)).astype(np.float32)} for i in range(3)]
    assert compile(path, "tensorrt:sm89", data, recipe=recipe).report.target["shipped"] == "fp8"
    assert compile(path, "tensorrt:sm86", data, recipe=recipe).report.target["shipped"] == "int8"


def test_a_proxy_is_said(tmp_path: Path) -> None:
    if not builder.version():
        pytest.skip("needs the extra `tensorrt`")
    found = compiled(tmp_path, target="tensorrt:sm90")
    assert found.report.backend["capability"] == "SM89" and not found.report.backend["exact"]
    assert any("does not compile for sm90" in note for note in found.report.notes)


@needs_builder
@pytest.mark.parametrize("precision", ["int8", "fp8"])
@pytest.mark.parametrize("small", [1, 32])
def test_products_with_small_weights(precision: str, small: int, tmp_path: Path) -> None:
    """Scales under the normal numbers of float16: the builder takes none in float32 beside one in float16."""
    text = "g (float[1, 16, 32] x) => (float[1, 16, 32] y) { a = MatMul(x, w) b = Relu(a) y = MatMul(b, v) }"
    path = network(tmp_path, text, w=(32, 32), v=(32, 32))
    proto = onnx.load(path)
    for tensor in proto.graph.initializer:
        values = onnx.numpy_helper.to_array(tensor).copy()
        values[:, :small] *= 0.003
        tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    onnx.save(proto, path)
    samples = [{"x": np.random.default_rng(i).normal(size=(1, 16, 32)).astype(np.float32)} for i in range(4)]
    found = compile(path, "tensorrt:sm89", samples, output=tmp_path / "out", recipe=Recipe(precision=precision))
    assert found.exit_status == 0 and found.report.target["shipped"] == precision
    assert found.report.backend["compiled"] and found.report.backend["fallback"] == []
    (line,) = [line for line in found.report.candidates if line.precision == precision]
    assert line.worst_sqnr_db is not None and line.worst_sqnr_db > (30 if precision == "int8" else 20)
