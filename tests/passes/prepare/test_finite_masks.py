"""finite-masks: -infinity that only Softmax sees becomes a finite number."""

from __future__ import annotations

import numpy as np
import pytest

from qcompiler import ir
from qcompiler.passes.prepare import FiniteMasks
from tests.graphs import assert_same_numbers, ops, parse, transform

INF = float("inf")
MASK = np.triu(np.full((4, 4), -INF, np.float32), 1)
ADDED = "g (float[2, 4, 4] x) => (float[2, 4, 4] y) { s = Add(x, m) y = Softmax(s) }"
CHOSEN = "g (float[2, 4, 4] x) => (float[2, 4, 4] y) { s = Where(b, m, x) y = Softmax(s) }"
MADE = """<ir_version: 10, opset_import: ["" : 21]>
g (float[b, n, n] x) => (float[b, n, n] y) {
    shape = Shape(x)
    m = ConstantOfShape<value = float[1] {-inf}>(shape)
    u = Trilu<upper = 1>(m, one)
    s = Add(x, u)
    y = Softmax(s)
}"""


def constants(model: ir.Model) -> list[np.ndarray]:
    return [ir.array(constant) for constant in model.constants() if constant.dtype == np.float32]


@pytest.mark.parametrize("text", [ADDED, CHOSEN], ids=["added", "chosen"])
def test_same_numbers_without_infinity(text: str) -> None:
    before = parse(text, {"m": MASK} if text is ADDED else {"m": np.float32(-INF), "b": MASK < 0})
    after, records = transform(before, FiniteMasks())
    assert records[0].changes == 1
    assert all(np.isfinite(values).all() for values in constants(after))
    assert_same_numbers(before, after, rtol=0, atol=0)


def test_mask_of_a_size_found_at_run_time() -> None:
    text = MADE.replace("float[1] {-inf}", "float[1] {-1.0}")
    before = parse(text, {"one": np.array(1)})
    made = next(node for node in before.nodes if node.op == "ConstantOfShape")
    made.attrs["value"].values = np.array([-INF], np.float32)
    after, records = transform(before, FiniteMasks())
    assert records[0].changes == 1 and "ConstantOfShape" not in ops(after)
    assert all(np.isfinite(values).all() for values in constants(after))
    assert_same_numbers(before, after, rtol=0, atol=0)


@pytest.mark.parametrize(
    "text",
    [
        ADDED.replace("y = Softmax(s)", "y = Relu(s)"),
        ADDED.replace("=> (float[2, 4, 4] y)", "=> (float[2, 4, 4] y, float[2, 4, 4] s)"),
        ADDED.replace("y = Softmax(s)", "p = Softmax(s) n = IsNaN(p) y = Where(n, x, p)"),
    ],
    ids=["no softmax", "seen outside", "asked for NaN"],
)
def test_others_stay(text: str) -> None:
    _, records = transform(parse(text, {"m": MASK}), FiniteMasks())
    assert records[0].changes == 0


def test_other_uses_of_the_constant_keep_infinity() -> None:
    text = "g (float[2, 4, 4] x) => (float[2, 4, 4] y, float[2, 4, 4] z) { s = Add(x, m) y = Softmax(s) z = Add(x, m) }"
    before = parse(text, {"m": MASK})
    after, records = transform(before, FiniteMasks())
    assert records[0].changes == 1
    assert_same_numbers(before, after, rtol=0, atol=0)


def test_infinity_on_both_sides_stays() -> None:
    _, records = transform(parse(ADDED, {"m": np.where(MASK < 0, MASK, np.float32(INF))}), FiniteMasks())
    assert records[0].changes == 0


def test_two_masks_together_stay_finite() -> None:
    least = np.float32(np.finfo(np.float32).min)
    text = "g (float[2, 4, 4] x) => (float[2, 4, 4] y) { both = Add(m, n) s = Add(x, both) y = Softmax(s) }"
    padding = np.zeros((4, 4), np.float32)
    padding[:, 3] = least
    before = parse(text, {"m": np.where(MASK < 0, least, np.float32(0)), "n": padding})
    after, records = transform(before, FiniteMasks())
    assert records[0].changes == 2
    assert all(values.min() >= np.float32(-1e30) for values in constants(after))
    assert_same_numbers(before, after, rtol=0, atol=0)
    _, records = transform(after, FiniteMasks())
    assert records[0].changes == 0
