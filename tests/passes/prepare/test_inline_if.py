"""inline-if: a decided If becomes the branch it takes."""

from __future__ import annotations

import numpy as np
import pytest

from qcompiler.passes.prepare import EliminateDead, InlineIf, NameEverything
from tests.graphs import assert_same_numbers, ops, parse, run, transform

TEXT = """g (float[2] x) => (float[2] y, float[2] z) {
    h = Exp(x) u = Sin(x)
    y, v = If (c) <then_branch = t () => (float[2] r, float[2] r2) <float[2] w = {1, 2}> { r = Add(x, w) r2 = Abs(h) },
                   else_branch = e () => (float[2] s, float[2] s2) <float[2] w = {3, 4}> { s = Mul(x, w) s2 = Cos(u) }>
    z = Neg(v) }"""


@pytest.mark.parametrize(
    ("flag", "wanted"), [(True, ["Exp", "Add", "Abs", "Neg"]), (False, ["Sin", "Mul", "Cos", "Neg"])]
)
@pytest.mark.parametrize("shape", [(), (1,)])
def test_inlines(flag: bool, wanted: list[str], shape: tuple[int, ...]) -> None:
    before = parse(TEXT, {"c": np.full(shape, flag)})
    after, records = transform(before, NameEverything(), InlineIf(), EliminateDead())
    assert ops(after) == wanted
    assert records[1].changes == 1
    assert len(after.graph.declared) == 1
    assert_same_numbers(before, after)


def test_inlines_nested_ones() -> None:
    before = parse(
        """g (float[2] x) => (float[2] y) {
        y = If (c) <then_branch = t () => (float[2] r) {
                        r = If (c) <then_branch = t2 () => (float[2] r2) { r2 = Exp(x) },
                                    else_branch = e2 () => (float[2] s2) { s2 = Abs(x) }> },
                    else_branch = e () => (float[2] s) { s = Neg(x) }> }""",
        {"c": np.array(True)},
    )
    after, records = transform(before, NameEverything(), InlineIf())
    assert ops(after) == ["Exp"]
    assert [tensor.name for tensor in after.outputs] == ["y"]
    assert records[1].changes == 2
    assert_same_numbers(before, after)


def test_a_branch_that_gives_back_a_constant_or_an_outer_value() -> None:
    before = parse(
        """g (float[2] x) => (float[2] y, float[2] z) {
        a, b = If (c) <then_branch = t () => (float[2] r, float[2] w) <float[2] w = {1, 2}> { r = Identity(x) },
                       else_branch = e () => (float[2] s, float[2] s2) { s = Neg(x) s2 = Abs(x) }>
        y = Add(a, b) z = Mul(a, b) }""",
        {"c": np.array(True)},
    )
    after, _ = transform(before, NameEverything(), InlineIf())
    assert ops(after) == ["Identity", "Add", "Mul"]
    y, z = run(after, {"x": np.array([3, 5], np.float32)})
    assert (y.tolist(), z.tolist()) == ([4, 7], [3, 10])


def test_keeps_an_open_condition() -> None:
    before = parse("""g (bool c, float[2] x) => (float[2] y) {
        y = If (c) <then_branch = t () => (float[2] r) { r = Exp(x) },
                    else_branch = e () => (float[2] s) { s = Neg(x) }> }""")
    after, records = transform(before, NameEverything(), InlineIf())
    assert ops(after) == ["If"]
    assert records[1].changes == 0


def test_inlines_inside_a_loop() -> None:
    before = parse(
        """g (int64 n, float[2] x) => (float[2] y) {
        y = Loop (n, c, x) <body = b (int64 i, bool go, float[2] s) => (bool go2, float[2] s2) {
            go2 = Identity(go)
            s2 = If (c) <then_branch = t () => (float[2] r) { r = Add(s, x) },
                         else_branch = e () => (float[2] q) { q = Neg(s) }> }> }""",
        {"c": np.array(True)},
    )
    after, _ = transform(before, NameEverything(), InlineIf())
    assert [node.op for node in after.all_nodes()] == ["Loop", "Identity", "Add"]
    assert_same_numbers(before, after, [{"n": np.array(3), "x": np.array([1, 2], np.float32)}])
