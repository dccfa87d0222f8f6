"""Float nodes among quantized ones are written in float16."""

import numpy as np

from qcompiler.backends.qnn.float16 import Float16Islands
from tests.backends.qnn.helper import convnet, quantized
from tests.graphs import feed_for, ops, parse, run, transform


def test_neighbours_pass_float16_on() -> None:
    before = parse("g (float[1,4] x) => (float[1,4] y) { a = Abs(x) e = Exp(a) y = Tanh(e) }")
    names = frozenset(node.name for node in before.nodes[:2])
    after, records = transform(before, Float16Islands(names))
    assert ops(after) == ["Cast", "Abs", "Exp", "Cast", "Tanh"] and records[0].changes == 2
    assert after.nodes[2].inputs[0].dtype == np.float16
    for seed in range(3):
        feed = feed_for(before, seed)
        np.testing.assert_allclose(run(after, feed)[0], run(before, feed)[0], rtol=2e-3)


def test_constants_become_float16_and_stay_finite() -> None:
    before = parse("g (float[2] x) => (float[2] y) { y = Min(x, c) }", {"c": np.float32([1e9, 2])})
    after, _ = transform(before, Float16Islands(frozenset({before.nodes[0].name})))
    (constant,) = [tensor for tensor in after.constants() if tensor.dtype == np.float16]
    assert run(after, {"x": np.float32([3, 3])})[0].tolist() == [3, 2] and constant.shape == (2,)


def test_scales_of_resize_stay_float32() -> None:
    text = "g (float[1,1,2,2] x) => (float[1,1,4,4] y) { y = Resize(x, , s) }"
    before = parse(text, {"s": np.float32([1, 1, 2, 2])})
    after, _ = transform(before, Float16Islands(frozenset({before.nodes[0].name})))
    assert [str(t.dtype) for t in after.nodes[1].inputs if t.name] == ["float16", "float32"]


def test_what_is_kept_float_between_quantized_nodes() -> None:
    model = convnet()
    pool = next(node.name for node in model.nodes if node.op == "GlobalAveragePool")
    after = quantized(model, "w8a8", keep_float=(pool,)).model
    node = after.find(pool)
    assert node is not None and node.inputs[0].dtype == np.float16
    assert (
        node.outputs[0].outputs[0].op == "Cast"
        and node.outputs[0].outputs[0].outputs[0].outputs[0].op == "QuantizeLinear"
    )


def test_what_names_its_own_type_stays() -> None:
    before = parse("g (int64[2] s) => (float[2,3] y) { c = ConstantOfShape(s) y = Exp(c) }")
    names = frozenset(node.name for node in before.nodes)
    after, records = transform(before, Float16Islands(names))
    assert ops(after) == ["ConstantOfShape", "Cast", "Exp", "Cast"] and records[0].changes == 1
    assert run(after, {"s": np.int64([2, 3])})[0].tolist() == [[1, 1, 1]] * 2
