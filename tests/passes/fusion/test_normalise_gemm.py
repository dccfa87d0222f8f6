"""normalise-gemm: no factors, and a bias of one number per column."""

from __future__ import annotations

import numpy as np
import pytest

from qcompiler.passes.fusion.normalise_gemm import NormaliseGemm
from tests.graphs import assert_same_numbers, ops, parse, refusals, transform

RNG = np.random.default_rng(23)


def normal(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


def text(attrs: str, bias: str = ", b") -> str:
    return f"g (float[N, 4] x) => (float[N, 6] y) {{ y = Gemm <{attrs}> (x, w{bias}) }}"


@pytest.mark.parametrize("attrs", ["alpha = 0.5", "beta = -2.0", "alpha = 3.0, beta = 0.0", "alpha = 0.25, beta = 4.0"])
@pytest.mark.parametrize("shape", [(6,), (1, 6), (), (1,), (1, 1)])
@pytest.mark.parametrize("trans", [0, 1])
def test_folds_factors_and_keeps_the_transpose(attrs: str, shape: tuple[int, ...], trans: int) -> None:
    weight = normal(6, 4) if trans else normal(4, 6)
    before = parse(text(f"{attrs}, transB = {trans}"), {"w": weight, "b": normal(*shape)})
    after, records = transform(before, NormaliseGemm())
    assert ops(after) == ["Gemm"] and records[0].changes == 1
    assert after.nodes[0].attrs == {"transB": trans}
    assert [tuple(t.shape) for t in after.nodes[0].inputs[1:]] in ([weight.shape], [weight.shape, (6,)])
    assert ("beta = 0.0" in attrs) == (len(after.nodes[0].inputs) == 2)
    assert_same_numbers(before, after)


def test_a_bias_of_another_shape_becomes_a_vector() -> None:
    before = parse(text("alpha = 1.0"), {"w": normal(4, 6), "b": normal(1, 6)})
    after, _ = transform(before, NormaliseGemm())
    assert list(after.nodes[0].inputs[2].shape) == [6] and after.nodes[0].inputs[1].name == "w"
    assert_same_numbers(before, after)


@pytest.mark.parametrize(("bias", "shape"), [("", None), (", b", (6,))])
def test_a_normal_gemm_is_passed_over(bias: str, shape: tuple[int, ...] | None) -> None:
    model = parse(text("alpha = 1.0", bias), {"w": normal(4, 6), **({"b": normal(*shape)} if shape else {})})
    _, records = transform(model, NormaliseGemm())
    assert records[0].changes == 0 and refusals(records) == []


def test_a_factor_without_a_bias_to_multiply_is_dropped() -> None:
    before = parse(text("beta = 2.0", ""), {"w": normal(4, 6)})
    after, records = transform(before, NormaliseGemm())
    assert after.nodes[0].attrs == {} and records[0].changes == 1
    assert_same_numbers(before, after)


def test_what_is_not_constant_is_refused_only_where_a_factor_is_left() -> None:
    model = "g (float[N, 4] x, float[4, 6] w) => (float[N, 6] y) {{ y = Gemm <alpha = {alpha}> (x, w, b) }}"
    _, records = transform(parse(model.format(alpha=2.0), {"b": normal(6)}), NormaliseGemm())
    assert refusals(records) == ["weight 'w' of Gemm 'n0_Gemm' is not constant"]
    _, records = transform(parse(model.format(alpha=1.0), {"b": normal(6)}), NormaliseGemm())
    assert refusals(records) == []
    rows = parse(text("beta = 2.0").replace("N", "2"), {"w": normal(4, 6), "b": normal(2, 6)})
    assert refusals(transform(rows, NormaliseGemm())[1]) == ["bias 'b' of Gemm 'n0_Gemm' differs between rows"]


def test_refuses_a_factor_that_float16_cannot_hold() -> None:
    model = parse(text("alpha = 1000.0", "").replace("float", "float16"), {"w": np.full((4, 6), 100, np.float16)})
    _, records = transform(model, NormaliseGemm())
    assert refusals(records) == ["weight 'w' of Gemm 'n0_Gemm' overflows float16 in channel 0"]
