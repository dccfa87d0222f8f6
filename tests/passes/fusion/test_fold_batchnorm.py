"""fold-batchnorm: BatchNormalization disappears into Conv, ConvTranspose and Gemm."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from onnx.reference import ReferenceEvaluator

from qcompiler.passes.fusion.fold_batchnorm import FoldBatchnorm
from tests.graphs import assert_same_numbers, feed_for, ops, parse, refusals, transform

RNG = np.random.default_rng(7)


def normal(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


def batchnorm(channels: int) -> dict[str, np.ndarray]:
    var = RNG.uniform(0.5, 2, channels).astype(np.float32)
    return {"g": normal(channels), "be": normal(channels), "m": normal(channels), "v": var}


@pytest.mark.parametrize(
    ("linear", "weight", "bias"),
    [
        ("Conv(x, w)", (6, 4, 3, 3), None),
        ("Conv(x, w, b)", (6, 4, 3, 3), 6),
        ("Conv <group = 2> (x, w, b)", (6, 2, 3, 3), 6),
        ("ConvTranspose(x, w, b)", (4, 6, 2, 2), 6),
        ("ConvTranspose <group = 2> (x, w)", (4, 3, 2, 2), None),
    ],
)
def test_folds(linear: str, weight: tuple[int, ...], bias: int | None) -> None:
    text = f"g (float[N, 4, 8, 8] x) => (float[N, 6, P, Q] y) {{ c = {linear} y = BatchNormalization(c, g, be, m, v) }}"
    constants = {"w": normal(*weight), **batchnorm(6)} | ({"b": normal(bias)} if bias else {})
    before = parse(text, constants)
    after, records = transform(before, FoldBatchnorm())
    assert ops(after) == [linear.split("(")[0].split()[0]]
    assert records[0].changes == 1
    assert_same_numbers(before, after)


@pytest.mark.parametrize("rank", [3, 4, 5])
@pytest.mark.parametrize("group", [1, 2])
@pytest.mark.parametrize("op", ["Conv", "ConvTranspose"])
def test_folds_one_to_three_spatial_dimensions(op: str, group: int, rank: int) -> None:
    spatial, free = ", 7" * (rank - 2), "".join(f", D{i}" for i in range(rank - 2))
    attrs = f"group = {group}, strides = [{', '.join(['2'] * (rank - 2))}]"
    if op == "ConvTranspose":
        attrs += f", output_padding = [{', '.join(['1'] * (rank - 2))}]"
    text = f"""g (float[N, 4{spatial}] x) => (float[N, 6{free}] y) {{
        c = {op} <{attrs}> (x, w, b) y = BatchNormalization(c, g, be, m, v) }}"""
    shape = (6, 4 // group) if op == "Conv" else (4, 6 // group)
    before = parse(text, {"w": normal(*shape, *[3] * (rank - 2)), "b": normal(6), **batchnorm(6)})
    after, _ = transform(before, FoldBatchnorm())
    assert ops(after) == [op]
    assert_same_numbers(before, after)


def test_folds_a_depthwise_conv() -> None:
    text = """g (float[N, 4, 8, 8] x) => (float[N, 4, P, Q] y) {
        c = Conv <group = 4> (x, w) y = BatchNormalization(c, g, be, m, v) }"""
    before = parse(text, {"w": normal(4, 1, 3, 3), **batchnorm(4)})
    after, _ = transform(before, FoldBatchnorm())
    assert ops(after) == ["Conv"]
    assert_same_numbers(before, after)


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float16, 2e-2), (np.float64, 1e-12)])
def test_other_float_types_keep_their_type(dtype: type[np.floating], tolerance: float) -> None:
    """Against the reference evaluator: the runtime has neither a float16 BatchNormalization nor a double Conv."""
    text = """g (float[N, 4, 5, 5] x) => (float[N, 6, P, Q] y) {
        c = Conv(x, w, b) y = BatchNormalization(c, g, be, m, v) }""".replace("float", np.dtype(dtype).name)
    text = text.replace("float64", "double")
    constants = {"w": normal(6, 4, 1, 1), "b": normal(6), **batchnorm(6)}
    before = parse(text, {name: values.astype(dtype) for name, values in constants.items()})
    after, _ = transform(before, FoldBatchnorm())
    assert ops(after) == ["Conv"]
    assert {np.dtype(c.dtype) for c in after.constants()} == {np.dtype(dtype)}
    feed = feed_for(before)
    wanted, got = (ReferenceEvaluator(model.to_proto()).run(None, feed)[0] for model in (before, after))
    assert got.dtype == dtype
    np.testing.assert_allclose(got, wanted, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("trans", [0, 1])
def test_folds_gemm(trans: int) -> None:
    text = f"""g (float[N, 4] x) => (float[N, 6] y) {{
        c = Gemm <transB = {trans}, alpha = 0.5, beta = 3.0> (x, w, b)
        y = BatchNormalization <epsilon = 0.1> (c, g, be, m, v) }}"""
    before = parse(text, {"w": normal(6, 4) if trans else normal(4, 6), "b": normal(6), **batchnorm(6)})
    after, _ = transform(before, FoldBatchnorm())
    assert ops(after) == ["Gemm"]
    assert_same_numbers(before, after)


def test_shared_weight_stays_for_its_other_user() -> None:
    text = """g (float[N, 4, 5, 5] x) => (float[N, 6, P, Q] y, float[N, 6, P, Q] z) {
        c = Conv(x, w) y = BatchNormalization(c, g, be, m, v) z = Conv(x, w) }"""
    before = parse(text, {"w": normal(6, 4, 1, 1), **batchnorm(6)})
    after, _ = transform(before, FoldBatchnorm())
    assert ops(after) == ["Conv", "Conv"]
    assert_same_numbers(before, after)


def test_shared_gemm_weight_and_bias_stay_for_their_other_user() -> None:
    text = """g (float[N, 4] x) => (float[N, 6] y, float[N, 6] z) {
        c = Gemm <beta = 2.0> (x, w, b) y = BatchNormalization(c, g, be, m, v) z = Gemm(x, w, b) }"""
    before = parse(text, {"w": normal(4, 6), "b": normal(1, 6), **batchnorm(6)})
    after, _ = transform(before, FoldBatchnorm())
    assert ops(after) == ["Gemm", "Gemm"]
    assert {"w", "b"} <= {c.name for c in after.constants()}
    assert_same_numbers(before, after)


def test_both_of_two_sharing_convs_fold() -> None:
    text = """g (float[N, 4, 5, 5] x) => (float[N, 6, P, Q] y, float[N, 6, P, Q] z) {
        t = Tanh(x)
        c = Conv(x, w, b) y = BatchNormalization(c, g, be, m, v)
        d = Conv(t, w, b) z = BatchNormalization(d, be, g, m, v) }"""
    before = parse(text, {"w": normal(6, 4, 1, 1), "b": normal(6), **batchnorm(6)})
    after, _ = transform(before, FoldBatchnorm())
    assert ops(after) == ["Tanh", "Conv", "Conv"]
    # the common weight has no reader left and is gone
    assert len(list(after.constants())) == 4
    assert_same_numbers(before, after)


def test_a_weight_that_a_subgraph_captures_stays() -> None:
    text = """g (float[1, 4, 5, 5] x, bool k) => (float[1, 6, 5, 5] y, float[1, 6, 5, 5] z) {
        c = Conv(x, w) y = BatchNormalization(c, g, be, m, v)
        z = If (k) <
            then_branch = t () => (float[1, 6, 5, 5] p) { p = Conv(x, w) },
            else_branch = e () => (float[1, 6, 5, 5] q) {
                d = Conv(x, w) q = BatchNormalization(d, g, be, m, v) }
        > }"""
    before = parse(text, {"w": normal(6, 4, 1, 1), **batchnorm(6)})
    for i, node in enumerate(n for n in before.all_nodes() if not n.name):
        node.name = f"inner{i}"
    after, records = transform(before, FoldBatchnorm())
    assert records[0].changes == 2
    assert [node.op for node in after.all_nodes()] == ["Conv", "If", "Conv", "Conv"]
    for k in (True, False):
        assert_same_numbers(before, after, [{**feed_for(before), "k": np.array(k)}])


def test_refuses_a_conv_with_another_reader() -> None:
    text = """g (float[N, 4, 5, 5] x) => (float[N, 6, P, Q] y, float[N, 6, P, Q] z) {
        c = Conv(x, w) y = BatchNormalization(c, g, be, m, v) z = Relu(c) }"""
    after, records = transform(parse(text, {"w": normal(6, 4, 1, 1), **batchnorm(6)}), FoldBatchnorm())
    assert ops(after) == ["Conv", "BatchNormalization", "Relu"]
    assert refusals(records) == ["'c', output of Conv 'n0_Conv', is also used by 'n2_Relu'"]


def test_refuses_a_computed_weight() -> None:
    text = """g (float[N, 4, 5, 5] x, float[6, 4, 1, 1] w) => (float[N, 6, P, Q] y) {
        c = Conv(x, w) y = BatchNormalization(c, g, be, m, v) }"""
    after, records = transform(parse(text, batchnorm(6)), FoldBatchnorm())
    assert ops(after) == ["Conv", "BatchNormalization"]
    assert refusals(records) == ["weight 'w' of Conv 'n0_Conv' is not constant"]


def test_refuses_training_mode() -> None:
    text = """g (float[N, 4, 5, 5] x) => (float[N, 6, P, Q] y) {
        c = Conv(x, w) y, mo, vo = BatchNormalization <training_mode = 1> (c, g, be, m, v) }"""
    after, records = transform(parse(text, {"w": normal(6, 4, 1, 1), **batchnorm(6)}), FoldBatchnorm())
    assert "BatchNormalization" in ops(after)
    assert refusals(records) == ["BatchNormalization 'n1_BatchNormalization' is in training mode"]


CONV = "g (float[N, 4, 5, 5] x) => (float[N, 6, P, Q] y) { c = Conv(x, w) y = BatchNormalization(c, g, be, m, v) }"


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("v", -1.0, "variance + epsilon of BatchNormalization 'n1_BatchNormalization' is not positive in channel 2"),
        ("v", np.nan, "variance + epsilon of BatchNormalization 'n1_BatchNormalization' is not positive in channel 2"),
        ("g", np.inf, "scale for Conv 'n0_Conv' is not finite in channel 2"),
        ("m", np.nan, "shift for Conv 'n0_Conv' is not finite in channel 2"),
        ("g", 3e38, "weight 'w' of Conv 'n0_Conv' overflows float32 in channel 2"),
        ("be", -np.inf, "shift for Conv 'n0_Conv' is not finite in channel 2"),
    ],
)
def test_refuses_numbers_that_do_not_fold(name: str, value: float, reason: str) -> None:
    constants = {"w": 4 + RNG.random((6, 4, 1, 1), np.float32), **batchnorm(6)}
    constants[name][2] = value
    after, records = transform(parse(CONV, constants), FoldBatchnorm())
    assert ops(after) == ["Conv", "BatchNormalization"]
    assert refusals(records) == [reason]


def test_refuses_a_weight_that_holds_nan() -> None:
    weight = normal(6, 4, 1, 1)
    weight[3, 1] = np.nan
    _, records = transform(parse(CONV, {"w": weight, **batchnorm(6)}), FoldBatchnorm())
    assert refusals(records) == ["weight 'w' of Conv 'n0_Conv' holds NaN or infinity"]


@pytest.mark.parametrize(
    ("gamma", "reason"),
    [
        (60000.0, "weight 'w' of Conv 'n0_Conv' overflows float16 in channel 2"),
        (1e-5, "weight 'w' of Conv 'n0_Conv' leaves the normal range of float16 in channel 2"),
    ],
)
def test_refuses_a_scale_that_float16_cannot_hold(gamma: float, reason: str) -> None:
    constants = {"w": np.full((6, 4, 1, 1), 2.0), **batchnorm(6)}
    constants["g"][2] = gamma
    text = CONV.replace("float", "float16")
    half = {name: values.astype(np.float16) for name, values in constants.items()}
    _, records = transform(parse(text, half), FoldBatchnorm())
    assert refusals(records) == [reason]


def test_refuses_a_bias_that_float16_cannot_hold() -> None:
    constants = {"w": np.ones((6, 4, 1, 1)), "m": np.full(6, -60000.0), "v": np.full(6, 0.25)}
    constants |= {"g": np.ones(6), "be": np.zeros(6)}
    half = {name: values.astype(np.float16) for name, values in constants.items()}
    _, records = transform(parse(CONV.replace("float", "float16"), half), FoldBatchnorm())
    assert refusals(records) == ["bias of Conv 'n0_Conv' overflows float16 in channel 0"]


def test_refuses_a_gemm_bias_that_differs_between_rows() -> None:
    text = """g (float[2, 4] x) => (float[2, 6] y) {
        c = Gemm(x, w, b) y = BatchNormalization(c, g, be, m, v) }"""
    _, records = transform(parse(text, {"w": normal(4, 6), "b": normal(2, 6), **batchnorm(6)}), FoldBatchnorm())
    assert refusals(records) == ["bias 'b' of Gemm 'n0_Gemm' differs between rows"]


def test_refuses_bfloat16() -> None:
    constants = {"w": normal(6, 4, 1, 1), **batchnorm(6)}
    small = {name: values.astype(ml_dtypes.bfloat16) for name, values in constants.items()}
    _, records = transform(parse(CONV.replace("float", "bfloat16"), small, opset=22), FoldBatchnorm())
    assert refusals(records) == ["'g' of BatchNormalization 'n1_BatchNormalization' is bfloat16 of shape [6]"]


def test_refuses_an_old_batchnorm_in_training_and_per_position() -> None:
    constants = {"w": normal(6, 4, 1, 1), **batchnorm(6)}
    _, records = transform(parse(CONV, constants, opset=6), FoldBatchnorm())
    assert refusals(records) == ["BatchNormalization 'n1_BatchNormalization' is in training mode"]
    text = CONV.replace("BatchNormalization(", "BatchNormalization <spatial = 0> (")
    _, records = transform(parse(text, constants, opset=7), FoldBatchnorm())
    assert refusals(records) == ["BatchNormalization 'n1_BatchNormalization' has statistics for every position"]


def test_zero_gamma_gives_a_constant_channel() -> None:
    constants = {"w": normal(6, 4, 1, 1), **batchnorm(6)}
    constants["g"][1] = 0
    before = parse(CONV, constants)
    after, _ = transform(before, FoldBatchnorm())
    assert ops(after) == ["Conv"]
    assert_same_numbers(before, after)
