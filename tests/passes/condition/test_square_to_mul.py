"""Squares become products."""

import numpy as np

from qcompiler.passes.condition.square_to_mul import SquareToMul
from tests.graphs import assert_same_numbers, parse, transform


def test_a_square_is_a_product_under_the_same_names() -> None:
    before = parse("g (float[2,4] x) => (float[2,4] y) { y = Pow(x, two) }", {"two": np.float32(2)})
    after, records = transform(before, SquareToMul())
    assert records[0].changes == 1 and [node.op for node in after.nodes] == ["Mul"]
    assert after.nodes[0].name == before.nodes[0].name and not list(after.constants())
    assert_same_numbers(before, after)


def test_other_powers_stay() -> None:
    text = "g (float[2,4] x, float z) => (float[2,4] y) { c = Pow(x, three) v = Pow(c, z) y = Pow(v, several) }"
    before = parse(text, {"three": np.float32(3), "several": np.float32([2, 2, 2, 2])})
    assert transform(before, SquareToMul())[1][0].changes == 0
