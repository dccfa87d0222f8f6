"""static-products: what ONNX Runtime's `quantize_dynamic` writes becomes products of values; the weights keep codes."""

from __future__ import annotations

import numpy as np
import pytest

from qcompiler import ir
from qcompiler.passes.prepare import EliminateDead
from qcompiler.passes.prepare.static_products import StaticProducts
from tests.graphs import run, transform
from tests.small import graph

rng = np.random.default_rng(5)
CONSTANTS = {
    "m": rng.integers(0, 256, (16, 10)).astype(np.uint8), "mz": np.uint8(130), "ms": np.float32(0.01),
    "mzs": rng.integers(120, 136, 10).astype(np.uint8), "mss": rng.uniform(0.005, 0.015, 10).astype(np.float32),
    "w": rng.integers(0, 256, (8, 4, 3, 3)).astype(np.uint8), "c": rng.normal(size=10).astype(np.float32),
}  # fmt: skip
FRONT = "q, s, z = DynamicQuantizeLinear(x)"


def rewritten(body: str, x: str = "float[5, 16] x", y: str = "float[N, M] y") -> tuple[ir.Model, ir.Model, list[str]]:
    before = graph(f"{FRONT} {body}", x, y, CONSTANTS)
    after, records = transform(before, StaticProducts(), EliminateDead())
    return before, after, [refusal.reason for refusal in records[0].refusals]


@pytest.mark.parametrize(
    "body",
    [
        "i = MatMulInteger(q, m, z, mz) f = Cast<to = 1>(i) k = Mul(s, ms) p = Mul(f, k) y = Add(p, c)",
        "i = MatMulInteger(q, m, z, mzs) f = Cast<to = 1>(i) k = Mul(mss, s) p = Mul(k, f) y = Add(p, c)",
        "i = MatMulInteger(q, m, z, mzs) f = Cast<to = 1>(i) k = Mul(ms, s) y = Mul(k, f)",
    ],
)
def test_products_of_matrices(body: str) -> None:
    before, after, refused = rewritten(body)
    assert refused == [] and [n.op for n in after.nodes][:2] == ["DequantizeLinear", "MatMul"]
    feed = {"x": rng.normal(size=(5, 16)).astype(np.float32)}
    new, old = run(after, feed)[0], run(before, feed)[0]
    # x was rounded to steps of its range / 255, by half a step at most; the weights were not touched
    values = np.abs((CONSTANTS["m"].astype(np.float32) - 128) * 0.016).sum(0).max()
    assert np.abs(new - old).max() <= 0.5 * (np.ptp(feed["x"]) / 255) * values
    assert np.abs(new - old).max() > 0


def test_products_of_images() -> None:
    before, after, refused = rewritten(
        "i = ConvInteger<pads = [1, 1, 1, 1]>(q, w, z, mz) f = Cast<to = 1>(i) k = Mul(s, ms) y = Mul(f, k)",
        "float[1, 4, 9, 9] x", "float[N, M, P, Q] y",
    )  # fmt: skip
    assert refused == [] and [n.op for n in after.nodes] == ["DequantizeLinear", "Conv"]
    feed = {"x": rng.normal(size=(1, 4, 9, 9)).astype(np.float32)}
    new, old = run(after, feed)[0], run(before, feed)[0]
    assert np.square(new - old).sum() < 1e-4 * np.square(old).sum()


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("i = MatMulInteger(q, m, z, mz) f = Cast<to = 1>(i) y = Mul(f, ms)", "no constant times that of its operand"),
        ("i = MatMulInteger(q, m) f = Cast<to = 1>(i) k = Mul(s, ms) y = Mul(f, k)", "are not those of one"),
    ],
)
def test_other_products_stay(body: str, words: str) -> None:
    before, after, refused = rewritten(body)
    assert len(refused) == 1 and words in refused[0]
    assert [n.op for n in before.nodes] == [n.op for n in after.nodes]
