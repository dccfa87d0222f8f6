"""sum-to-add: Sum of two or more becomes a chain of Add."""

from __future__ import annotations

import numpy as np
import pytest

from qcompiler.passes.prepare import SumToAdd
from tests.graphs import assert_same_numbers, ops, parse, transform


@pytest.mark.parametrize("terms", ["x, z", "x, x", "x, z, w", "w, x, z, x, v"])
def test_rewrites(terms: str) -> None:
    constants = {"w": np.ones((3, 1), np.float32), "v": np.float32(2)}
    before = parse(
        f"g (float[2, 3, 4] x, float[4] z) => (float[2, 3, 4] y) {{ s = Sum({terms}) y = Relu(s) }}",
        {name: value for name, value in constants.items() if name in terms},
    )
    after, records = transform(before, SumToAdd())
    assert ops(after) == ["Add"] * terms.count(",") + ["Relu"]
    assert records[0].changes == 1
    assert_same_numbers(before, after, rtol=0, atol=0)


def test_keeps_an_output_and_its_name() -> None:
    before = parse("g (float[2] x, float[2] z) => (float[2] y) { y = Sum(x, z, x) }")
    after, _ = transform(before, SumToAdd())
    assert [tensor.name for tensor in after.outputs] == ["y"]
    assert_same_numbers(before, after, rtol=0, atol=0)


def test_leaves_a_sum_of_one_to_remove_identity() -> None:
    _, records = transform(parse("g (float[2] x) => (float[2] y) { y = Sum(x) }"), SumToAdd())
    assert records[0].changes == 0
