"""In float32 a saved package is what ONNX Runtime, not optimising, computes; the int8 one to the step."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.coreml_exact import NEAR, codes, packaged, relative
from qcompiler import ir
from qcompiler.compiler import compile
from qcompiler.recipe import Recipe

pytest.importorskip("coremltools", reason="the extra coreml is not installed")

MODELS = Path(__file__).resolve().parents[3] / "models"
DIGITS = ("digits_cnn", "digits_transformer")


def images(name: str) -> list[dict[str, np.ndarray]]:
    with np.load(MODELS / name / "evaluation.npz") as archive:
        return [{"image": archive["image"][at : at + 1]} for at in range(4)]


def compiled(name: str, precision: str) -> ir.Model:
    data = MODELS / name / "calibration.npz"
    recipe = Recipe(precision=precision, bench_seconds=0, samples=16, method="minmax", shapes={"batch": "1"})
    return compile(MODELS / name / "model.onnx", "coreml", data, recipe=recipe).model


@pytest.mark.parametrize("name", DIGITS)
def test_float32_is_within_1e_5(name: str, tmp_path: Path) -> None:
    model = compiled(name, "float")
    package, _ = packaged(model, tmp_path, {})
    both, ours, theirs = relative(model, package, images(name))
    assert max(both.square, both.largest) < NEAR
    assert 0 < ours.largest < NEAR and 0 < theirs.largest < NEAR


@pytest.mark.parametrize("name", DIGITS)
def test_int8_codes_are_equal_up_to_a_step(name: str, tmp_path: Path) -> None:
    model = compiled(name, "w8a8")
    package, names = packaged(model, tmp_path, {})
    found = codes(model, package, names, images(name))
    assert found.values > 20000 and found.steps <= 1 and found.differ < 1e-4 * found.values, found
    assert package.ops["quantize"] == len([n for n in model.nodes if n.op == "QuantizeLinear"])


def test_a_wrong_scale_is_seen(tmp_path: Path) -> None:
    model = compiled("digits_cnn", "w8a8")
    package, names = packaged(model, tmp_path, {})
    wrong = ir.Model.from_proto(model.to_proto())
    node = next(node for node in wrong.nodes if node.op == "QuantizeLinear")
    edit = next(ir.editors(wrong))
    edit.set_input(node, 1, edit.constant("wrong", ir.array(node.inputs[1]) * np.float32(1.05)))
    assert codes(wrong, package, names, images("digits_cnn")).steps > 1
