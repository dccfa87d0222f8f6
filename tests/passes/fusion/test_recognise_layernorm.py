"""recognise-layernorm and fold-norm-affine, in the ways exporters write them."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import pytest

from qcompiler.passes.fusion.fold_norm_affine import FoldNormAffine
from qcompiler.passes.fusion.recognise_layernorm import RecogniseLayernorm
from qcompiler.passes.fusion.simplify_powers import SimplifyPowers
from tests.graphs import assert_same_numbers, ops, parse, refusals, transform

RULES = (SimplifyPowers(), RecogniseLayernorm(), FoldNormAffine())
RNG = np.random.default_rng(11)
GAMMA, BETA = (RNG.normal(size=8).astype(np.float32) for _ in range(2))


def graph(
    body: str, opset: int = 21, axes: Sequence[int] = (-1,), gamma: np.ndarray = GAMMA, x: str = "float[N, 5, 8]"
):
    """`M(v)` in the body is the mean of v over `axes`, as the opset writes it."""
    attribute = f"ReduceMean <axes = {list(axes)}> (\\1)"
    body = re.sub(r"M\((\w+)\)", attribute if opset < 18 else r"ReduceMean (\1, axes)", body)
    constants = {
        "two": np.float32(2), "one": np.float32(1), "half": np.float32(0.5), "minus_half": np.float32(-0.5),
        "eps": np.float32([1e-5]), "gamma": gamma, "beta": BETA, "axes": np.array(axes, np.int64),
        "axes_again": np.array(axes, np.int64),
    }  # fmt: skip
    return parse(f"g ({x} x) => ({x} y) {{ {body} }}", {k: v for k, v in constants.items() if k in body}, opset)


TORCH = "m = M(x) d = Sub(x, m) q = Pow(d, two) v = M(q) e = Add(v, eps) s = Sqrt(e) n = Div(d, s) "
FORMS = {
    "torch": TORCH + "k = Mul(n, gamma) y = Add(k, beta)",
    "torch, two differences": "m = M(x) d = Sub(x, m) d2 = Sub(x, m) q = Pow(d2, two) v = M(q) e = Add(eps, v) "
    "s = Sqrt(e) n = Div(d, s) k = Mul(gamma, n) y = Add(beta, k)",
    "two means": "m = M(x) m2 = M(x) d = Sub(x, m) d2 = Sub(x, m2) q = Mul(d2, d2) v = M(q) e = Add(v, eps) "
    "s = Sqrt(e) n = Div(d, s) k = Mul(n, gamma) y = Add(k, beta)",
    "power of a half": "m = M(x) d = Sub(x, m) q = Mul(d, d) v = M(q) e = Add(v, eps) s = Pow(e, half) n = Div(d, s) "
    "k = Mul(n, gamma) y = Add(k, beta)",
    "reciprocal": "m = M(x) d = Sub(x, m) q = Mul(d, d) v = M(q) e = Add(v, eps) s = Sqrt(e) r = Reciprocal(s) "
    "n = Mul(d, r) k = Mul(n, gamma) y = Add(k, beta)",
    "power of minus a half": "m = M(x) d = Sub(x, m) q = Mul(d, d) v = M(q) e = Add(v, eps) r = Pow(e, minus_half) "
    "n = Mul(d, r) k = Mul(n, gamma) y = Add(k, beta)",
    "one over, gamma first": "m = M(x) d = Sub(x, m) q = Mul(d, d) v = M(q) e = Add(v, eps) s = Sqrt(e) "
    "r = Div(one, s) k = Mul(r, gamma) n = Mul(d, k) y = Add(n, beta)",
    "tf2onnx": "m = M(x) d = Sub(x, m) q = Mul(d, d) v = M(q) e = Add(v, eps) s = Sqrt(e) r = Reciprocal(s) "
    "k = Mul(r, gamma) a = Mul(x, k) b = Mul(m, k) c = Sub(beta, b) y = Add(a, c)",
    "no beta": TORCH + "y = Mul(n, gamma)",
    "no affine part": TORCH.replace("n = Div", "y = Div"),
}


@pytest.mark.parametrize("opset", [17, 21])
@pytest.mark.parametrize("form", FORMS)
def test_layernorm(form: str, opset: int) -> None:
    before = graph(FORMS[form], opset)
    after, _ = transform(before, *RULES)
    assert ops(after) == ["LayerNormalization"]
    assert after.nodes[0].attrs["axis"] == -1
    assert_same_numbers(before, after, atol=2e-5)


@pytest.mark.parametrize("axes", [(1, 2), (-1, -2)])
def test_two_last_axes(axes: Sequence[int]) -> None:
    gamma = RNG.normal(size=(5, 8)).astype(np.float32)
    before = graph(TORCH + "k = Mul(n, gamma) y = Add(k, beta)", axes=axes, gamma=gamma)
    after, _ = transform(before, *RULES)
    assert ops(after) == ["LayerNormalization"]
    assert after.nodes[0].attrs["axis"] == -2
    assert_same_numbers(before, after, atol=2e-5)


def test_means_that_became_pools() -> None:
    """Prepare writes a mean over height and width as GlobalAveragePool."""
    body = TORCH.replace("M(", "GlobalAveragePool(") + "y = Mul(n, gamma)"
    before = graph(body, gamma=RNG.normal(size=(5, 8)).astype(np.float32), x="float[N, 3, 5, 8]")
    after, _ = transform(before, *RULES)
    assert ops(after) == ["LayerNormalization"]
    assert after.nodes[0].attrs["axis"] == -2
    assert_same_numbers(before, after, atol=2e-5)


def test_a_gamma_with_leading_ones_fits() -> None:
    before = graph(FORMS["torch"], gamma=GAMMA.reshape(1, 1, 8))
    after, _ = transform(before, *RULES)
    assert ops(after) == ["LayerNormalization"]
    assert_same_numbers(before, after, atol=2e-5)


def test_refuses_channels_first() -> None:
    gamma = RNG.normal(size=(5, 1)).astype(np.float32)
    before = graph(TORCH + "y = Mul(n, gamma)", axes=(1,), gamma=gamma)
    after, records = transform(before, *RULES)
    assert ops(after) == ops(before)
    assert refusals(records) == ["axes [-2] are not the last dimensions of 'x'"]


def test_refuses_an_unknown_size() -> None:
    before = graph(TORCH + "y = Mul(n, gamma)", x="float[N, 5, K]")
    after, records = transform(before, *RULES)
    assert ops(after) == ops(before)
    assert refusals(records) == ["the last 1 dimensions of 'x' are not static"]


def test_refuses_an_old_opset() -> None:
    before = graph(FORMS["torch"], 16)
    after, records = transform(before, *RULES)
    assert ops(after) == ops(before)
    assert refusals(records) == ["opset 16 has no LayerNormalization, which came with opset 17"]


def test_refuses_means_over_different_axes() -> None:
    text = "g (float[N, 5, 8] x) => (float[N, 5, 8] y) { m = ReduceMean(x, last) d = Sub(x, m) q = Mul(d, d) "
    text += "v = ReduceMean(q, first) e = Add(v, eps) s = Sqrt(e) y = Div(d, s) }"
    constants = {"last": np.array([-1]), "first": np.array([1]), "eps": np.float32(1e-5)}
    before = parse(text, constants)
    after, records = transform(before, *RULES)
    assert ops(after) == ops(before)
    assert refusals(records) == ["ReduceMean 'n3_ReduceMean' reduces other axes than ReduceMean 'n0_ReduceMean'"]


def test_refuses_a_gamma_of_another_shape_inside() -> None:
    before = graph(FORMS["one over, gamma first"], gamma=RNG.normal(size=(5, 8)).astype(np.float32))
    after, records = transform(before, *RULES)
    assert "LayerNormalization" not in ops(after)
    assert refusals(records) == ["constant 'gamma' of shape [5, 8] does not fit [8]"]


def test_a_gamma_of_another_shape_stays_behind_the_norm() -> None:
    before = graph(TORCH + "y = Mul(n, gamma)", gamma=RNG.normal(size=(5, 8)).astype(np.float32))
    after, records = transform(before, *RULES)
    assert ops(after) == ["LayerNormalization", "Mul"]
    assert refusals(records) == ["constant 'gamma' of shape [5, 8] does not fit scale 'n6_Div_gamma' [8]"]
    assert_same_numbers(before, after, atol=2e-5)


def test_refuses_a_deviation_with_another_reader() -> None:
    before = graph(TORCH + "y = Mul(n, s)")
    after, records = transform(before, *RULES)
    assert ops(after) == ops(before)
    assert refusals(records) == ["'s', output of Sqrt 'n5_Sqrt', is also used by 'n7_Mul'"]


LN = "g (float[N, 5, 8] x) => (float[N, 5, 8] y) { n = LayerNormalization(x, g0, b0) "


@pytest.mark.parametrize("body", ["y = Mul(n, c)", "k = Mul(c, n) l = Add(k, d) y = Mul(l, half)"])
def test_fold_norm_affine(body: str) -> None:
    constants = {"g0": GAMMA, "b0": BETA, "c": GAMMA + 1, "d": BETA[None], "half": np.float32(0.5)}
    before = parse(LN + body + " }", {k: v for k, v in constants.items() if k in ("g0", "b0", "c") or k in body})
    after, _ = transform(before, FoldNormAffine())
    assert ops(after) == ["LayerNormalization"]
    assert_same_numbers(before, after)


def test_fold_norm_affine_keeps_a_product_of_two_norms() -> None:
    text = LN + "y = Mul(n, n) }"
    after, records = transform(parse(text, {"g0": GAMMA, "b0": BETA}), FoldNormAffine())
    assert ops(after) == ["LayerNormalization", "Mul"] and refusals(records) == []
