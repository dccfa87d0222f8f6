"""fold-batchnorm: BatchNormalization disappears into Conv, ConvTranspose and Gemm."""

from __future__ import annotations

import numpy as np
import pytest

from qcompiler.passes.fusion.fold_batchnorm import FoldBatchnorm
from tests.graphs import assert_same_numbers, ops, parse, refusals, transform

RNG = np.random.default_rng(7)


def normal(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


def batchnorm(channels: int) -> dict[str, np.ndarray]:
    var = RNG.uniform(0.5, 2, channels).astype(np.float32)
    return {"g": normal(channels), "be": normal(channels), "m": normal(channels), "v": var}


@pytest.mark.parametrize(
    ("linear", "weight", "bias"),
    [
        ("Conv(x, w)", (6, 4, 3, 3), None),
        ("Conv(x, w, b)", (6, 4, 3, 3), 6),
        ("Conv <group = 2> (x, w, b)", (6, 2, 3, 3), 6),
        ("ConvTranspose(x, w, b)", (4, 6, 2, 2), 6),
        ("ConvTranspose <group = 2> (x, w)", (4, 3, 2, 2), None),
    ],
)
def test_folds(linear: str, weight: tuple[int, ...], bias: int | None) -> None:
    text = f"g (float[N, 4, 8, 8] x) => (float[N, 6, P, Q] y) {{ c = {linear} y = BatchNormalization(c, g, be, m, v) }}"
    constants = {"w": normal(*weight), **batchnorm(6)} | ({"b": normal(bias)} if bias else {})
    before = parse(text, constants)
    after, records = transform(before, FoldBatchnorm())
    assert ops(after) == [linear.split("(")[0].split()[0]]
    assert records[0].changes == 1
    assert_same_numbers(before, after)


@pytest.mark.parametrize("trans", [0, 1])
def test_folds_gemm(trans: int) -> None:
    text = f"""g (float[N, 4] x) => (float[N, 6] y) {{
        c = Gemm <transB = {trans}, alpha = 0.5, beta = 3.0> (x, w, b)
        y = BatchNormalization <epsilon = 0.1> (c, g, be, m, v) }}"""
    before = parse(text, {"w": normal(6, 4) if trans else normal(4, 6), "b": normal(6), **batchnorm(6)})
    after, _ = transform(before, FoldBatchnorm())
    assert ops(after) == ["Gemm"]
    assert_same_numbers(before, after)


def test_shared_weight_stays_for_its_other_user() -> None:
    text = """g (float[N, 4, 5, 5] x) => (float[N, 6, P, Q] y, float[N, 6, P, Q] z) {
        c = Conv(x, w) y = BatchNormalization(c, g, be, m, v) z = Conv(x, w) }"""
    before = parse(text, {"w": normal(6, 4, 1, 1), **batchnorm(6)})
    after, _ = transform(before, FoldBatchnorm())
    assert ops(after) == ["Conv", "Conv"]
    assert_same_numbers(before, after)


def test_refuses_a_conv_with_another_reader() -> None:
    text = """g (float[N, 4, 5, 5] x) => (float[N, 6, P, Q] y, float[N, 6, P, Q] z) {
        c = Conv(x, w) y = BatchNormalization(c, g, be, m, v) z = Relu(c) }"""
    after, records = transform(parse(text, {"w": normal(6, 4, 1, 1), **batchnorm(6)}), FoldBatchnorm())
    assert ops(after) == ["Conv", "BatchNormalization", "Relu"]
    assert refusals(records) == ["'c', output of Conv 'n0_Conv', is also used by 'n2_Relu'"]


def test_refuses_a_computed_weight() -> None:
    text = """g (float[N, 4, 5, 5] x, float[6, 4, 1, 1] w) => (float[N, 6, P, Q] y) {
        c = Conv(x, w) y = BatchNormalization(c, g, be, m, v) }"""
    after, records = transform(parse(text, batchnorm(6)), FoldBatchnorm())
    assert ops(after) == ["Conv", "BatchNormalization"]
    assert refusals(records) == ["weight 'w' of Conv 'n0_Conv' is not constant"]


def test_refuses_training_mode() -> None:
    text = """g (float[N, 4, 5, 5] x) => (float[N, 6, P, Q] y) {
        c = Conv(x, w) y, mo, vo = BatchNormalization <training_mode = 1> (c, g, be, m, v) }"""
    after, records = transform(parse(text, {"w": normal(6, 4, 1, 1), **batchnorm(6)}), FoldBatchnorm())
    assert "BatchNormalization" in ops(after)
    assert refusals(records) == ["BatchNormalization 'n1_BatchNormalization' is in training mode"]
