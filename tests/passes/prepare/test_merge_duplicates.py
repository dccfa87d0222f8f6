"""merge-duplicates: equal nodes and equal initializers are one."""

from __future__ import annotations

import numpy as np
import pytest

from qcompiler.passes.prepare import EliminateDead, MergeDuplicates, NameEverything
from tests.graphs import assert_same_numbers, ops, parse, transform

W = np.arange(6, dtype=np.float32).reshape(2, 3)
EITHER = [{"c": np.array(flag), "x": W} for flag in (True, False)]


def test_merges_chains() -> None:
    before = parse("""g (float[2, 3] x) => (float[2, 6] y) {
        a = Neg(x) b = Neg(x) c = Elu <alpha = 0.5> (a) d = Elu <alpha = 0.5> (b) y = Concat <axis = 1> (c, d) }""")
    after, records = transform(before, MergeDuplicates())
    assert ops(after) == ["Neg", "Elu", "Concat"]
    assert records[0].changes == 2
    assert_same_numbers(before, after)


@pytest.mark.parametrize(
    "pair",
    [
        "a = Elu <alpha = 0.5> (x) b = Elu <alpha = 0.6> (x)",
        "a = Sub(x, w) b = Sub(w, x)",
        "a = RandomNormalLike(x) b = RandomNormalLike(x)",
        "a = com.microsoft.Gelu(x) b = com.microsoft.Gelu(x)",
        "a = Clip(x, s) b = Clip(x, , s)",
        "a = Reshape(x, k) b = Reshape <allowzero = 1> (x, k)",
    ],
)
def test_keeps_what_differs(pair: str) -> None:
    constants = {"w": W, "s": np.float32(2), "k": np.array([2, 3])}
    before = parse(f"g (float[2, 3] x) => (float[2, 6] y) {{ {pair} y = Concat <axis = 1> (a, b) }}", constants)
    after, records = transform(before, MergeDuplicates())
    assert ops(after) == ops(before)
    assert records[0].changes == 0


def test_outputs_keep_their_names_and_at_most_one_is_merged_away() -> None:
    before = parse("g (float[2, 3] x) => (float[2, 3] y, float[2, 3] z) { y = Neg(x) z = Neg(x) }")
    assert transform(before, MergeDuplicates())[1][0].changes == 0
    before = parse("g (float[2, 3] x) => (float[2, 3] y, float[2, 3] z) { a = Neg(x) y = Neg(x) z = Exp(a) }")
    after, _ = transform(before, MergeDuplicates())
    assert ops(after) == ["Neg", "Exp"]
    assert_same_numbers(before, after)


def test_shares_tied_weights_and_tells_types_and_shapes_apart() -> None:
    constants = {"w": W, "v": W.copy(), "t": W.reshape(3, 2), "i": W.view(np.int32), "n": W + 1}
    before = parse(
        """g (float[2, 3] x) => (float[2, 3] y, int32[2, 3] z) {
        a = Add(x, w) b = Mul(a, v) r = Transpose(t) c = Add(b, r) y = Sub(c, n) z = Identity(i) }""",
        constants,
    )
    after, records = transform(before, MergeDuplicates())
    assert [constant.name for constant in after.graph.declared] == ["w", "t", "i", "n"]
    assert records[0].changes == 1
    assert_same_numbers(before, after)


def test_zeros_of_different_sign_and_equal_nan() -> None:
    constants = {"p": np.zeros(3, np.float32), "m": -np.zeros(3, np.float32)}
    constants |= {"n": np.full(3, np.nan, np.float32), "o": np.full(3, np.nan, np.float32)}
    before = parse(
        "g (float[3] x) => (float[3] y) { a = Add(x, p) b = Add(a, m) c = Add(b, n) y = Add(c, o) }", constants
    )
    after, _ = transform(before, MergeDuplicates())
    assert [constant.name for constant in after.graph.declared] == ["p", "m", "n"]


def test_a_branch_uses_the_initializer_outside_and_siblings_do_not_share() -> None:
    before = parse(
        """g (bool c, float[2, 3] x) => (float[2, 3] y, float[2, 3] z) {
        y = Mul(x, w)
        z = If (c) <then_branch = t () => (float[2, 3] r) <float[2, 3] u = {0, 1, 2, 3, 4, 5}, float[3] k = {1, 2, 3}>
                       { q = Add(x, u) r = Mul(q, k) },
                    else_branch = e () => (float[2, 3] s) <float[3] k2 = {1, 2, 3}> { s = Mul(x, k2) }> }""",
        {"w": W},
    )
    after, records = transform(before, NameEverything(), MergeDuplicates(), EliminateDead())
    assert [[constant.name for constant in graph.declared] for graph in after.graphs()] == [["w"], ["k"], ["k2"]]
    assert records[1].changes == 1
    assert_same_numbers(before, after, EITHER)


def test_same_result_whatever_the_order_of_hashes() -> None:
    constants = {f"w{i}": np.full(3, i % 4, np.float32) for i in range(12)}
    lines = " ".join(f"a{i + 1} = Add(a{i}, w{i})" for i in range(12))
    before = parse(f"g (float[3] a0) => (float[3] y) {{ {lines} y = Neg(a12) }}", constants)
    after, _ = transform(before, MergeDuplicates())
    assert [constant.name for constant in after.graph.declared] == ["w0", "w1", "w2", "w3"]
    assert_same_numbers(before, after)
