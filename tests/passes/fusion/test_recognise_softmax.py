"""recognise-softmax, recognise-logsoftmax, recognise-l2norm."""

from __future__ import annotations

import numpy as np
import pytest

from qcompiler.passes.fusion.recognise_l2norm import RecogniseL2norm
from qcompiler.passes.fusion.recognise_logsoftmax import RecogniseLogsoftmax
from qcompiler.passes.fusion.recognise_softmax import RecogniseSoftmax
from qcompiler.passes.fusion.simplify_powers import SimplifyPowers
from tests.graphs import assert_same_numbers, ops, parse, refusals, transform


def graph(body: str, opset: int = 21, axis: int | list[int] = -1, out: str = "float[A, B, C]"):
    axes = np.array(axis, np.int64).reshape(-1)
    constants = {
        "axes": axes, "rows": np.array([1, 2], np.int64), "two": np.float32(2), "half": np.float32(0.5),
        "eps": np.float32(1e-12),
    }  # fmt: skip
    text = f"g (float[N, 5, 8] x) => ({out} y) {{ {body} }}"
    return parse(text, {k: v for k, v in constants.items() if k in body}, opset)


MAX = "m = ReduceMax(x, axes) d = Sub(x, m) "


@pytest.mark.parametrize("axis", [-1, 1])
@pytest.mark.parametrize(
    "body",
    [
        MAX + "e = Exp(d) s = ReduceSum(e, axes) y = Div(e, s)",
        MAX + "e = Exp(d) s = ReduceSum(e, axes) r = Reciprocal(s) y = Mul(e, r)",
        "m = ReduceMax(x, rows) d = Sub(x, m) e = Exp(d) s = ReduceSum(e, axes) y = Div(e, s)",
        "e = Exp(x) s = ReduceSum(e, axes) y = Div(e, s)",
        "e = Exp(x) s = ReduceSum(e, axes) r = Reciprocal(s) y = Mul(r, e)",
    ],
)
def test_softmax(body: str, axis: int) -> None:
    before = graph(body, axis=axis)
    after, _ = transform(before, RecogniseSoftmax())
    assert ops(after) == ["Softmax"]
    assert after.nodes[0].attrs["axis"] == {-1: -1, 1: -2}[axis]
    assert_same_numbers(before, after)


def test_softmax_at_opset_13_with_the_maximum_as_attribute() -> None:
    body = "m = ReduceMax <axes = [2]> (x) d = Sub(x, m) e = Exp(d) s = ReduceSum(e, axes) y = Div(e, s)"
    before = graph(body, 13)
    after, _ = transform(before, RecogniseSoftmax())
    assert ops(after) == ["Softmax"]
    assert_same_numbers(before, after)


def test_a_maximum_over_another_axis_is_no_shift() -> None:
    before = graph("m = ReduceMax(x, axes) d = Sub(x, m) e = Exp(d) s = ReduceSum(e, rows) y = Div(e, s)")
    after, records = transform(before, RecogniseSoftmax())
    assert ops(after) == ops(before)
    assert refusals(records) == ["ReduceSum 'n3_ReduceSum' goes over 2 axes, Softmax over one"]
    text = "g (float[N, 5, 8] x) => (float[N, 5, 8] y) { m = ReduceMax(x, a) d = Sub(x, m) e = Exp(d)"
    text += " s = ReduceSum(e, b) y = Div(e, s) }"
    before = parse(text, {"a": np.array([1], np.int64), "b": np.array([2], np.int64)})
    after, records = transform(before, RecogniseSoftmax())
    assert ops(after) == ["ReduceMax", "Sub", "Softmax"]  # the shift is kept, the rest is a Softmax
    assert refusals(records) == []
    assert_same_numbers(before, after)


def test_softmax_refuses_a_sum_without_its_axis() -> None:
    body = "e = Exp(x) s = ReduceSum <keepdims = 0> (e, rows) y = Div(e, s)"
    text = f"g (float[8, 5, 8] x) => (float[A, B, C] y) {{ {body} }}"
    after, records = transform(parse(text, {"rows": np.array([1, 2], np.int64)}), RecogniseSoftmax())
    assert "Softmax" not in ops(after)
    assert refusals(records) == ["ReduceSum 'n1_ReduceSum' drops the dimensions that it reduces"]


def test_softmax_refuses_an_old_opset() -> None:
    body = "e = Exp(x) s = ReduceSum <axes = [2]> (e) y = Div(e, s)"
    after, records = transform(graph(body, 12), RecogniseSoftmax())
    assert "Softmax" not in ops(after)
    assert refusals(records) == ["opset 12 has no Softmax over one axis, which came with opset 13"]


@pytest.mark.parametrize("axis", [-1, 1])
@pytest.mark.parametrize(
    "body",
    [
        "s = Softmax <axis = AXIS> (x) y = Log(s)",
        MAX + "e = Exp(d) s = ReduceSum(e, axes) l = Log(s) y = Sub(d, l)",
        "e = Exp(x) s = ReduceSum(e, axes) l = Log(s) y = Sub(x, l)",
        "e = Exp(x) s = ReduceLogSum(e, axes) y = Sub(x, s)",
        "s = ReduceLogSumExp(x, axes) y = Sub(x, s)",
    ],
)
def test_logsoftmax(body: str, axis: int) -> None:
    before = graph(body.replace("AXIS", str(axis)), axis=axis)
    after, _ = transform(before, RecogniseLogsoftmax())
    assert ops(after) == ["LogSoftmax"]
    assert_same_numbers(before, after)


def test_logsoftmax_refuses_a_softmax_with_another_reader() -> None:
    text = "g (float[N, 8] x) => (float[N, 8] y, float[N, 8] z) { z = Softmax(x) y = Log(z) }"
    after, records = transform(parse(text), RecogniseLogsoftmax())
    assert ops(after) == ["Softmax", "Log"]
    assert refusals(records) == ["'z', output of Softmax 'n0_Softmax', is a graph output"]


@pytest.mark.parametrize("keepdims", [0, 1])
@pytest.mark.parametrize(
    ("opset", "body"),
    [
        (21, "q = Mul(x, x) s = ReduceSum <keepdims = KEEP> (q, axes) y = Sqrt(s)"),
        (21, "q = Pow(x, two) s = ReduceSum <keepdims = KEEP> (q, axes) y = Sqrt(s)"),
        (21, "s = ReduceSumSquare <keepdims = KEEP> (x, axes) y = Pow(s, half)"),
        (21, "q = Mul(x, x) s = ReduceSum <keepdims = KEEP> (q) y = Sqrt(s)"),
        (17, "q = Mul(x, x) s = ReduceSum <keepdims = KEEP> (q, axes) y = Sqrt(s)"),
    ],
)
def test_l2norm(body: str, opset: int, keepdims: int) -> None:
    rank = 3 if keepdims else (2 if "axes" in body else 0)
    out = "float" + ("[" + ", ".join("ABC"[:rank]) + "]" if rank else "")
    before = graph(body.replace("KEEP", str(keepdims)), opset, axis=[-1], out=out)
    after, _ = transform(before, SimplifyPowers(), RecogniseL2norm())
    assert ops(after) == ["ReduceL2"]
    assert ("axes" in after.nodes[0].attrs) == (opset < 18)
    assert_same_numbers(before, after)


def test_the_eps_of_a_normalisation_stays() -> None:
    before = graph("q = Mul(x, x) s = ReduceSum(q, axes) r = Sqrt(s) c = Clip(r, eps) y = Div(x, c)")
    after, _ = transform(before, RecogniseL2norm())
    assert ops(after) == ["ReduceL2", "Clip", "Div"]
    feeds = [{"x": np.zeros((2, 5, 8), np.float32)}, {"x": np.full((2, 5, 8), 3, np.float32)}]
    assert_same_numbers(before, after, feeds)


def test_an_eps_inside_the_root_is_another_function() -> None:
    before = graph("q = Mul(x, x) s = ReduceSum(q, axes) e = Add(s, eps) y = Sqrt(e)")
    after, records = transform(before, RecogniseL2norm())
    assert ops(after) == ops(before) and refusals(records) == []


def test_l2norm_refuses_unknown_axes() -> None:
    text = "g (float[N, 8] x, int64[1] a) => (float[A, B] y) { q = Mul(x, x) s = ReduceSum(q, a) y = Sqrt(s) }"
    after, records = transform(parse(text), RecogniseL2norm())
    assert "ReduceL2" not in ops(after)
    assert refusals(records) == []  # computed axes do not match at all
