"""merge-axes: windows are cut out and put back with few axes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qcompiler.passes.fusion.merge_axes import MergeAxes
from tests.graphs import assert_same_numbers, ops, parse, refusals, transform

CUT = "a = Reshape(x, s) b = Transpose <perm = [0, 1, 3, 2, 4, 5]> (a) y = Reshape(b, t)"


def int64(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def test_windows_of_an_image() -> None:
    before = parse(
        f"g (float[2, 6, 4, 5] x) => (float[8, 6, 5] y) {{ {CUT} }}",
        {"s": int64(2, 2, 3, 2, 2, 5), "t": int64(8, 6, 5)},
    )
    after, records = transform(before, MergeAxes())
    assert ops(after) == ["Reshape", "Transpose", "Reshape"] and records[0].changes == 1
    assert after.nodes[1].attrs["perm"] == [0, 2, 1, 3] and list(after.nodes[1].outputs[0].shape) == [4, 2, 3, 10]
    assert_same_numbers(before, after)


@pytest.mark.parametrize("target", [int64(-1, 6, 5), int64(8, 6, 5)])
def test_images_of_an_unknown_batch(target: np.ndarray) -> None:
    before = parse(
        f"g (float[N, 6, 4, 5] x) => (float[M, 6, 5] y) {{ {CUT} }}", {"s": int64(-1, 2, 3, 2, 2, 5), "t": target}
    )
    after, _ = transform(before, MergeAxes())
    assert [len(node.outputs[0].shape) for node in after.nodes] == [4, 4, 3]
    assert_same_numbers(before, after)


@settings(max_examples=60, deadline=None)
@given(st.permutations(range(6)), st.lists(st.integers(1, 3), min_size=6, max_size=6))
def test_any_order_of_any_axes(perm: list[int], shape: list[int]) -> None:
    before = parse(
        f"g (float[{np.prod(shape)}] x) => (float[{np.prod(shape)}] y)"
        f"{{ a = Reshape(x, s) b = Transpose <perm = {perm}> (a) y = Reshape(b, t) }}",
        {"s": int64(*shape), "t": int64(-1)},
    )
    after, records = transform(before, MergeAxes())
    rank = len(after.nodes[1].outputs[0].shape)
    assert rank < len(shape) or "no axes" in refusals(records)[0]
    assert_same_numbers(before, after)


def test_a_target_that_copies_dimensions_is_written_out() -> None:
    before = parse(
        f"g (float[2, 6, 4, 5] x) => (float[2, 2, 2, 30] y) {{ {CUT} }}",
        {"s": int64(2, 2, 3, 2, 2, 5), "t": int64(0, 2, 0, -1)},
    )
    after, _ = transform(before, MergeAxes())
    assert len(after.nodes[1].outputs[0].shape) == 4
    assert_same_numbers(before, after)


@pytest.mark.parametrize(
    ("shape", "perm", "reasons"),
    [
        (int64(4, 3, 2, 2, 5), [0, 2, 1, 3, 4], []),
        (int64(0, 0, 2, 2, 5, 1), [0, 1, 3, 2, 4, 5], ["more than one dimension"]),
        (int64(2, 2, 3, 2, 2, 5), [5, 4, 3, 2, 1, 0], ["no axes"]),
    ],
)
def test_what_stays(shape: np.ndarray, perm: list[int], reasons: list[str]) -> None:
    before = parse(
        "g (float[N, M, 4, 5] x) => (float[P] y)"
        f"{{ a = Reshape(x, s) b = Transpose <perm = {perm}> (a) y = Reshape(b, t) }}",
        {"s": shape, "t": int64(-1)},
    )
    after, records = transform(before, MergeAxes())
    found = refusals(records)
    assert records[0].changes == 0 and len(found) == len(reasons)
    assert all(reason in text for reason, text in zip(reasons, found, strict=True))
    x = np.random.default_rng(0).normal(size=(2, 6, 4, 5)).astype(np.float32)
    assert_same_numbers(before, after, [{"x": x}])


def test_what_others_read_stays() -> None:
    before = parse(
        f"g (float[2, 6, 4, 5] x) => (float[8, 6, 5] y, float[2, 2, 2, 3, 2, 5] b) {{ {CUT} }}",
        {"s": int64(2, 2, 3, 2, 2, 5), "t": int64(8, 6, 5)},
    )
    after, records = transform(before, MergeAxes())
    assert "is a graph output" in refusals(records)[0]
    assert_same_numbers(before, after)
