"""fold-scale: Mul and Div by constants disappear into the linear operator before them."""

from __future__ import annotations

import numpy as np
import pytest

from qcompiler.passes.fusion.fold_scale import FoldScale
from tests.graphs import assert_same_numbers, ops, parse, refusals, transform

RNG = np.random.default_rng(3)


def normal(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


def factor(*shape: int) -> np.ndarray:
    return RNG.uniform(0.5, 3, shape).astype(np.float32)


CONV_ENDS = "float[N, 4, 8, 8] x", "float[N, 6, P, Q] y"
LINEAR = {
    "conv": ("Conv(x, w, b)", (6, 4, 3, 3), *CONV_ENDS),
    "conv grouped": ("Conv <group = 2, pads = [1, 1, 1, 1]> (x, w)", (6, 2, 3, 3), *CONV_ENDS),
    "conv 1-D": ("Conv(x, w, b)", (6, 4, 3), "float[N, 4, 8] x", "float[N, 6, P] y"),
    "conv 3-D": ("Conv(x, w, b)", (6, 4, 2, 2, 2), "float[N, 4, 4, 4, 4] x", "float[N, 6, P, Q, R] y"),
    "transposed": (
        "ConvTranspose <group = 2, strides = [2, 2], output_padding = [1, 1]> (x, w, b)",
        *((4, 3, 3, 3), "float[N, 4, 5, 5] x", "float[N, 6, P, Q] y"),
    ),
    "gemm": ("Gemm <alpha = 0.5, beta = 2.0> (x, w, b)", (4, 6), "float[N, 4] x", "float[N, 6] y"),
    "gemm transposed": ("Gemm <transB = 1> (x, w)", (6, 4), "float[N, 4] x", "float[N, 6] y"),
    "matmul": ("MatMul(x, w)", (4, 6), "float[N, 3, 4] x", "float[N, 3, 6] y"),
    "matmul stacked": ("MatMul(x, w)", (3, 4, 6), "float[2, 3, 5, 4] x", "float[2, 3, 5, 6] y"),
    "matmul vector": ("MatMul(x, w)", (4, 6), "float[4] x", "float[6] y"),
}


def model_text(kind: str, after: str) -> str:
    op, _, x, y = LINEAR[kind]
    return f"g ({x}) => ({y}) {{ c = {op} {after} }}"


def constants(kind: str, **more: np.ndarray) -> dict[str, np.ndarray]:
    op, shape, *_ = LINEAR[kind]
    return {"w": normal(*shape), **({"b": normal(6)} if "b)" in op else {}), **more}


@pytest.mark.parametrize("after", ["y = Mul(c, s)", "y = Mul(s, c)", "y = Div(c, s)"])
@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("kind", LINEAR)
def test_folds(kind: str, per_channel: bool, after: str) -> None:
    spatial = len(LINEAR[kind][1]) - 2 if "Conv" in LINEAR[kind][0] else 0
    scale = factor(6, *[1] * spatial) if per_channel else factor()
    before = parse(model_text(kind, after), constants(kind, s=scale))
    result, records = transform(before, FoldScale())
    assert ops(result) == [LINEAR[kind][0].split("(")[0].split()[0]]
    assert records[0].changes == 1
    assert_same_numbers(before, result, rtol=1e-3)


@pytest.mark.parametrize("shape", [(1,), (1, 1), (1, 6, 1, 1), (1, 1, 1, 1), (6, 1, 1)])
def test_folds_every_shape_that_is_per_channel(shape: tuple[int, ...]) -> None:
    before = parse(model_text("conv", "y = Mul(c, s)"), constants("conv", s=factor(*shape)))
    result, _ = transform(before, FoldScale())
    assert ops(result) == ["Conv"]
    assert_same_numbers(before, result)


def test_gemm_takes_rows() -> None:
    before = parse(model_text("gemm", "y = Mul(c, s)"), constants("gemm", s=factor(1, 6)))
    result, _ = transform(before, FoldScale())
    assert ops(result) == ["Gemm"]
    assert_same_numbers(before, result)


def test_no_bias_is_made_where_there_was_none() -> None:
    result, _ = transform(
        parse(model_text("conv grouped", "y = Mul(c, s)"), constants("conv grouped", s=factor())), FoldScale()
    )
    assert len(result.nodes[0].inputs) == 2
    assert [c.name for c in result.constants()] == ["w_scaled"]


@pytest.mark.parametrize(
    ("kind", "shape", "reason"),
    [
        ("conv", (6,), "constant 's' of shape [6] varies over more than channels"),
        ("conv", (1, 6), "constant 's' of shape [1, 6] varies over more than channels"),
        ("conv", (6, 6, 1), "constant 's' of shape [6, 6, 1] varies over more than channels"),
        ("conv", (2, 1, 1, 1), "constant 's' of shape [2, 1, 1, 1] varies over more than channels"),
        ("conv", (1, 1, 6, 1, 1), "constant 's' of shape [1, 1, 6, 1, 1] may enlarge a tensor of rank 4"),
        ("gemm", (6, 1), "constant 's' of shape [6, 1] varies over more than channels"),
        ("gemm", (1, 1, 6), "constant 's' of shape [1, 1, 6] may enlarge a tensor of rank 2"),
        ("matmul", (3, 1), "constant 's' of shape [3, 1] varies over more than channels"),
        ("matmul vector", (1, 6), "constant 's' of shape [1, 6] may enlarge a tensor of rank 1"),
    ],
)
def test_refuses_what_is_not_per_channel(kind: str, shape: tuple[int, ...], reason: str) -> None:
    # the product may have another shape than what the linear operator gives
    rank = max(len(shape), LINEAR[kind][3].count(",") + 1)
    declared = f"float[{', '.join('ABCDE'[:rank])}] y"
    text = model_text(kind, "y = Mul(c, s)").replace(LINEAR[kind][3], declared)
    model = parse(text, constants(kind, s=factor(*shape)))
    result, records = transform(model, FoldScale())
    assert ops(result)[-1] == "Mul"
    assert refusals(records) == [reason]


def test_refuses_a_constant_that_enlarges_a_single_channel() -> None:
    text = "g (float[N, 4, 8, 8] x) => (float[N, 6, P, Q] y) { c = Conv(x, w) y = Mul(c, s) }"
    model = parse(text, {"w": normal(1, 4, 1, 1), "s": factor(6, 1, 1)})
    _, records = transform(model, FoldScale())
    assert refusals(records) == ["constant 's' of shape [6, 1, 1] does not fit 1 channels on axis -3"]


def test_refuses_division_of_a_constant() -> None:
    model = parse(model_text("conv", "y = Div(s, c)"), constants("conv", s=factor()))
    result, records = transform(model, FoldScale())
    assert ops(result) == ["Conv", "Div"]
    assert refusals(records) == ["Div of a constant by a tensor is not linear"]


def test_refuses_division_by_zero_and_overflow() -> None:
    scale = factor(6, 1, 1)
    scale[4] = 0
    _, records = transform(parse(model_text("conv", "y = Div(c, s)"), constants("conv", s=scale)), FoldScale())
    assert refusals(records) == ["scale for Conv 'n0_Conv' is not finite in channel 4"]
    half = {"w": np.full((6, 4, 1, 1), 100, np.float16), "s": np.float16(1000)}
    text = model_text("conv", "y = Mul(c, s)").replace("float", "float16").replace("(x, w, b)", "(x, w)")
    _, records = transform(parse(text, half), FoldScale())
    assert refusals(records) == ["weight 'w' of Conv 'n0_Conv' overflows float16 in channel 0"]


def test_refuses_a_computed_factor_silently_and_a_computed_weight_with_a_reason() -> None:
    text = "g (float[N, 4] x, float[6] s) => (float[N, 6] y) { c = Gemm(x, w) y = Mul(c, s) }"
    _, records = transform(parse(text, {"w": normal(4, 6)}), FoldScale())
    assert refusals(records) == []
    text = "g (float[N, 4] x, float[4, 6] w) => (float[N, 6] y) { c = MatMul(x, w) y = Mul(c, s) }"
    _, records = transform(parse(text, {"s": factor()}), FoldScale())
    assert refusals(records) == ["weight 'w' of MatMul 'n0_MatMul' is not constant"]


def test_refuses_integers() -> None:
    text = "g (int32[N, 4] x) => (int32[N, 6] y) { c = MatMul(x, w) y = Mul(c, s) }"
    model = parse(text, {"w": np.ones((4, 6), np.int32), "s": np.int32(2)})
    _, records = transform(model, FoldScale())
    assert refusals(records) == ["weight 'w' of MatMul 'n0_MatMul' is int32, not float"]


def test_a_large_shared_weight_is_not_copied() -> None:
    text = "g (float[N, 4] x) => (float[N, 6] y, float[N, 6] z) { c = MatMul(x, w) y = Mul(c, s) z = MatMul(x, w) }"
    before = parse(text, {"w": normal(4, 6), "s": factor()})
    result, _ = transform(before, FoldScale())
    assert ops(result) == ["MatMul", "MatMul"]
    assert_same_numbers(before, result)
    _, records = transform(before, FoldScale(copy_limit=95))
    assert refusals(records) == ["weight 'w' has 2 users, and a copy takes 96 bytes"]


def test_refuses_a_graph_output_in_the_middle() -> None:
    text = "g (float[N, 4] x) => (float[N, 6] c, float[N, 6] y) { c = MatMul(x, w) y = Mul(c, s) }"
    _, records = transform(parse(text, {"w": normal(4, 6), "s": factor()}), FoldScale())
    assert refusals(records) == ["'c', output of MatMul 'n0_MatMul', is a graph output"]


def test_a_matmul_of_unknown_rank_takes_vectors_only() -> None:
    text = """g (float[N, 4] x, int64[R] r) => (float[P, Q] y) {
        t = Reshape(x, r) c = MatMul(t, w) d = Mul(c, s) y = Flatten(d) }"""
    for shape, wanted in (((6,), []), ((1, 6), ["constant 's' of shape [1, 6] may enlarge a tensor of unknown rank"])):
        model = parse(text, {"w": normal(4, 6), "s": factor(*shape)})
        for node in model.nodes[:3]:
            node.outputs[0].shape = None
        _, records = transform(model, FoldScale())
        assert refusals(records) == wanted
