"""merge-transposes, transpose-to-reshape, merge-reshapes."""

from __future__ import annotations

import numpy as np
import pytest

from qcompiler.passes.fusion import LAYOUT_RULES
from qcompiler.passes.fusion.merge_reshapes import MergeReshapes
from qcompiler.passes.fusion.merge_transposes import MergeTransposes
from qcompiler.passes.fusion.transpose_to_reshape import TransposeToReshape
from tests.graphs import assert_same_numbers, feed_for, ops, parse, refusals, transform


def graph(body: str, x: str = "float[N, 3, 4, 5]", rank: int = 4, **shapes: list[int]):
    out = ", ".join("ABCDEF"[:rank])
    constants = {name: np.array(value, np.int64) for name, value in shapes.items()}
    return parse(f"g ({x} x) => (float[{out}] y) {{ {body} }}", constants)


@pytest.mark.parametrize(
    ("body", "wanted"),
    [
        ("t = Transpose <perm = [0, 2, 3, 1]> (x) y = Transpose <perm = [0, 2, 3, 1]> (t)", ["Transpose"]),
        ("t = Transpose <perm = [1, 2, 3, 0]> (x) y = Transpose <perm = [2, 0, 3, 1]> (t)", ["Transpose"]),
        ("t = Transpose (x) y = Transpose <perm = [2, 0, 3, 1]> (t)", ["Transpose"]),
        ("t = Transpose <perm = [0, 2, 3, 1]> (x) u = Transpose <perm = [0, 3, 1, 2]> (t) y = Exp(u)", ["Exp"]),
        ("t = Transpose (x) u = Transpose (t) y = Exp(u)", ["Exp"]),
        # the model's interface keeps the output apart from the input
        ("t = Transpose (x) y = Transpose (t)", ["Identity"]),
    ],
)
def test_merges_transposes(body: str, wanted: list[str]) -> None:
    before = graph(body)
    after, _ = transform(before, MergeTransposes())
    assert ops(after) == wanted
    assert_same_numbers(before, after, rtol=0, atol=0)


def test_a_pair_cancels_although_the_first_has_other_users() -> None:
    text = "g (float[N, 3, 4] x) => (float[N, 3, 4] y, float[A, B, C] z) {"
    text += " t = Transpose (x) u = Transpose (t) y = Exp(u) z = Exp(t) }"
    before = parse(text)
    after, _ = transform(before, MergeTransposes())
    assert ops(after) == ["Transpose", "Exp", "Exp"]
    assert_same_numbers(before, after)


def test_refuses_a_shared_transpose_that_would_only_be_doubled() -> None:
    text = "g (float[N, 3, 4] x) => (float[A, B, C] y, float[D, E, F] z) {"
    text += " t = Transpose <perm = [1, 2, 0]> (x) y = Transpose <perm = [1, 2, 0]> (t) z = Exp(t) }"
    after, records = transform(parse(text), MergeTransposes())
    assert ops(after) == ["Transpose", "Transpose", "Exp"]
    assert refusals(records) == ["Transpose 'n0_Transpose' has other users and stays"]


@pytest.mark.parametrize(
    ("x", "perm", "wanted"),
    [
        ("float[N, 1, 4, 5]", [0, 2, 3, 1], ["Reshape"]),
        ("float[N, 6, 1, 1]", [0, 2, 3, 1], ["Reshape"]),
        ("float[1, 6, 4, 1]", [3, 1, 2, 0], ["Reshape"]),
        ("float[N, 3, 4, 5]", [0, 1, 2, 3], []),
        ("float[N, 3, 4, 5]", [0, 2, 3, 1], ["Transpose"]),
        ("float[N, 1, 4, 5]", [1, 2, 0, 3], ["Transpose"]),
    ],
)
def test_transpose_to_reshape(x: str, perm: list[int], wanted: list[str]) -> None:
    before = graph(f"t = Transpose <perm = {perm}> (x) y = Exp(t)", x)
    after, records = transform(before, TransposeToReshape())
    assert ops(after) == [*wanted, "Exp"] and refusals(records) == []
    assert_same_numbers(before, after, rtol=0, atol=0)


def test_transpose_to_reshape_refuses_two_unknown_dimensions() -> None:
    before = graph("y = Transpose <perm = [0, 2, 3, 1]> (x)", "float[N, 1, H, 5]")
    after, records = transform(before, TransposeToReshape())
    assert ops(after) == ["Transpose"]
    assert refusals(records) == ["more than one dimension of 'x' is unknown"]


@pytest.mark.parametrize(
    ("body", "shapes", "rank", "wanted"),
    [
        ("t = Reshape(x, s) y = Reshape(t, u)", {"s": [-1, 12, 5], "u": [-1, 60]}, 2, ["Reshape"]),
        ("t = Reshape(x, s) y = Flatten(t)", {"s": [0, 0, -1]}, 2, ["Reshape"]),
        ("t = Unsqueeze(x, s) y = Reshape(t, u)", {"s": [1], "u": [-1, 20]}, 2, ["Reshape"]),
        ("t = Flatten(x) y = Unsqueeze(t, s)", {"s": [1]}, 3, ["Reshape"]),
        ("t = Unsqueeze(x, s) y = Unsqueeze(t, u)", {"s": [0, 5], "u": [3, -1]}, 8, ["Unsqueeze"]),
        ("t = Unsqueeze(x, s) u2 = Squeeze(t, u) y = Exp(u2)", {"s": [2], "u": [2]}, 4, ["Exp"]),
        ("t = Unsqueeze(x, s) y = Squeeze(t, u)", {"s": [1, 3], "u": [3]}, 5, ["Unsqueeze"]),
        ("t = Reshape(x, s) u2 = Reshape(t, u) y = Exp(u2)", {"s": [-1, 60], "u": [-1, 3, 4, 5]}, 4, ["Exp"]),
    ],
)
def test_merges_reshapes(body: str, shapes: dict[str, list[int]], rank: int, wanted: list[str]) -> None:
    out = ", ".join(f"D{i}" for i in range(rank))
    constants = {name: np.array(value, np.int64) for name, value in shapes.items()}
    before = parse(f"g (float[N, 3, 4, 5] x) => (float[{out}] y) {{ {body} }}", constants)
    after, records = transform(before, MergeReshapes())
    assert ops(after) == wanted and refusals(records) == []
    assert_same_numbers(before, after, rtol=0, atol=0)


def test_chains_with_unknown_dimensions() -> None:
    body = "t = Unsqueeze(x, a) u = Unsqueeze(t, b) v = Squeeze(u, c) y = Exp(v)"
    text = f"g (float[N, T] x) => (float[A, B, C] y) {{ {body} }}"
    before = parse(text, {"a": np.array([1], np.int64), "b": np.array([2], np.int64), "c": np.array([1], np.int64)})
    after, records = transform(before, MergeReshapes())
    assert ops(after) == ["Unsqueeze", "Exp"] and refusals(records) == []
    assert_same_numbers(before, after, [feed_for(before, dims={"N": 3, "T": 4})], rtol=0, atol=0)


def test_a_shape_that_keeps_dimensions_is_refused_where_they_are_unknown() -> None:
    text = "g (float[N, T, 4] x) => (float[A, B, C] y) { t = Reshape(x, s) y = Reshape(t, u) }"
    before = parse(text, {"s": np.array([0, 0, 2, 2], np.int64), "u": np.array([0, 0, 4], np.int64)})
    after, records = transform(before, MergeReshapes())
    assert ops(after) == ["Reshape", "Reshape"]
    assert refusals(records) == ["the shape of 'y' is not known well enough"]


def test_refuses_a_first_reshape_with_other_users() -> None:
    text = "g (float[N, 4] x) => (float[A, B] y, float[A, B, C] z) { t = Reshape(x, s) y = Flatten(t) z = Exp(t) }"
    after, records = transform(parse(text, {"s": np.array([-1, 2, 4], np.int64)}), MergeReshapes())
    assert ops(after) == ["Reshape", "Flatten", "Exp"]
    assert refusals(records) == ["Reshape 'n0_Reshape' has other users and stays"]


def test_a_head_of_a_detector() -> None:
    """Transpose of one channel, then Reshape: nothing but one Reshape is left."""
    before = graph("t = Transpose <perm = [0, 2, 3, 1]> (x) y = Reshape(t, s)", "float[1, 1, 4, 5]", 3, s=[1, -1, 1])
    after, _ = transform(before, *LAYOUT_RULES)
    assert ops(after) == ["Reshape"]
    assert_same_numbers(before, after, rtol=0, atol=0)
