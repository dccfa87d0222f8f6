"""decompose-batchnorm: a BatchNormalization that nothing absorbed becomes Mul and Add."""

from __future__ import annotations

import numpy as np
import pytest
from onnx.reference import ReferenceEvaluator

from qcompiler.passes.fusion.decompose_batchnorm import DecomposeBatchnorm
from tests.graphs import assert_same_numbers, feed_for, ops, parse, refusals, transform

RNG = np.random.default_rng(11)


def batchnorm(channels: int) -> dict[str, np.ndarray]:
    values = {name: RNG.normal(size=channels).astype(np.float32) for name in ("g", "be", "m")}
    return {**values, "v": RNG.uniform(0.5, 2, channels).astype(np.float32)}


@pytest.mark.parametrize("rank", [2, 3, 4, 5])
def test_constants_have_the_rank_of_the_input(rank: int) -> None:
    dims = ", 3" * (rank - 2)
    text = f"g (float[N, 4{dims}] x) => (float[N, 4{dims}] y) {{ y = BatchNormalization(x, g, be, m, v) }}"
    before = parse(text, batchnorm(4))
    after, records = transform(before, DecomposeBatchnorm())
    assert ops(after) == ["Mul", "Add"] and records[0].changes == 1
    assert [c.shape for c in after.constants()] == [(4, *[1] * (rank - 2))] * 2
    assert_same_numbers(before, after)


def test_in_the_middle_and_inside_a_branch() -> None:
    text = """g (float[2, 4, 3] x, bool k) => (float[2, 4, 3] y) {
        a = Relu(x) b = BatchNormalization(a, g, be, m, v)
        y = If (k) <
            then_branch = t () => (float[2, 4, 3] p) { p = BatchNormalization(b, g, be, m, v) },
            else_branch = e () => (float[2, 4, 3] q) { q = Relu(b) }
        > }"""
    before = parse(text, batchnorm(4))
    for i, node in enumerate(n for n in before.all_nodes() if not n.name):
        node.name = f"inner{i}"
    after, _ = transform(before, DecomposeBatchnorm())
    assert [node.op for node in after.all_nodes()] == ["Relu", "Mul", "Add", "If", "Mul", "Add", "Relu"]
    for k in (True, False):
        assert_same_numbers(before, after, [{**feed_for(before), "k": np.array(k)}])


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float16, 2e-2), (np.float64, 1e-12)])
def test_other_float_types(dtype: type[np.floating], tolerance: float) -> None:
    name = {np.float16: "float16", np.float64: "double"}[dtype]
    text = f"g ({name}[N, 4, 3] x) => ({name}[N, 4, 3] y) {{ y = BatchNormalization(x, g, be, m, v) }}"
    before = parse(text, {key: value.astype(dtype) for key, value in batchnorm(4).items()})
    after, _ = transform(before, DecomposeBatchnorm())
    assert ops(after) == ["Mul", "Add"]
    feed = feed_for(before)
    wanted, got = (ReferenceEvaluator(model.to_proto()).run(None, feed)[0] for model in (before, after))
    assert got.dtype == dtype
    np.testing.assert_allclose(got, wanted, rtol=tolerance, atol=tolerance)


def test_refuses_an_unknown_rank() -> None:
    text = """g (float[N] x, int64[R] s) => (float[P, Q] y) {
        r = Reshape(x, s) b = BatchNormalization(r, g, be, m, v) y = Flatten(b) }"""
    model = parse(text, batchnorm(4))
    for node in model.nodes[:2]:
        node.outputs[0].shape = None
    after, records = transform(model, DecomposeBatchnorm())
    assert ops(after) == ["Reshape", "BatchNormalization", "Flatten"]
    assert refusals(records) == [
        "rank of 'r', input of BatchNormalization 'n1_BatchNormalization', is not known to be 2 or more"
    ]


def test_refuses_training_and_bad_numbers() -> None:
    text = "g (float[N, 4, 3] x) => (float[N, 4, 3] y) { y = BatchNormalization(x, g, be, m, v) }"
    training = text.replace("y = Batch", "y, p, q = Batch").replace("(x, g", " <training_mode = 1> (x, g")
    _, records = transform(parse(training, batchnorm(4)), DecomposeBatchnorm())
    assert refusals(records) == ["BatchNormalization 'n0_BatchNormalization' is in training mode"]
    _, records = transform(parse(text, {**batchnorm(4), "v": np.float32([1, -1, 1, 1])}), DecomposeBatchnorm())
    assert refusals(records) == [
        "variance + epsilon of BatchNormalization 'n0_BatchNormalization' is not positive in channel 1"
    ]
    huge = {**batchnorm(4), "m": np.full(4, -60000.0), "g": np.full(4, 2.0), "v": np.full(4, 0.1)}
    half = {key: value.astype(np.float16) for key, value in huge.items()}
    _, records = transform(parse(text.replace("float", "float16"), half), DecomposeBatchnorm())
    assert refusals(records) == ["scale or shift of BatchNormalization 'n0_BatchNormalization' overflows float16"]
