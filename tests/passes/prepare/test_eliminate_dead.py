"""eliminate-dead: nodes, outputs and initializers that nothing depends on."""

from __future__ import annotations

import numpy as np

from qcompiler.passes.prepare import EliminateDead, NameEverything
from tests.graphs import assert_same_numbers, ops, parse, transform

X = np.array([0.5, -1.5], np.float32)
EITHER = [{"c": np.array(flag), "x": X} for flag in (True, False)]


def test_erases_chains_and_initializers() -> None:
    before = parse(
        "g (float[2] x) => (float[2] y) { a = Mul(x, w) b = Exp(a) d = Mul(x, v) y = Neg(d) }",
        {"w": X, "v": X, "unused": X},
    )
    after, records = transform(before, EliminateDead())
    assert ops(after) == ["Mul", "Neg"]
    assert [constant.name for constant in after.graph.declared] == ["v"]
    assert records[0].changes == 2 + 2
    assert_same_numbers(before, after)


def test_what_only_a_branch_reads_is_alive() -> None:
    before = parse("""g (bool c, float[2] x) => (float[2] y) {
        a = Exp(x) b = Abs(x)
        y = If (c) <then_branch = t () => (float[2] r) { r = Neg(a) },
                    else_branch = e () => (float[2] s) { s = Neg(x) }> }""")
    after, _ = transform(before, NameEverything(), EliminateDead())
    assert ops(after) == ["Exp", "If"]
    assert_same_numbers(before, after, EITHER)


def test_unused_output_of_an_if_goes_with_what_computes_it() -> None:
    before = parse("""g (bool c, float[2] x) => (float[2] y) {
        a = Exp(x)
        y, z = If (c) <then_branch = t () => (float[2] r, float[2] r2) { r = Neg(x) r2 = Neg(a) },
                       else_branch = e () => (float[2] s, float[2] s2) { s = Abs(x) s2 = Exp(s) }> }""")
    after, _ = transform(before, NameEverything(), EliminateDead())
    assert ops(after) == ["If"]
    assert [[node.op for node in graph.nodes] for graph in list(after.graphs())[1:]] == [["Neg"], ["Abs"]]
    assert_same_numbers(before, after, EITHER)


def test_unused_scan_output_of_a_loop_goes_and_state_stays() -> None:
    text = """g (int64 n, float[2] x) => (float[2] {wanted}) {{
        go = Constant <value = bool {{1}}> ()
        state, scan = Loop (n, go, x) <body =
            b (int64 i, bool in_go, float[2] s) => (bool out_go, float[2] t, float[2] u) {{
            out_go = Identity(in_go) t = Add(s, s) u = Exp(s) }}>
        {end} }}"""
    feeds = [{"n": np.array(3), "x": X}]
    before = parse(text.format(wanted="y", end="y = Neg(state)"))
    after, _ = transform(before, NameEverything(), EliminateDead())
    body = list(after.graphs())[1]
    assert [node.op for node in body.nodes] == ["Identity", "Add"]
    assert len(body.outputs) == 2
    assert_same_numbers(before, after, feeds)

    before = parse(text.format(wanted="y", end="last = Constant <value = int64 {2}> () y = Gather(scan, last)"))
    after, _ = transform(before, NameEverything(), EliminateDead())
    body = list(after.graphs())[1]
    assert [node.op for node in body.nodes] == ["Identity", "Add", "Exp"]
    assert_same_numbers(before, after, feeds)


def test_optional_outputs_go_and_variadic_ones_stay() -> None:
    before = parse(
        """g (float[2, 4, 4] x) => (float[2, 4, 4] y, float[1, 4, 4] z) {
        y, mean, deviation = LayerNormalization(x, w) z, z2 = Split <num_outputs = 2> (x) }""",
        {"w": np.ones(4, np.float32)},
    )
    after, _ = transform(before, EliminateDead())
    assert [len(node.outputs) for node in after.nodes] == [1, 2]
    assert_same_numbers(before, after)


def test_does_nothing_where_all_is_used() -> None:
    before = parse("g (float[2] x) => (float[2] y) { y = Mul(x, w) }", {"w": X})
    _, records = transform(before, EliminateDead())
    assert records[0].changes == 0


def test_statistics_of_a_batch_stay_with_their_normalization() -> None:
    """Weight standardization of normalizer-free networks, as PyTorch exports it."""
    before = parse(
        """g (float[2, 2, 3] x) => (float[2, 2, 3] y) {
        y, m, v = BatchNormalization <training_mode = 1> (x, one, zero, zero, one) }""",
        {"one": np.ones(2, np.float32), "zero": np.zeros(2, np.float32)},
    )
    after, _ = transform(before, EliminateDead())
    assert [len(node.outputs) for node in after.nodes] == [3]
    x = np.arange(12, dtype=np.float32).reshape(2, 2, 3)
    assert_same_numbers(before, after, [{"x": x}])
