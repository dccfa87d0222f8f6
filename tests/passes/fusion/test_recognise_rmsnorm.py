"""recognise-rmsnorm, and the regions that stay where the opset has no RMSNormalization."""

from __future__ import annotations

import numpy as np
import pytest

from qcompiler.passes.fusion.fold_norm_affine import FoldNormAffine
from qcompiler.passes.fusion.recognise_rmsnorm import RecogniseRmsnorm
from qcompiler.passes.fusion.regions import recognised_regions
from qcompiler.passes.fusion.simplify_powers import SimplifyPowers
from tests.graphs import assert_same_numbers, ops, parse, refusals, transform

RULES = (SimplifyPowers(), RecogniseRmsnorm(), FoldNormAffine())
GAMMA = np.random.default_rng(5).normal(size=8).astype(np.float32)
MEAN = "q = Mul(x, x) v = ReduceMean(q, last) e = Add(v, eps) "
FORMS = {
    "div": MEAN + "s = Sqrt(e) n = Div(x, s) y = Mul(n, gamma)",
    "one over": MEAN + "s = Sqrt(e) r = Div(one, s) n = Mul(x, r) y = Mul(gamma, n)",
    "reciprocal": MEAN + "s = Sqrt(e) r = Reciprocal(s) n = Mul(r, x) y = Mul(n, gamma)",
    "rsqrt": MEAN.replace("Mul(x, x)", "Pow(x, two)") + "r = Pow(e, minus_half) n = Mul(x, r) y = Mul(n, gamma)",
    "gamma first": MEAN + "s = Sqrt(e) r = Reciprocal(s) k = Mul(gamma, r) y = Mul(x, k)",
    "no gamma": MEAN + "s = Sqrt(e) y = Div(x, s)",
}


def graph(body: str, opset: int, last: int = -1):
    constants = {
        "two": np.float32(2), "one": np.float32(1), "minus_half": np.float32(-0.5), "eps": np.float32(1e-6),
        "gamma": GAMMA, "last": np.array([last], np.int64),
    }  # fmt: skip
    text = f"g (float[N, 5, 8] x) => (float[N, 5, 8] y) {{ {body} }}"
    return parse(text, {k: v for k, v in constants.items() if k in body}, opset)


@pytest.mark.parametrize("form", FORMS)
def test_rmsnorm(form: str) -> None:
    before = graph(FORMS[form], 23)
    after, _ = transform(before, *RULES)
    assert ops(after) == ["RMSNormalization"]
    assert_same_numbers(before, after)


@pytest.mark.parametrize("form", FORMS)
def test_below_opset_23_the_nodes_stay_and_are_named(form: str) -> None:
    before = graph(FORMS[form], 21)
    after, records = transform(before, *RULES)
    assert "RMSNormalization" not in ops(after)
    assert refusals(records) == ["opset 21 has no RMSNormalization, which came with opset 23"]
    assert recognised_regions(after) == {node.name: "rms-norm" for node in after.nodes}
    assert_same_numbers(before, after)


def test_refuses_another_axis() -> None:
    after, records = transform(graph(FORMS["no gamma"], 23, last=1), *RULES)
    assert "RMSNormalization" not in ops(after)
    assert refusals(records) == ["axes [-2] are not the last dimensions of 'x'"]


def test_refuses_a_root_that_others_read() -> None:
    before = graph(MEAN + "s = Sqrt(e) n = Div(x, s) y = Add(n, s)", 23)
    after, records = transform(before, *RULES)
    assert ops(after) == ops(before)
    assert refusals(records) == ["'s', output of Sqrt 'n3_Sqrt', is also used by 'n5_Add'"]
