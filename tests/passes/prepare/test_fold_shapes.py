"""fold-shapes: numbers that shape arithmetic gives although other dimensions are open."""

from __future__ import annotations

import numpy as np
import pytest

from qcompiler import ir
from qcompiler.passes.prepare import EliminateDead, FoldShapes, LiftConstants, NameEverything
from qcompiler.pipeline import PassRecord
from tests.graphs import assert_same_numbers, ops, parse, run, transform


@pytest.mark.parametrize(
    ("arithmetic", "wanted"),
    [
        ("y = Shape <start = 1> (x)", [3, 8]),
        ("y = Shape <start = -2, end = -1> (x)", [3]),
        ("s = Shape(x) y = Gather(s, one)", [3]),
        ("s = Shape(x) y = Gather <axis = 0> (s, last)", [8]),
        ("s = Shape(x) y = Slice(s, one, far)", [3, 8]),
        ("s = Shape(x) y = Slice(s, far, zero, zero, minus)", [8, 3]),
        ("s = Shape(x) a = Gather(s, scalar) y = Unsqueeze(a, zero)", [3]),
        ("s = Shape(x) a = Gather(s, one) b = Gather(s, last) y = Concat <axis = 0> (a, b, one)", [3, 8, 1]),
        ("s = Shape(x) a = Gather(s, one) b = Squeeze(a, zero) c = Identity(b) y = Unsqueeze(c, zero)", [3]),
        ("s = Shape(x) a = Cast <to = 6> (s) b = Gather(a, one) y = Cast <to = 7> (b)", [3]),
        ("r = Relu(w) t = Size(r) y = Unsqueeze(t, zero)", [6]),
    ],
)
def test_folds(arithmetic: str, wanted: list[int]) -> None:
    constants = {"one": [1], "last": [-1], "zero": [0], "far": [1 << 40], "minus": [-1], "scalar": 1}
    before = parse(
        f"g (float[N, 3, 8] x) => (int64[K] y) {{ {arithmetic} }}",
        {**{name: np.array(value) for name, value in constants.items()}, "w": np.ones((2, 3), np.float32)},
    )
    after, records = transform(before, FoldShapes(), EliminateDead())
    assert ops(after) == ["Identity"]
    assert records[0].changes >= 1
    assert run(after, {"x": np.zeros((2, 3, 8), np.float32)})[0].tolist() == wanted
    assert_same_numbers(before, after)
    assert transform(after, FoldShapes())[1][0].changes == 0


def test_keeps_what_depends_on_an_open_dimension() -> None:
    text = "g (float[N, 3] x) => (int64[1] y, int64 z) { s = Shape(x) y = Gather(s, i) z = Size(x) }"
    after, records = transform(parse(text, {"i": np.array([0])}), FoldShapes())
    assert ops(after) == ["Shape", "Gather", "Size"]
    assert records[0].changes == 0


def test_an_index_out_of_range_is_left_to_the_runtime() -> None:
    model = parse("g (float[N, 3] x) => (int64[1] y) { s = Shape(x) y = Gather(s, i) }", {"i": np.array([5])})
    record = PassRecord("fold-shapes")
    FoldShapes().apply(model, record)
    assert record.changes == 0


def test_does_not_believe_what_the_file_states_of_inner_tensors() -> None:
    text = "g (float[N, 3] x) => (int64[2] y) { a = Relu(x) y = Shape(a) }"
    model = parse(text)
    next(ir.editors(model)).retype(model.nodes[0].outputs[0], np.dtype(np.float32), [1, 3])
    after, records = transform(model, FoldShapes())
    assert records[0].changes == 0
    assert run(after, {"x": np.zeros((5, 3), np.float32)})[0].tolist() == [5, 3]


def test_folds_in_branches_with_shapes_from_outside() -> None:
    before = parse("""g (bool c, float[N, 3] x) => (int64[1] y) {
        s = Shape(x)
        y = If (c) <then_branch = t () => (int64[1] r) { i = Constant <value = int64[1] {1}> () r = Gather(s, i) },
                    else_branch = e () => (int64[1] q) { q = Shape <start = 0, end = 1> (x) }> }""")
    after, records = transform(before, NameEverything(), LiftConstants(), FoldShapes(), EliminateDead())
    assert ops(after) == ["If"]
    assert records[2].changes == 1
    feeds = [{"c": np.array(flag), "x": np.zeros((2, 3), np.float32)} for flag in (True, False)]
    assert_same_numbers(before, after, feeds)
