"""widen-half: a model stored in float16 computes in float32 between Casts at its borders."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from qcompiler import ir
from qcompiler.passes.prepare import NameEverything
from qcompiler.passes.prepare.widen_half import NOTE, WidenHalf
from tests.graphs import assert_same_numbers, feed_for, ops, parse, run, transform

W = np.random.default_rng(0).normal(size=(4, 4)).astype(np.float16)
PLAIN = "g (float16[2, 4] x) => (float16[2, 4] y) { h = MatMul(x, w) y = Relu(h) }"


def inner_types(model: ir.Model) -> set[str]:
    found = {np.dtype(t.dtype).name for node in model.all_nodes() for t in node.outputs if t.dtype is not None}
    return found | {np.dtype(c.dtype).name for c in model.constants()}


def test_a_cast_at_each_border() -> None:
    before = parse(PLAIN, {"w": W})
    after, records = transform(before, WidenHalf())
    assert ops(after) == ["Cast", "MatMul", "Relu", "Cast"]
    assert [t.dtype for t in (*after.inputs, *after.outputs)] == [np.float16, np.float16]
    assert [c.dtype for c in after.constants()] == [np.float32]
    assert NOTE in records[0].notes
    assert_same_numbers(before, after, rtol=2e-3, atol=2e-3)


def test_exact_in_float32() -> None:
    before = parse(PLAIN, {"w": W})
    after, _ = transform(before, WidenHalf())
    feed = feed_for(before)
    exact = np.maximum(feed["x"].astype(np.float32) @ W.astype(np.float32), 0).astype(np.float16)
    np.testing.assert_allclose(run(after, feed)[0], exact, rtol=1e-3)


def test_bfloat16_is_named() -> None:
    text = PLAIN.replace("float16", "bfloat16")
    after, records = transform(parse(text, {"w": W.astype(ml_dtypes.bfloat16)}), WidenHalf())
    assert records[0].notes == [NOTE.replace("float16", "bfloat16")]
    assert ops(after) == ["Cast", "MatMul", "Relu", "Cast"]


def test_casts_and_types_in_attributes() -> None:
    text = """g (float16[2, 4] x, int64[2] n) => (float16[2, 4] y) {
        wide = Cast<to = 1>(x)
        narrow = Cast<to = 10>(wide)
        h = MatMul(narrow, w)
        zeros = ConstantOfShape(n)
        short = Cast<to = 10>(zeros)
        eye = EyeLike<dtype = 10>(h)
        like = CastLike(zeros, h)
        s = Add(h, eye)
        t = Add(s, like)
        y = Add(t, short)
    }"""
    before = parse(text, {"w": W})
    after, _ = transform(before, WidenHalf())
    feeds = [{"x": feed_for(before)["x"], "n": np.array([2, 4])}]
    assert_same_numbers(before, after, feeds, rtol=4e-3, atol=4e-3)
    assert all(node.attrs.get("dtype", 1) == 1 for node in after.nodes)
    assert [node.op for node in after.nodes if node.attrs.get("to") == 10] == ["Cast"]


def test_value_of_constant_of_shape() -> None:
    text = "g (float16[2, 4] x, int64[2] n) => (float16[2, 4] y) { h = MatMul(x, w) c = ConstantOfShape<value = float[1] {3.0}>(n) d = Cast<to=10>(c) y = Add(h, d) }"  # noqa: E501
    before = parse(text, {"w": W})
    made = next(node for node in before.nodes if node.op == "ConstantOfShape")
    made.attrs["value"].values = np.array([3], np.float16)
    made.outputs[0].dtype = np.float16
    after, _ = transform(before, WidenHalf())
    feeds = [{"x": feed_for(before)["x"], "n": np.array([2, 4])}]
    assert_same_numbers(before, after, feeds, rtol=4e-3, atol=4e-3)
    assert inner_types(after) == {"float16", "float32"}


def test_subgraphs() -> None:
    text = """g (float16[2, 4] x, bool b, int64 n) => (float16[2, 4] y, float16[2, 4] z) {
        y = If(b) <
            then_branch = t () => (float16[2, 4] p) { p = MatMul(x, w) },
            else_branch = e () => (float16[2, 4] q) { q = Add(x, x) }
        >
        z = Loop(n, , x) <
            body = l (int64 i, bool c, float16[2, 4] v) => (bool d, float16[2, 4] u) {
                d = Identity(c)
                u = MatMul(v, w)
            }
        >
    }"""
    before = parse(text, {"w": W / 4})
    after, _ = transform(before, NameEverything(), WidenHalf())
    x = feed_for(parse(PLAIN, {"w": W}))["x"]
    feeds = [{"x": x, "b": np.array(b), "n": np.array(3)} for b in (True, False)]
    assert_same_numbers(before, after, feeds, rtol=4e-3, atol=4e-3)


def test_dequantized_weights() -> None:
    text = """g (float16[2, 4] x) => (float16[2, 4] y) {
        w = DequantizeLinear<axis = 1>(codes, scale)
        h = MatMul(x, w)
        y = MatMul(h, v)
    }"""
    before = parse(text, {"codes": np.ones((4, 4), np.int8), "scale": np.full(4, 0.125, np.float16), "v": W})
    after, _ = transform(before, WidenHalf())
    assert_same_numbers(before, after, rtol=4e-3, atol=4e-3)


def test_an_output_that_is_read_inside_too() -> None:
    before = parse(
        "g (float16[2, 4] x) => (float16[2, 4] h, float16[2, 4] y) { h = MatMul(x, w) y = Relu(h) }", {"w": W}
    )
    after, _ = transform(before, WidenHalf())
    assert_same_numbers(before, after, rtol=2e-3, atol=2e-3)
    assert ops(after).count("Cast") == 3


def test_nodes_of_others_keep_their_types() -> None:
    text = '<ir_version: 10, opset_import: ["" : 21, "other" : 1]> g (float16[2, 4] x) => (float16[2, 4] y) { h = MatMul(x, w) o = other.Op(h) y = Relu(o) }'  # noqa: E501
    before = parse(text, {"w": W})
    next(node for node in before.nodes if node.domain).outputs[0].dtype = np.float16
    after, _ = transform(before, WidenHalf())
    node = next(node for node in after.nodes if node.domain)
    assert [node.inputs[0].dtype, node.outputs[0].dtype] == [np.float16, np.float16]
    assert ops(after) == ["Cast", "MatMul", "Cast", "Op", "Cast", "Relu", "Cast"]


@pytest.mark.parametrize(
    ("text", "weights"),
    [
        ("g (float[2, 4] x) => (float[2, 4] y) { h = MatMul(x, w) c = Cast<to = 10>(h) y = Cast<to = 1>(c) }", np.float32),  # noqa: E501
        ("g (float16[2, 4] x) => (float16[2, 4] y) { h = MatMul(x, w) s = SequenceConstruct(h) y = ConcatFromSequence<axis = 0>(s) }", np.float16),  # noqa: E501
    ],
    ids=["narrowing in a float32 model", "sequence"],
)  # fmt: skip
def test_others_stay(text: str, weights: type) -> None:
    before = parse(text, {"w": W.astype(weights)})
    after, records = transform(before, WidenHalf())
    assert records[0].changes == 0 and ir.to_text(after) == ir.to_text(before)
