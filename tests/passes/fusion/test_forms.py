"""forms and polynomial: the questions that recognisers ask."""

from __future__ import annotations

import numpy as np
import pytest

from qcompiler.passes.fusion.forms import reduced_axes, same_axes, scalar, spread
from qcompiler.passes.fusion.polynomial import close, polynomial
from tests.graphs import parse

C, D = 0.7978845608, 0.044715


@pytest.mark.parametrize(
    "body",
    [
        "p = Pow(x, three) q = Mul(p, d) r = Add(x, q) y = Mul(r, c)",
        "s = Mul(x, x) p = Mul(x, s) q = Mul(d, p) r = Add(q, x) y = Mul(c, r)",
        "s = Mul(x, x) q = Mul(d, s) r = Add(one, q) k = Mul(x, c) y = Mul(k, r)",
        "q = Mul(d, x) s = Mul(q, x) t = Mul(s, x) n = Neg(t) r = Sub(x, n) y = Div(r, c_inverse)",
    ],
)
def test_polynomial_reads_every_way_to_write_the_cubic(body: str) -> None:
    constants = {"c": C, "d": D, "one": 1.0, "three": 3.0, "c_inverse": 1 / C}
    model = parse(
        f"g (float[N, 4] x) => (float[N, 4] y) {{ {body} }}", {k: np.float32(v) for k, v in constants.items()}
    )
    found = polynomial(model.outputs[0], model.inputs[0])
    assert found is not None
    assert close(found[0], [0, C, 0, C * D], 1e-6)
    assert {node.name for node in found[1]} == {node.name for node in model.nodes}


@pytest.mark.parametrize(
    "body",
    [
        "y = Tanh(x)",  # no polynomial
        "y = Pow(x, four)",  # degree 4
        "y = Div(one, x)",  # not a constant divisor
        "y = Mul(x, vector)",  # not one number
        "y = Div(x, zero)",
    ],
)
def test_polynomial_gives_up(body: str) -> None:
    constants = {"four": np.float32(4), "one": np.float32(1), "zero": np.float32(0), "vector": np.ones(4, np.float32)}
    model = parse(f"g (float[N, 4] x) => (float[N, 4] y) {{ {body} }}", constants)
    assert polynomial(model.outputs[0], model.inputs[0]) is None


def test_close_wants_zeros_to_be_zero() -> None:
    assert close(np.array([0, 1.0001, 0, 0]), [0, 1], 5e-4)
    assert not close(np.array([0, 1.001, 0, 0]), [0, 1], 5e-4)
    assert not close(np.array([0, 1, 1e-4, 0]), [0, 1], 5e-4)


@pytest.mark.parametrize(
    ("opset", "node", "wanted"),
    [
        (17, "ReduceMean <axes = [-1]> (x)", (-1,)),
        (17, "ReduceMean <axes = [2, 1]> (x)", (-2, -1)),
        (17, "ReduceMean (x)", (-3, -2, -1)),
        (18, "ReduceMean (x, last)", (-1,)),
        (18, "ReduceMean <noop_with_empty_axes = 1> (x)", None),
        (21, "GlobalAveragePool (x)", (-1,)),
    ],
)
def test_reduced_axes(opset: int, node: str, wanted: tuple[int, ...] | None) -> None:
    text = f"g (float[N, 4, 5] x) => (float[A, B, C] y) {{ y = {node} }}"
    model = parse(text, {"last": np.array([2], np.int64)} if "last" in node else {}, opset)
    assert reduced_axes(model.nodes[0]) == wanted


def test_same_axes_says_what_differs() -> None:
    text = """g (float[N, 4, 5] x) => (float[A, B, C] y, float[A, B, C] z, float[A, B] w) {
        y = ReduceMean <axes = [-1]> (x) z = ReduceMean <axes = [1]> (x)
        w = ReduceMean <axes = [2], keepdims = 0> (x) }"""
    y, z, w = parse(text, opset=17).nodes
    assert same_axes([y, y]) == (-1,)
    assert same_axes([y, z]) == "ReduceMean 'n1_ReduceMean' reduces other axes than ReduceMean 'n0_ReduceMean'"
    assert same_axes([y, w]) == "ReduceMean 'n2_ReduceMean' drops the dimensions that it reduces"


def test_scalar_and_spread() -> None:
    text = "g (float[N, 4] x) => (float[N, 4] y) { a = Add(x, one) b = Add(a, row) y = Add(b, wide) }"
    constants = {"one": np.ones(1), "row": np.arange(4.0)[None, None], "wide": np.ones((2, 4))}
    model = parse(text, {name: value.astype(np.float32) for name, value in constants.items()})
    one, row, wide = (node.inputs[1] for node in model.nodes)
    assert (scalar(one), scalar(row), scalar(model.inputs[0])) == (1.0, None, None)
    flat = spread(row, (4,))
    assert flat is not None and flat.tolist() == [0, 1, 2, 3]
    assert spread(one, (2, 4)).tolist() == [[1] * 4] * 2
    assert spread(wide, (4,)) is None
