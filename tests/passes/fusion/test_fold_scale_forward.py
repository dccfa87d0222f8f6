"""fold-scale-forward: Mul and Div by constants disappear into the linear operator behind them."""

from __future__ import annotations

import numpy as np
import pytest

from qcompiler import ir
from qcompiler.passes.fusion.fold_scale_forward import FoldScaleForward
from tests.graphs import assert_same_numbers, ops, parse, refusals, transform

RNG = np.random.default_rng(13)


def normal(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


def factor(*shape: int) -> np.ndarray:
    return (RNG.uniform(0.5, 3, shape) * RNG.choice([-1, 1], shape)).astype(np.float32)


X4, Y4 = "float[N, 4, 8, 8] x", "float[N, 6, P, Q] y"
CASES = {
    "conv padded": ("Conv <pads = [1, 1, 1, 1]> (t, w, b)", (6, 4, 3, 3), X4, Y4, (4, 1, 1)),
    "conv grouped": ('Conv <group = 2, auto_pad = "SAME_UPPER"> (t, w)', (6, 2, 3, 3), X4, Y4, (4, 1, 1)),
    "depthwise": ("Conv <group = 4> (t, w)", (4, 1, 3, 3), X4, "float[N, 4, P, Q] y", (1, 4, 1, 1)),
    "conv 1-D": ("Conv(t, w, b)", (6, 4, 3), "float[N, 4, 8] x", "float[N, 6, P] y", (4, 1)),
    "conv 3-D": ("Conv(t, w, b)", (6, 4, 2, 2, 2), "float[N, 4, 3, 3, 3] x", "float[N, 6, P, Q, R] y", (4, 1, 1, 1)),
    "transposed": ("ConvTranspose <group = 2, pads = [1, 0, 0, 1]> (t, w, b)", (4, 3, 3, 3), X4, Y4, (4, 1, 1)),
    "gemm": ("Gemm <alpha = 0.5, beta = 2.0> (t, w, b)", (4, 6), "float[N, 4] x", "float[N, 6] y", (4,)),
    "gemm row": ("Gemm <transB = 1> (t, w, b)", (6, 4), "float[N, 4] x", "float[N, 6] y", (1, 4)),
    "gemm column": ("Gemm <transA = 1> (t, w, b)", (4, 6), "float[4, N] x", "float[N, 6] y", (4, 1)),
    "matmul": ("MatMul(t, w)", (4, 6), "float[N, 3, 4] x", "float[N, 3, 6] y", (4,)),
    "matmul stacked": ("MatMul(t, w)", (3, 4, 6), "float[2, 3, 5, 4] x", "float[2, 3, 5, 6] y", (1, 1, 4)),
}  # fmt: skip


def model(kind: str, before: str, scale: np.ndarray) -> ir.Model:
    op, shape, x, y, _ = CASES[kind]
    constants = {"w": normal(*shape), "s": scale, **({"b": normal(6)} if "b)" in op else {})}
    return parse(f"g ({x}) => ({y}) {{ {before} y = {op} }}", constants)


@pytest.mark.parametrize("before", ["t = Mul(x, s)", "t = Mul(s, x)", "t = Div(x, s)"])
@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("kind", CASES)
def test_folds(kind: str, per_channel: bool, before: str) -> None:
    first = model(kind, before, factor(*CASES[kind][4]) if per_channel else factor())
    result, records = transform(first, FoldScaleForward())
    assert len(result.nodes) == 1 and records[0].changes == 1
    assert_same_numbers(first, result)


@pytest.mark.parametrize(
    ("kind", "shape", "reason"),
    [
        ("conv padded", (8, 8), "constant 's' of shape [8, 8] varies over more than channels"),
        ("conv padded", (4, 8, 1), "constant 's' of shape [4, 8, 1] varies over more than channels"),
        ("gemm", (4, 4), "constant 's' of shape [4, 4] varies over more than channels"),
        ("gemm column", (4,), "constant 's' of shape [4] varies over more than channels"),
        ("matmul", (3, 1), "constant 's' of shape [3, 1] varies over more than channels"),
    ],
)
def test_refuses_what_is_not_per_channel(kind: str, shape: tuple[int, ...], reason: str) -> None:
    text = {"N": "4"} if "gemm" in kind else {}
    op, weight, x, y, _ = CASES[kind]
    for name, value in text.items():
        x, y = x.replace(name, value), y.replace(name, value)
    constants = {"w": normal(*weight), "s": factor(*shape), **({"b": normal(6)} if "b)" in op else {})}
    result, records = transform(parse(f"g ({x}) => ({y}) {{ t = Mul(x, s) y = {op} }}", constants), FoldScaleForward())
    assert ops(result)[0] == "Mul"
    assert refusals(records) == [reason]


@pytest.mark.parametrize(
    ("x", "shape", "reason"),
    [
        ("float[N, 1, 8, 8] x", (4, 1, 1), "constant 's' of shape [4, 1, 1] may enlarge 'x', of shape ['N', 1, 8, 8]"),
        ("float[4, 8, 8] x", (1, 4, 1, 1), "constant 's' of shape [1, 4, 1, 1] may enlarge 'x', of shape [4, 8, 8]"),
        ("float[4, 8, 8] x", (1, 1, 1, 1), "constant 's' of shape [1, 1, 1, 1] may enlarge 'x', of shape [4, 8, 8]"),
        (
            "float[N, C, 8, 8] x",
            (4, 1, 1),
            "constant 's' of shape [4, 1, 1] may enlarge 'x', of shape ['N', 'C', 8, 8]",
        ),
    ],
)
def test_refuses_a_product_larger_than_the_input(x: str, shape: tuple[int, ...], reason: str) -> None:
    text = f"g ({x}) => (float[N, 6, P, Q] y) {{ t = Mul(x, s) y = Conv(t, w) }}"
    _, records = transform(parse(text, {"w": normal(6, 4, 1, 1), "s": factor(*shape)}), FoldScaleForward())
    assert refusals(records) == [reason]


def test_a_scalar_needs_no_shape() -> None:
    text = """g (float[N] z, int64[R] r) => (float[P, Q] y) {
        x = Reshape(z, r) t = Mul(x, s) c = Conv(t, w) y = Flatten(c) }"""
    first = parse(text, {"w": normal(6, 4, 1, 1), "s": factor()})
    for node in first.nodes[:3]:
        node.outputs[0].shape = None
    result, _ = transform(first, FoldScaleForward())
    assert ops(result) == ["Reshape", "Conv", "Flatten"]
    assert_same_numbers(first, result, [{"z": normal(32), "r": np.int64([1, 4, 2, 4])}])


def test_refuses_a_product_that_others_read() -> None:
    text = "g (float[N, 4] x) => (float[N, 6] y, float[N, 4] z) { t = Mul(x, s) y = Gemm(t, w) z = Relu(t) }"
    _, records = transform(parse(text, {"w": normal(4, 6), "s": factor()}), FoldScaleForward())
    assert refusals(records) == ["'t', output of Mul 'n0_Mul', is also used by 'n2_Relu'"]


def test_refuses_a_constant_divided_by_the_input() -> None:
    _, records = transform(model("gemm", "t = Div(s, x)", factor()), FoldScaleForward())
    assert refusals(records) == ["Div of a constant by a tensor is not linear"]


def test_refuses_factors_that_differ_too_much_for_one_weight_scale() -> None:
    scale = np.float32([1, 20, 1, 1])
    _, records = transform(model("gemm", "t = Mul(x, s)", scale), FoldScaleForward())
    assert refusals(records) == ["factors in 's' differ by more than 16 between channels"]
    result, _ = transform(model("gemm", "t = Mul(x, s)", scale), FoldScaleForward(spread=20))
    assert ops(result) == ["Gemm"]
    _, records = transform(model("gemm", "t = Mul(x, s)", np.float32([1, 0, 1, 1])), FoldScaleForward())
    assert refusals(records) == ["factors in 's' differ by more than 16 between channels"]


def test_a_large_shared_weight_is_not_copied() -> None:
    text = "g (float[N, 4] x) => (float[N, 6] y, float[N, 6] z) { t = Mul(x, s) y = MatMul(t, w) z = MatMul(x, w) }"
    first = parse(text, {"w": normal(4, 6), "s": factor()})
    result, _ = transform(first, FoldScaleForward())
    assert ops(result) == ["MatMul", "MatMul"]
    assert_same_numbers(first, result)
    _, records = transform(first, FoldScaleForward(copy_limit=95))
    assert refusals(records) == ["weight 'w' has 2 users, and a copy takes 96 bytes"]


@pytest.mark.parametrize(("op", "turned"), [("MatMul(t, w)", True), ("Gemm <transB = 1> (t, w)", False)])
def test_a_table_is_left_as_it_is(op: str, turned: bool) -> None:
    """Scaled, the output layer of a model with tied weights would no longer be the table."""
    table = normal(6, 4)
    constants = {"table": table, "w": np.ascontiguousarray(table.T) if turned else table, "s": factor(4)}
    text = "g (int64[N] i, float[N, 4] x) => (float[N, 6] y) { e = Gather(table, i) a = Add(e, x) t = Mul(a, s) "
    text += f"y = {op} }}"
    result, records = transform(parse(text, constants), FoldScaleForward())
    assert ops(result) == ["Gather", "Add", "Mul", op.split("(")[0].split()[0]]
    assert refusals(records) == ["weight 'w' is the table 'table', too, and would be stored a second time"]
