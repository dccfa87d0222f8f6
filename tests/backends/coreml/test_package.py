"""Whole compiles: what is written, that it is the same twice, and that what cannot be is refused with the rule."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from qcompiler import backends, ir
from qcompiler.backends.coreml.convert import Settings, convert
from qcompiler.backends.coreml.evaluate import Package
from qcompiler.backends.coreml.interface import interface
from qcompiler.backends.coreml.package import MANIFEST, MODEL, WEIGHTS, save
from qcompiler.compiler import compile
from qcompiler.errors import ModelError, UsageError
from qcompiler.recipe import Recipe

pytest.importorskip("coremltools", reason="the extra coreml is not installed")

TEXT = """<ir_version: 10, opset_import: ["" : 21]>
g (float[1, 4, 8, 8] x) => (float[1, 10] y) {
    c = Conv <pads = [1, 1, 1, 1]> (x, w1, b1)
    r = Relu (c)
    d = Conv <pads = [1, 1, 1, 1]> (r, w2)
    a = Add (d, r)
    p = AveragePool <kernel_shape = [2, 2], strides = [2, 2]> (a)
    f = Flatten (p)
    y = MatMul (f, w3)
}"""
SHAPES = {"w1": (32, 4, 3, 3), "b1": (32,), "w2": (32, 32, 3, 3), "w3": (512, 10)}


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    proto, rng = onnx.parser.parse_model(TEXT), np.random.default_rng(0)
    for name, shape in SHAPES.items():
        values = rng.normal(size=shape) / np.sqrt(np.prod(shape[1:]))
        proto.graph.initializer.append(numpy_helper.from_array(values.astype(np.float32), name))
    path = tmp_path_factory.mktemp("model") / "small.onnx"
    onnx.save(proto, path)
    return path


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "samples.npz"
    np.savez(path, x=np.random.default_rng(1).normal(size=(8, 4, 8, 8)).astype(np.float32))
    return path


PRECISIONS = [
    ("coreml:ios18", "fp32", {"conv", "linear"}),
    ("coreml:ios16", "fp16", {"cast", "conv"}),
    ("coreml:ios16", "w8", {"constexpr_affine_dequantize"}),
    ("coreml:ios18", "w8", {"constexpr_blockwise_shift_scale"}),
    ("coreml:ios17", "w8a8", {"constexpr_affine_dequantize", "quantize", "dequantize"}),
    ("coreml:ios18", "w8a8", {"constexpr_blockwise_shift_scale", "quantize", "dequantize"}),
    ("coreml:ios17", "w4-palette", {"constexpr_lut_to_dense"}),
    ("coreml:ios18", "w4-palette", {"constexpr_lut_to_dense"}),
    ("coreml:ios16", "w6-palette", {"constexpr_lut_to_dense"}),
    ("coreml:ios18", "w6-palette", {"constexpr_lut_to_dense"}),
    ("coreml:ios18-gpu", "w4-block", {"constexpr_blockwise_shift_scale"}),
    ("coreml:ios18", "mixed", {"quantize", "constexpr_blockwise_shift_scale"}),
]


@pytest.mark.parametrize(("target", "precision", "ops"), PRECISIONS)
def test_every_precision_is_what_onnxruntime_computes(
    file: Path, data: Path, tmp_path: Path, target: str, precision: str, ops: set[str]
) -> None:
    recipe = Recipe(precision=precision, bench_seconds=0)
    result = compile(file, target, data, output=tmp_path / "out", recipe=recipe)
    assert result.exit_status == 0
    seen = Package.load(tmp_path / "out" / "small.mlpackage")
    assert ops <= seen.ops.keys()
    evaluated = result.report.backend["evaluated"]
    floor = 100 if precision == "fp32" else 25 if "quantize" in ops else 50
    assert evaluated["outputs"]["y"]["sqnr_db"] > floor  # type: ignore[index]
    assert evaluated["values_compared"] >= 6  # type: ignore[index]
    assert (tmp_path / "out" / "check_on_mac.py").is_file() and (tmp_path / "out" / "names.json").is_file()


@pytest.mark.parametrize(("target", "precision"), [("coreml", "w4-palette"), ("coreml:ios18-gpu", "w4-block")])
def test_four_bits_follow_the_inputs_where_there_is_data(
    file: Path, data: Path, tmp_path: Path, target: str, precision: str
) -> None:
    recipe = Recipe(precision=precision, bench_seconds=0)
    found = {}
    for name, given in (("with", data), ("without", None)):
        plan = compile(file, target, given, output=tmp_path / name, recipe=recipe).plan
        encodings = {site.tensor: decision.encoding for site, decision in plan.quantized()}
        found[name] = {t: e.method for t, e in encodings.items() if e is not None and e.spec.qtype.bits == 4}
    if precision == "w4-palette":
        assert found == {
            name: dict.fromkeys(("w2", "w3"), how) for name, how in (("with", "k-means, gptq"), ("without", "k-means"))
        }
    else:
        assert found == {"with": {"w3": "gptq"}, "without": {"w3": "hqq"}}


def test_what_four_bits_harm_too_much_gets_wider_palettes_or_eight_bits(file: Path, data: Path, tmp_path: Path) -> None:
    whole = compile(file, "coreml", data, recipe=Recipe(precision="w4-palette", bench_seconds=0))
    assert {plan.precision for plan in whole.plan.nodes.values()} >= {"w4-palette"}
    reached = float(whole.report.accuracy.output_sqnr_db["y"] or 0)
    asked = Recipe(precision="w4-palette", bench_seconds=0, sqnr_floor=reached + 3)
    mixed = compile(file, "coreml", data, output=tmp_path / "out", recipe=asked)
    assert mixed.exit_status == 0 and mixed.report.target["shipped"] == "w4-palette"
    other = {
        name: plan for name, plan in mixed.plan.nodes.items() if plan.precision != whole.plan.nodes[name].precision
    }
    assert other and {plan.precision for plan in other.values()} <= {"w6-palette", "w8"}
    assert all("in place of w4-palette" in plan.reason for plan in other.values())
    strict = Recipe(precision="w4-palette", bench_seconds=0, sqnr_floor=reached + 3, preset="fast")
    assert compile(file, "coreml", data, recipe=strict).exit_status == 3


def converted(file: Path, folder: Path) -> Path:
    model = ir.load(file)
    save(convert(model, Settings(), interface(model)).model, folder)
    return folder


def test_equal_models_give_equal_bytes(file: Path, tmp_path: Path) -> None:
    one, two = (converted(file, tmp_path / f"{name}.mlpackage") for name in ("one", "two"))
    for part in (MODEL, WEIGHTS, Path(MANIFEST)):
        assert (one / part).read_bytes() == (two / part).read_bytes(), part


def test_relu_is_inside_the_pattern(file: Path, data: Path, tmp_path: Path) -> None:
    recipe = Recipe(precision="w8a8", bench_seconds=0)
    compile(file, "coreml", data, output=tmp_path / "out", recipe=recipe)
    package = Package.load(tmp_path / "out" / "small.mlpackage")
    order = [op.op_type for op in package.operations if op.op_type != "const"]
    at = order.index("relu")
    assert order[at - 1] == "conv" and order[at + 1] == "quantize"
    assert not any(op.zero_point is not None for op in package.operations if op.op_type == "quantize")


@pytest.mark.parametrize(
    ("target", "precision", "rule"),
    [
        ("coreml:ios18-ane", "w4-block", "Neural Engine takes linear weights per tensor"),
        ("coreml:ios17-gpu", "w4-block", "iOS 18"),
        ("coreml:ios16", "w8a8", "iOS 17"),
        ("coreml:ios16", "mixed", "iOS 17"),
    ],
)
def test_what_the_system_or_unit_does_not_take_is_refused(
    file: Path, data: Path, target: str, precision: str, rule: str
) -> None:
    with pytest.raises(UsageError, match=rule):
        compile(file, target, data, recipe=Recipe(precision=precision, bench_seconds=0))


def test_an_unknown_variant_lists_the_known_ones() -> None:
    with pytest.raises(UsageError, match="ios18-ane"):
        backends.get("coreml:ios12")


def test_nodes_without_a_form_are_listed_at_once(tmp_path: Path) -> None:
    text = """<ir_version: 10, opset_import: ["" : 21]>
    g (float[1, 4, 8] x) => (float[1, 4, 8] y) { a = Det (x) b = Bernoulli (x) y = Relu (x) }"""
    proto = onnx.parser.parse_model(text)
    proto.graph.output.extend([onnx.helper.make_tensor_value_info(n, 1, None) for n in ("a", "b")])
    onnx.save(proto, tmp_path / "odd.onnx")
    with pytest.raises(ModelError, match=r"2 of 3 nodes.*Det.*Bernoulli"):
        compile(tmp_path / "odd.onnx", "coreml", recipe=Recipe(precision="fp16", bench_seconds=0))


def test_open_dimensions_want_bounds(tmp_path: Path) -> None:
    text = """<ir_version: 10, opset_import: ["" : 21]>
    g (float[batch, 4] x) => (float[batch, 4] y) { y = Relu (x) }"""
    onnx.save(onnx.parser.parse_model(text), tmp_path / "open.onnx")
    model = ir.load(tmp_path / "open.onnx")
    with pytest.raises(UsageError, match="batch"):
        convert(model, Settings(), interface(model))
    bounded = interface(model, ranges={"x": "1x4:2x4:8x4"})
    save(convert(model, Settings(half=False), bounded).model, tmp_path / "open.mlpackage")
    package = Package.load(tmp_path / "open.mlpackage")
    for rows in (1, 8):
        x = np.random.default_rng(0).normal(size=(rows, 4)).astype(np.float32)
        np.testing.assert_array_equal(package.run({"x": x})["y"], np.maximum(x, 0))
