"""unroll: loops with a known number of turns become their turns; the others stay, with the reason."""

from __future__ import annotations

import numpy as np
import pytest

from qcompiler.passes.prepare import EliminateDead, InferShapes, NameEverything, Unroll
from tests.graphs import assert_same_numbers, ops, parse, refusals, transform

LOOP = """g (float[2] x, bool go, int64 many) => (float[2] y, float[n, 2] all) {
    h = Exp(x)
    y, all = Loop(M, c, x) <body = b (int64 i, bool more, float[2] v) => (bool on, float[2] w, float[2] s)
        <float[2] k = {1, 2}> {
        on = Identity(more) f = Cast<to = 1>(i) t = Add(v, f) w = Mul(t, k) s = Sub(w, h) }> }"""

SCAN = """g (float[2] a, float[5, 3, 2] x) => (float[2] y, float[3, 2, 5] all) {
    y, all = Scan(a, x) <num_scan_inputs = 1, scan_input_axes = [1], scan_input_directions = [1],
        scan_output_axes = [-1], scan_output_directions = [0],
        body = b (float[2] v, float[5, 2] row) => (float[2] w, float[5, 2] s) {
        one = ReduceMax<keepdims = 0>(row, zero) w = Add(v, one) s = Mul(row, w) }> }"""


def test_a_loop_becomes_its_turns() -> None:
    before = parse(LOOP, {"M": np.array(3), "c": np.array(True)})
    after, records = transform(before, NameEverything(), Unroll(), EliminateDead(), InferShapes())
    assert records[1].changes == 1 and "Loop" not in ops(after)
    assert ops(after).count("Mul") == 3 and ops(after).count("Concat") == 1
    feeds = [{"x": np.array([0.5, -1], np.float32), "go": np.array(True), "many": np.array(2)}]
    assert_same_numbers(before, after, feeds)
    assert len({node.name for node in after.nodes}) == len(after.nodes)


def test_a_loop_without_a_turn_gives_what_it_started_from() -> None:
    before = parse(LOOP.replace("float[n, 2] all", "float[2] all").replace("y, all = L", "y, = L")
                   .replace(", float[2] s)", ")").replace("=> (float[2] y, float[2] all)", "=> (float[2] y)")
                   .replace("y, = L", "y = L"), {"M": np.array(3), "c": np.array(False)})  # fmt: skip
    after, _ = transform(before, NameEverything(), Unroll(), EliminateDead())
    assert ops(after) == ["Identity"]
    assert_same_numbers(before, after, [{"x": np.ones(2, np.float32), "go": np.array(True), "many": np.array(2)}])


@pytest.mark.parametrize("turns", [(1, 0, -1), (0, 1, -1), (1, 1, 0), (0, 0, 1)])
def test_a_scan_becomes_its_turns(turns: tuple[int, int, int]) -> None:
    into, out, axis = turns
    text = SCAN.replace("directions = [1]", f"directions = [{into}]").replace(
        "directions = [0]", f"directions = [{out}]"
    )
    shape = {-1: "5, 2, 3", 0: "3, 5, 2", 1: "5, 3, 2"}[axis]
    text = text.replace("float[3, 2, 5] all", f"float[{shape}] all").replace("axes = [-1]", f"axes = [{axis}]")
    before = parse(text, {"zero": np.array([0])})
    after, records = transform(before, NameEverything(), Unroll(), InferShapes())
    assert records[1].changes == 1 and ops(after).count("Gather") == 3
    assert_same_numbers(before, after)


def test_loops_in_loops_go_from_the_inside() -> None:
    before = parse(
        """g (float[2] x) => (float[2] y) {
        y = Loop(M, , x) <body = b (int64 i, bool more, float[2] v) => (bool on, float[2] w) {
            on = Identity(more)
            w = Loop(M, , v) <body = b2 (int64 i2, bool more2, float[2] v2) => (bool on2, float[2] w2) {
                on2 = Identity(more2) t = Add(v2, v) w2 = Tanh(t) }> }> }""",
        {"M": np.array(2)},
    )
    after, records = transform(before, NameEverything(), Unroll(), EliminateDead())
    assert records[1].changes == 2 and ops(after) == ["Add", "Tanh"] * 4
    assert_same_numbers(before, after)


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("Loop(M,", "Loop(many,", "its trip count 'many' is computed"),
        ("Loop(M,", "Loop(,", "it has no trip count"),
        ("(M, c,", "(M, go,", "its condition 'go' is computed"),
        ("on = Identity(more)", "z = Abs(i) on = Equal(z, i)", "its condition 'on' is computed in each turn"),
        ("Loop(M,", "Loop(many_turns,", "2000 turns of 5 nodes are more than 4096"),
        ("Loop(M,", "Loop(none,", "it has no turn, and what it stacks is empty"),
        ("w = Mul(t, k)", "w = If(more) <then_branch = d () => (float[2] p) { p = Mul(t, k) }, "
         "else_branch = e () => (float[2] q) { q = Abs(t) }>", "its body holds If"),
    ],
)  # fmt: skip
def test_what_stays_says_why(old: str, new: str, reason: str) -> None:
    constants = {"M": np.array(3), "c": np.array(True), "many_turns": np.array(2000), "none": np.array(0)}
    before = parse(LOOP.replace(old, new), constants)
    after, records = transform(before, NameEverything(), Unroll())
    assert ops(after) == ops(before) and any(reason in text for text in refusals(records))


def test_a_scan_of_open_length_stays() -> None:
    text = SCAN.replace("[5, 3, 2] x", "[5, n, 2] x").replace("[3, 2, 5] all", "[p, q, r] all")
    _, records = transform(parse(text, {"zero": np.array([0])}), NameEverything(), Unroll())
    assert refusals(records) == ["the length of 'x' along axis 1 is open"]
