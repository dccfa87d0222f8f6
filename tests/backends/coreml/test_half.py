"""Float16: overflow on samples, constants beyond its range, epsilons, scales."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from qcompiler import ir
from qcompiler.backends.coreml.convert import Settings, convert
from qcompiler.backends.coreml.evaluate import Package
from qcompiler.backends.coreml.interface import interface
from qcompiler.backends.coreml.overflow import overflows
from qcompiler.backends.coreml.package import save
from qcompiler.backends.coreml.spec import fits_half
from qcompiler.data import Sample
from qcompiler.numerics.scale_forms import rounded_scale

pytest.importorskip("coremltools", reason="the extra coreml is not installed")


def parsed(text: str, **constants: np.ndarray) -> ir.Model:
    proto = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : 21]>\n{text}')
    for name, values in constants.items():
        proto.graph.initializer.append(numpy_helper.from_array(np.asarray(values), name))
    for i, node in enumerate(proto.graph.node):
        node.name = f"{node.op_type.lower()}{i}"
    return ir.Model.from_proto(onnx.shape_inference.infer_shapes(proto))


def saved(model: ir.Model, folder: Path, settings: Settings) -> Package:
    save(convert(model, settings, interface(model)).model, folder / "m.mlpackage")
    return Package.load(folder / "m.mlpackage")


LARGE = "g (float[1, 8] x) => (float[1, 8] y) { a = Mul (x, k) b = Mul (a, l) y = Add (b, x) }"


def test_values_beyond_float16_keep_their_nodes_in_float32(tmp_path: Path) -> None:
    model = parsed(LARGE, k=np.float32(1e5), l=np.float32(1e-5))
    x = np.linspace(-2, 2, 8, dtype=np.float32)[None]
    found = overflows(model, [Sample({"x": x}, None, "one")])
    assert [(entry.tensor, entry.stays) for entry in found] == [("a", ("mul1", "mul0"))]
    plain = saved(model, tmp_path, Settings()).run({"x": x})["y"]
    assert not np.isfinite(plain).all()
    kept = saved(model, tmp_path, Settings(keep=frozenset(found[0].stays))).run({"x": x})["y"]
    np.testing.assert_allclose(kept, 2 * x, rtol=3e-3)


BRANCH = """g (float[1, 8] x, bool c) => (float[1, 8] y) {
    z = If (c) <then_branch = t () => (float[1, 8] r) { a = Mul (x, k) b = Mul (a, l) r = Add (b, x) },
                else_branch = e () => (float[1, 8] s) { s = Neg (x) }>
    y = Identity (z) }"""


def test_values_beyond_float16_in_a_branch_are_seen_where_it_is_taken(tmp_path: Path) -> None:
    from qcompiler.passes.prepare import prepare
    from qcompiler.pipeline import Pipeline

    model = parsed(BRANCH, k=np.float32(1e5), l=np.float32(1e-5))
    prepare(Pipeline(), model)
    x = np.linspace(-2, 2, 8, dtype=np.float32)[None]
    taken, other = ({"x": x, "c": np.array(flag)} for flag in (True, False))
    assert not overflows(model, [Sample(other, None, "one")])
    found = overflows(model, [Sample(other, None, "one"), Sample(taken, None, "two")])
    assert [entry.tensor for entry in found] == ["a"] and [entry.op for entry in found] == ["Mul"]
    assert not np.isfinite(saved(model, tmp_path, Settings()).run(taken)["y"]).all()
    package = saved(model, tmp_path, Settings(keep=frozenset(found[0].stays)))
    np.testing.assert_allclose(package.run(taken)["y"], 2 * x, rtol=3e-3)
    np.testing.assert_allclose(package.run(other)["y"], -x, rtol=3e-3)


def test_masks_stay_finite(tmp_path: Path) -> None:
    mask = np.where(np.arange(8) > 3, np.float32(-np.inf), np.float32(0))
    model = parsed("g (float[1, 8] x) => (float[1, 8] y) { a = Add (x, m) y = Softmax (a) }", m=mask)
    x = np.random.default_rng(0).normal(size=(1, 8)).astype(np.float32)
    found = saved(model, tmp_path, Settings()).run({"x": x})["y"]
    assert np.isfinite(found).all() and not found[0, 4:].any()
    np.testing.assert_allclose(found.sum(), 1, rtol=2e-3)


def test_rms_norm_does_not_overflow(tmp_path: Path) -> None:
    text = "g (float[1, 4] x, float[4] s) => (float[1, 4] y) { y = RMSNormalization <epsilon = 0.00001> (x, s) }"
    model = parsed(text.replace(", float[4] s", ""), s=np.ones(4, np.float32))
    x = np.float32([[1000, -2000, 3000, 500]])
    found = saved(model, tmp_path, Settings()).run({"x": x})["y"]
    np.testing.assert_allclose(found, x / np.sqrt(np.mean(x * x) + 1e-5), rtol=3e-3)


def test_a_tiny_epsilon_is_raised(tmp_path: Path) -> None:
    text = "g (float[1, 4] x) => (float[1, 4] y) { y = LayerNormalization <epsilon = 0.000000000001> (x, s) }"
    package = saved(parsed(text, s=np.ones(4, np.float32)), tmp_path, Settings())
    assert np.isfinite(package.run({"x": np.zeros((1, 4), np.float32)})["y"]).all()


@pytest.mark.parametrize(("largest", "fits"), [(1e-2, True), (1e-4, True), (1e-5, False), (0.0, True)])
def test_scales_that_float16_does_not_hold_are_told(largest: float, fits: bool) -> None:
    weight = np.full((4, 4), largest, np.float32)
    model = parsed("g (float[1, 4] x) => (float[1, 4] y) { y = MatMul (x, w) }", w=weight)
    assert (fits_half(model.nodes[0]) is None) is fits


def test_a_small_channel_takes_the_least_normal_scale() -> None:
    held = rounded_scale(np.float32([1e-2, 3e-9, 1e-4]), "half")
    assert held[1] == np.float32(2.0**-14) and np.array_equal(held, held.astype(np.float16))
    assert rounded_scale(np.float32([1e-6]), "half")[0] == np.float32(np.float16(1e-6))
