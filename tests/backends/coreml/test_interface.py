"""What a package takes and gives: images, labels, shapes, names, metadata."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

import qcompiler
from qcompiler import Recipe, ir
from qcompiler.backends.base import configured
from qcompiler.backends.coreml import backend
from qcompiler.backends.coreml.convert import Settings, convert
from qcompiler.backends.coreml.evaluate import Package
from qcompiler.backends.coreml.interface import Image, interface
from qcompiler.backends.coreml.names import Names
from qcompiler.backends.coreml.package import save
from qcompiler.errors import UsageError

pytest.importorskip("coremltools", reason="the extra coreml is not installed")

PICTURE = """<ir_version: 10, opset_import: ["" : 21]>
g (float[1, 3, 4, 4] image) => (float[1, 3] scores) { p = GlobalAveragePool (image) scores = Flatten (p) }"""
OPEN = """<ir_version: 10, opset_import: ["" : 21]>
g (float[1, 3, h, w] image) => (float[1, 3, h, w] y) { y = Relu (image) }"""


def parsed(text: str) -> ir.Model:
    return ir.Model.from_proto(onnx.shape_inference.infer_shapes(onnx.parser.parse_model(text)))


def saved(model: ir.Model, folder: Path, settings: Settings | None = None, **wishes: object) -> Package:
    wanted = interface(model, **wishes)  # type: ignore[arg-type]
    save(convert(model, settings or Settings(half=False), wanted).model, folder / "m.mlpackage")
    return Package.load(folder / "m.mlpackage")


def test_an_image_is_scaled_inside(tmp_path: Path) -> None:
    package = saved(parsed(PICTURE), tmp_path, images=["image:RGB:0.5:-1,-2,-3"])
    assert package.spec.description.input[0].type.WhichOneof("Type") == "imageType"
    pixels = np.random.default_rng(0).integers(0, 256, (1, 3, 4, 4)).astype(np.float32)
    wanted = pixels.mean(axis=(2, 3)) * 0.5 + np.float32([[-1, -2, -3]])
    np.testing.assert_allclose(package.run({"image": pixels})["scores"], wanted, rtol=1e-5)


@pytest.mark.parametrize("data", [True, False])
def test_a_package_that_takes_pixels_is_verified_on_what_the_model_takes(tmp_path: Path, data: bool) -> None:
    ir.save(parsed(PICTURE), tmp_path / "m.onnx")
    pixels = np.random.default_rng(0).integers(0, 256, (4, 1, 3, 4, 4))
    samples = [{"image": (x * 0.017 - np.reshape([2.1, 2.0, 1.8], (1, 3, 1, 1))).astype(np.float32)} for x in pixels]
    recipe = Recipe(precision="fp16", options={"image": ["image:RGB:0.017:-2.1,-2,-1.8"]})
    found = qcompiler.compile(tmp_path / "m.onnx", "coreml", samples if data else None, recipe=recipe)
    assert found.exit_status == 0 and not found.report.backend["failures"]
    (output,) = found.report.backend["evaluated"]["outputs"].values()  # type: ignore[call-overload,index]
    assert output["sqnr_db"] > 45


def test_labels_make_a_classifier(tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("cat\ndog\nbird\n", encoding="utf-8")
    package = saved(parsed(PICTURE), tmp_path, labels=str(tmp_path / "labels.txt"))
    described = package.spec.description
    assert described.predictedFeatureName == "label" and described.predictedProbabilitiesName
    assert "classify" in package.ops


def test_enumerated_shapes_are_the_only_ones(tmp_path: Path) -> None:
    package = saved(parsed(OPEN), tmp_path, choices=["image=1x3x4x4,1x3x8x8"])
    kind = package.spec.description.input[0].type.multiArrayType
    assert [list(shape.shape) for shape in kind.enumeratedShapes.shapes] == [[1, 3, 4, 4], [1, 3, 8, 8]]
    for side in (4, 8):
        x = np.random.default_rng(side).normal(size=(1, 3, side, side)).astype(np.float32)
        np.testing.assert_array_equal(package.run({"image": x})["y"], np.maximum(x, 0))


def test_bounds_are_in_the_package(tmp_path: Path) -> None:
    package = saved(parsed(OPEN), tmp_path, ranges={"image": "1x3x4x4:1x3x8x8:1x3x16x16"})
    ranges = package.spec.description.input[0].type.multiArrayType.shapeRange.sizeRanges
    assert [(r.lowerBound, r.upperBound) for r in ranges] == [(1, 1), (3, 3), (4, 16), (4, 16)]


def test_names_and_metadata_are_kept(tmp_path: Path) -> None:
    model = parsed(PICTURE)
    edit = ir.Editor(model, model.graph)
    edit.rename(model.inputs[0], "in/image:0")
    edit.rename(model.outputs[0], "1st score")
    package = saved(model, tmp_path, Settings(half=False, metadata={"author": "me", "shop": "corner"}))
    x = np.ones((1, 3, 4, 4), np.float32)
    assert set(package.run({"in/image:0": x})) == {"1st score"}
    described = package.spec.description
    assert [described.input[0].name, described.output[0].name] == ["in_image_0", "var_1st_score"]
    assert described.metadata.author == "me" and described.metadata.userDefined["shop"] == "corner"
    assert described.metadata.userDefined["onnx.name.in_image_0"] == "in/image:0"


def test_names_stay_apart() -> None:
    names = Names()
    assert [names("a/b"), names("a:b"), names("a_b"), names("a/b"), names("1")] == [
        "a_b", "a_b_1", "a_b_2", "a_b", "var_1",
    ]  # fmt: skip


@pytest.mark.parametrize("text", ["x:PINK", "x:RGB:wide", "x:RGB:1:1,2", ":RGB", "x:RGB:1:0:0"])
def test_what_is_no_image_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--image"):
        Image.parse(text)


@pytest.mark.parametrize(
    ("option", "value"),
    [("image", ["x:PINK"]), ("metadata", ["author"]), ("labels", "no such file"), ("emulate", 1)],
)
def test_options_are_checked_before_any_work(option: str, value: object) -> None:
    with pytest.raises(UsageError):
        configured(backend("ios18"), {option: value})


@pytest.mark.parametrize(
    "wishes",
    [
        {"images": ["other:RGB"]}, {"ranges": {"image": "1:2:3"}}, {"ranges": {"image": "1x3x4x4:1x3x2x2:1x3x8x8"}},
        {"choices": ["image"]}, {"choices": ["image=1x3"]}, {"images": ["image:GRAY"]},
    ],
)  # fmt: skip
def test_wishes_that_do_not_fit_are_refused(wishes: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        interface(parsed(OPEN), **wishes)  # type: ignore[arg-type]
