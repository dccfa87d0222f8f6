"""Which layers multiply with a table: by values, whichever way round."""

from __future__ import annotations

import numpy as np
import pytest

from qcompiler.passes.fusion.ties import tied
from tests.graphs import parse

RNG = np.random.default_rng(5)
TABLE = RNG.standard_normal((8, 8)).astype(np.float32)
OTHER = np.where(np.arange(64).reshape(8, 8) == 63, 9, TABLE).astype(np.float32)
"""The table but for its last number."""


def found(body: str, **weights: np.ndarray) -> dict[str, str]:
    model = parse(f"g (int64[n] ids, float[n, 8] x) => (float[n, 8] y) {{ e = Gather(t, ids) {body} }}", weights)
    return {model.find(name).outputs[0].name: table for name, table in tied(model).items()}


@pytest.mark.parametrize("transposed", [False, True])
def test_a_product_with_the_table_turned(transposed: bool) -> None:
    weight = np.ascontiguousarray(TABLE.T) if transposed else TABLE
    assert found("y = MatMul(x, w)", t=TABLE, w=weight) == ({"y": "t"} if transposed else {})
    assert found("y = Gemm(x, w)", t=TABLE, w=weight) == ({"y": "t"} if transposed else {})
    assert found("y = Gemm <transB = 1> (x, w)", t=TABLE, w=weight) == ({} if transposed else {"y": "t"})


def test_the_same_constant_read_twice() -> None:
    assert found("y = Gemm <transB = 1> (x, t)", t=TABLE) == {"y": "t"}
    assert found("y = MatMul(x, t)", t=TABLE) == {}


def test_one_number_makes_the_difference() -> None:
    assert found("y = MatMul(x, w)", t=TABLE, w=np.ascontiguousarray(OTHER.T)) == {}
    assert found("y = MatMul(x, w)", t=TABLE, w=np.ascontiguousarray(TABLE.T).astype(np.float64)) == {}


def test_columns_of_a_matrix_are_no_table() -> None:
    text = "g (int64[n] ids, float[n, 8] x) => (float[n, 8] y) { e = Gather <axis = 1> (t, ids) y = MatMul(x, w) }"
    assert not tied(parse(text, {"t": TABLE, "w": np.ascontiguousarray(TABLE.T)}))
