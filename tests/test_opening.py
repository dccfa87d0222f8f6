"""What a compile starts from: sizes that a target must know come from the user, else from samples that agree."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import parser

import qcompiler
from qcompiler import Recipe, backends
from qcompiler.backends.base import configured
from qcompiler.errors import UsageError
from qcompiler.opening import opened

TEXT = """<ir_version: 8, opset_import: ["" : 17]>
g (float[N,M] x, float[N,4] z) => (float[N,M] y, float[N,4] w) { y = Relu(x) w = Abs(z) }"""
ROWS = [{"x": np.ones((2, size), np.float32), "z": np.ones((2, 4), np.float32)} for size in (3, 3, 5)]
SAME = ROWS[:2]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    onnx.save(parser.parse_model(TEXT), tmp_path / "m.onnx")
    return tmp_path / "m.onnx"


def shapes(model: Path, target: str, rows: list[dict[str, np.ndarray]], **recipe: dict[str, str]) -> list[list]:
    start = opened(model, backends.get(target), Recipe(**recipe), rows)
    return [list(tensor.shape) for tensor in start.frontend.prepared.inputs]


@pytest.mark.parametrize("target", ["qnn", "coreml"])
def test_samples_that_agree_fix_what_the_target_must_know(target: str, model: Path) -> None:
    start = opened(model, backends.get(target), Recipe(), SAME)
    assert [list(tensor.shape) for tensor in start.frontend.prepared.inputs] == [[2, 3], [2, 4]]
    assert start.notes == (
        "input 'x' is fixed to 2x3, the shape of all samples", "input 'z' is fixed to 2x4, the shape of all samples",
    )  # fmt: skip
    assert [dict(sample.feed).keys() for sample in start.samples] == [{"x", "z"}] * 2


def test_a_target_that_takes_any_shape_keeps_them_open(model: Path) -> None:
    assert shapes(model, "onnxruntime", SAME) == [["N", "M"], ["N", 4]]


def test_what_the_user_states_stays(model: Path) -> None:
    assert shapes(model, "qnn", ROWS[2:], shapes={"N": "2", "M": "5"}) == [[2, 5], [2, 4]]
    assert shapes(model, "coreml", ROWS, shapes={"x": "2x1:2x3:2x5", "N": "2"}) == [[2, "M"], [2, 4]]


@pytest.mark.parametrize(
    ("target", "rows", "message"),
    [
        ("qnn", None, r"'qnn' takes fixed shapes only; 'x' is NxM \(--shape N=1\)"),
        ("qnn", ROWS, r"fixed shapes only; 'x' is NxM \(samples have several; --shape x=2x3 is that of the first\)"),
        ("coreml", None, r"fixed or bounded shapes only; 'x' is NxM \(--shape N=1, or bounds min:default:max\)"),
    ],
)
def test_sizes_that_nobody_says(
    target: str, rows: list[dict[str, np.ndarray]] | None, message: str, model: Path
) -> None:
    with pytest.raises(UsageError, match=message):
        opened(model, backends.get(target), Recipe(), rows)


def test_enumerated_shapes_are_left_to_the_target(model: Path) -> None:
    backend = configured(backends.get("coreml"), {"enumerate": ["x=2x3,2x5"]})
    start = opened(model, backend, Recipe(), SAME)
    assert not start.notes and list(start.frontend.prepared.inputs[0].shape) == ["N", "M"]


def test_the_report_says_so(model: Path) -> None:
    recipe = Recipe(precision="float", bench_seconds=0)
    pytest.importorskip("coremltools")
    report = qcompiler.compile(model, "coreml", SAME, recipe=recipe).report
    assert "input 'x' is fixed to 2x3, the shape of all samples" in report.notes


def test_statistics_need_samples(model: Path) -> None:
    with pytest.raises(UsageError, match="needs calibration samples"):
        _ = opened(model, backends.get("onnxruntime"), Recipe(), None).samples
