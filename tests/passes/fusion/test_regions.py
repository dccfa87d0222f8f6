"""recognised_regions: what a planner should keep together."""

from __future__ import annotations

import numpy as np
import pytest

from qcompiler.passes.fusion.regions import recognised_regions
from tests.graphs import parse

QKV = "float[N, 4, 7, 16] q, float[N, 4, 16, 7] k, float[N, 4, 7, 16] v, float[N, 1, 1, 7] mask"


def kinds(body: str, inputs: str = QKV, **constants: object) -> dict[str, str]:
    model = parse(
        f"g ({inputs}) => (float[A, B, C, D] y) {{ {body} }}", {k: np.float32(v) for k, v in constants.items()}
    )
    return {name.split("_")[0]: kind for name, kind in recognised_regions(model).items()}


@pytest.mark.parametrize(
    "body",
    [
        "a = MatMul(q, k) b = Div(a, c) d = Add(b, mask) s = Softmax(d) y = MatMul(s, v)",
        "a = MatMul(q, k) b = Add(mask, a) s = Softmax(b) t = Mul(s, c) y = MatMul(t, v)",
    ],
)
def test_attention(body: str) -> None:
    assert kinds(body, c=4.0) == {f"n{i}": "attention" for i in range(body.count("="))}


def test_what_stands_around_attention_is_not_in_it() -> None:
    body = "p = MatMul(q, w) a = MatMul(p, k) s = Softmax(a) m = MatMul(s, v) y = MatMul(m, w)"
    assert kinds(body, w=np.eye(16)) == {"n1": "attention", "n2": "attention", "n3": "attention"}


def test_a_softmax_over_logits_is_no_attention() -> None:
    assert kinds("a = MatMul(q, w) y = Softmax(a)", w=np.eye(16)) == {}


def test_a_gelu_below_its_opset_and_a_softmax_over_two_axes() -> None:
    body = "z = Div(q, root) e = Erf(z) b = Add(e, one) m = Mul(q, b) y = Mul(m, half)"
    assert set(kinds(body, root=2**0.5, one=1, half=0.5).values()) == {"gelu"}
    body = "e = Exp(q) s = ReduceSum(e) y = Div(e, s)"
    assert kinds(body) == {"n0": "softmax", "n1": "softmax", "n2": "softmax"}
