from __future__ import annotations

import numpy as np
import pytest

from qcompiler.analysis.macs import count_macs
from tests.graphs import parse

CASES = {
    "conv": (
        "agraph (float[1, 4, 8, 8] x, float[6, 2, 3, 3] w) => (float[a,b,c,d] y)"
        " { y = Conv<group = 2, pads = [1,1,1,1]>(x, w) }",
        6 * 64 * 18,
    ),
    "conv_transpose": (
        "agraph (float[1, 4, 8, 8] x, float[4, 3, 2, 2] w) => (float[a,b,c,d] y)"
        " { y = ConvTranspose<strides = [2,2]>(x, w) }",
        4 * 64 * 3 * 4,
    ),
    "gemm": ("agraph (float[5, 7] x, float[9, 7] w) => (float[a,b] y) { y = Gemm<transB = 1>(x, w) }", 5 * 7 * 9),
    "gemm_trans_a": (
        "agraph (float[7, 5] x, float[7, 9] w) => (float[a,b] y) { y = Gemm<transA = 1>(x, w) }",
        5 * 7 * 9,
    ),
    "matmul": ("agraph (float[2, 3, 5, 7] x, float[7, 9] w) => (float[a,b,c,d] y) { y = MatMul(x, w) }", 6 * 5 * 7 * 9),
    "lstm": (
        "agraph (float[10, 2, 3] x, float[1, 16, 3] w, float[1, 16, 4] r) => (float[a,b,c,d] y)"
        " { y = LSTM<hidden_size = 4>(x, w, r) }",
        10 * 2 * (16 * 3 + 16 * 4),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_counts(name: str) -> None:
    text, expected = CASES[name]
    found = count_macs(parse(text))
    assert found.total == expected
    assert not found.assumed and not found.unknown


def test_open_dimensions_count_as_one_and_are_named() -> None:
    found = count_macs(
        parse(
            "agraph (float[batch, T, 7] x) => (float[batch, T, c] y) { y = MatMul(x, w) }",
            {"w": np.zeros((7, 9), np.float32)},
        )
    )
    assert found.total == 7 * 9
    assert found.assumed == {"batch", "T"}


def test_unknown_shapes_are_said() -> None:
    model = parse("agraph (float[2, 7] x, float[7, 3] w) => (float[a, b] y) { y = MatMul(x, w) }")
    model.nodes[0].inputs[1].shape = None
    found = count_macs(model)
    assert found.unknown == [model.nodes[0].name] and found.total == 0
