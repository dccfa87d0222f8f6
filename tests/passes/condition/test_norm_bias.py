"""Norms get a bias of zeros."""

import numpy as np

from qcompiler.passes.condition.norm_bias import NormBias
from tests.graphs import assert_same_numbers, parse, transform


def test_a_norm_without_bias_gets_one() -> None:
    before = parse(
        "g (float[2,4] x) => (float[2,4] y) { y = LayerNormalization(x, s) }", {"s": np.float32([1, 2, 3, 4])}
    )
    after, records = transform(before, NormBias())
    assert records[0].changes == 1 and len(after.nodes[0].inputs) == 3
    assert_same_numbers(before, after)


def test_a_norm_with_bias_stays() -> None:
    constants = {"s": np.ones(4, np.float32), "b": np.ones(4, np.float32)}
    before = parse("g (float[2,4] x) => (float[2,4] y) { y = LayerNormalization(x, s, b) }", constants)
    assert transform(before, NormBias())[1][0].changes == 0


def test_a_computed_scale_is_left_alone() -> None:
    before = parse("g (float[2,4] x, float[4] s) => (float[2,4] y) { y = LayerNormalization(x, s) }")
    assert transform(before, NormBias())[1][0].changes == 0
