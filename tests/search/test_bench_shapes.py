"""Shapes to measure latency on: what a user may write, the values in such shapes, and what they decide."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

import qcompiler
from qcompiler import Recipe
from qcompiler.analysis import Timing, speedup
from qcompiler.analysis.latency import together
from qcompiler.data import InputInfo
from qcompiler.errors import UsageError
from qcompiler.search.bench_shapes import bench_feeds, resized, wanted
from tests.graphs import parse

IDS = InputInfo("ids", np.dtype(np.int64), ("batch", "seq"))
MASK = InputInfo("mask", np.dtype(np.int64), ("batch", "seq"))
STATE = InputInfo("state", np.dtype(np.float32), (2, "batch", 4))
INPUTS = (IDS, MASK, STATE)
SAMPLE = {
    "ids": np.array([[5, 7, 9]]),
    "mask": np.array([[1, 1, 0]]),
    "state": np.arange(8, dtype=np.float32).reshape(2, 1, 4),
}


@pytest.mark.parametrize(
    ("text", "shapes"),
    [
        ("batch=2,seq=8", [(2, 8), (2, 8), (2, 2, 4)]),
        ("ids=2x8", [(2, 8), (2, 8), (2, 2, 4)]),
        ("ids=?x8", [(1, 8), (1, 8), (2, 1, 4)]),
        ("seq=2", [(1, 2), (1, 2), (2, 1, 4)]),
        ("mask=1x2, state=2x1x4", [(1, 2), (1, 2), (2, 1, 4)]),
    ],
)
def test_dimensions_by_name_or_by_input(text: str, shapes: list[tuple[int, ...]]) -> None:
    assert list(wanted(INPUTS, text, SAMPLE).values()) == shapes
    feed = bench_feeds(INPUTS, [text], SAMPLE)[0]
    assert [value.shape for value in feed.values()] == shapes
    assert [value.dtype for value in feed.values()] == [info.dtype for info in INPUTS]


def test_values_are_those_of_the_sample_repeated_or_cut() -> None:
    feed = bench_feeds(INPUTS, ["batch=2,seq=5"], SAMPLE)[0]
    assert feed["ids"].tolist() == [[5, 7, 9, 5, 7]] * 2
    assert bench_feeds(INPUTS, ["seq=2"], SAMPLE)[0]["ids"].tolist() == [[5, 7]]
    assert resized(np.zeros((0, 2), np.int64), (1, 2)).tolist() == [[1, 1]]


def test_without_data_there_are_ones_and_without_shapes_the_sample() -> None:
    feed = bench_feeds(INPUTS, ["seq=3"], None)[0]
    assert feed["ids"].tolist() == [[1, 1, 1]] and feed["state"].shape == (2, 1, 4)
    assert bench_feeds(INPUTS, [], SAMPLE)[0] is SAMPLE
    assert bench_feeds(INPUTS, [], None)[0]["ids"].shape == (1, 1)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("batch", "'batch' is not a shape"),
        ("batch=0", "'batch=0' is not a shape"),
        ("batch=2,,seq=1", "'' is not a shape"),
        ("width=2", "'width' is neither an input nor a dynamic dimension"),
        ("batch=2x3", "'batch' is neither an input nor a dynamic dimension"),
        ("ids=1x2x3", "'ids' has batchxseq, not 3 dimensions"),
        ("state=3x1x4", "dimension 0 of 'state' is 2 in the model and cannot be 3"),
        ("ids=1x8,mask=1x9", "dimension 'seq' is given as 8 and as 9"),
    ],
)
def test_a_shape_that_cannot_be_is_refused(text: str, said: str) -> None:
    with pytest.raises(UsageError) as error:
        bench_feeds(INPUTS, [text], SAMPLE)
    assert error.value.what == said and error.value.where == "--bench-shape"


def timing(*milliseconds: float, blocks: int = 4) -> Timing:
    return Timing(np.tile(np.array(milliseconds) / 1e3, (blocks, 1)))


def test_the_speedup_of_several_shapes_is_the_geometric_mean() -> None:
    first = together([timing(4, 8, 6), timing(100, 90, 80, blocks=3)])
    second = together([timing(2, 1, 3), timing(40, 40, 40, blocks=3)])
    assert first.times.shape == (3, 3)
    assert speedup(first, second).ratio == pytest.approx(math.sqrt(4 * 2))
    assert first.median_ms == pytest.approx(math.sqrt(6 * 90))
    assert [part.median_ms for part in first.parts] == pytest.approx([6, 90])


def test_a_compile_reports_each_shape(tmp_path: Path) -> None:
    weight = np.random.default_rng(0).normal(size=(64, 64)).astype(np.float32)
    model = parse("g (float[rows, 64] x) => (float[rows, 64] y) { y = MatMul(x, w) }", {"w": weight})
    qcompiler.save(model, tmp_path / "m.onnx")
    data = [{"x": np.ones((1, 64), np.float32) * i} for i in range(1, 4)]
    recipe = Recipe(bench_shapes=("rows=1", "x=2048x64"), bench_seconds=0.5, precision="w8")
    report = qcompiler.compile(tmp_path / "m.onnx", "onnxruntime", data, recipe=recipe).report
    assert [entry["shape"] for entry in report.latency.shapes] == ["rows=1", "x=2048x64"]
    small, large = (entry["float_ms"] for entry in report.latency.shapes)
    assert large > 1.5 * small
    mean = math.sqrt(math.prod(entry["speedup"] for entry in report.latency.shapes))
    assert report.latency.speedup == pytest.approx(mean, rel=0.3)
    assert qcompiler.Report.from_json(report.to_json()).latency.shapes == report.latency.shapes
    with pytest.raises(UsageError, match="rows"):
        qcompiler.compile(tmp_path / "m.onnx", "onnxruntime", data, recipe=Recipe(bench_shapes=("cols=1",)))
