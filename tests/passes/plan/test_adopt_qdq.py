"""adopt-qdq: models that were trained with quantization keep their numbers, and run in integer kernels."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from qcompiler import ir
from qcompiler.backends import get
from qcompiler.passes.plan.annotate import Annotate
from qcompiler.pipeline import Pipeline
from qcompiler.quant import PerAxis, QuantPlan, Site
from tests.graphs import run
from tests.trained import (
    CONVS,
    FIRST,
    IMAGE,
    LAST,
    S1,
    SECOND,
    W1,
    W2,
    adopted,
    compiled,
    pair,
    steps_apart,
    trained,
    weights,
)


# ---- what is taken out
def test_pairs_go_and_leave_their_encodings() -> None:
    after, given, record = adopted(trained(CONVS))
    assert [n.op for n in after.nodes] == ["Conv", "Relu", "Conv"]
    assert record.changes == 5
    assert record.refusals == []
    assert [t.name for t in after.outputs] == ["y"]
    assert set(map(str, given)) == {
        "x@Conv_a:0", "x", "w1_float@Conv_a:1", "w1_float", "r@Conv_c:0", "r", "w2_float@Conv_c:1", "w2_float", "y",
    }  # fmt: skip
    x, w = given[Site("x")], given[Site("w1_float", "Conv_a", 1)]
    assert (float(x.scale), int(x.zero_point), str(x.spec.qtype)) == (np.float32(0.03), 128, "uint8")
    np.testing.assert_array_equal(w.scale, S1)
    assert w.spec.granularity == PerAxis(0)
    weight = next(c for c in after.constants() if c.name == "w1_float")
    np.testing.assert_array_equal(ir.array(weight), W1.astype(np.float32) * S1.reshape(-1, 1, 1, 1))


def test_uint8_models_give_the_same_outputs_in_integer_kernels() -> None:
    model = trained(CONVS)
    found = compiled(model)
    assert steps_apart(model, found, 0.06) <= 1.01
    assert steps_apart(model, found, 0.06, optimize=True) <= 1.01
    conformance = found.optimised()
    assert conformance.fallback == ()
    assert conformance.ops["QLinearConv"] == 2


def test_codes_and_scales_are_those_of_the_model() -> None:
    found = compiled(trained(CONVS))
    constants = {c.name: ir.array(c) for c in found.model.constants()}
    np.testing.assert_array_equal(constants["w1_float_q"], W1)
    np.testing.assert_array_equal(constants["w2_float_q"], W2)
    scales = {str(site): d.encoding.scale for site, d in found.plan.sites.items() if d.encoding is not None}
    np.testing.assert_array_equal(scales["w1_float@Conv_a:1"], S1)
    assert scales["x@Conv_a:0"] == np.float32(0.03)
    assert scales["r"] == np.float32(0.02)
    assert scales["y"] == np.float32(0.06)
    assert all("as trained" in d.why for d in found.plan.sites.values() if d.derived is None)


def test_signed_activations_are_stored_unsigned_and_run_in_integers() -> None:
    """As TensorFlow trains: int8 with any zero point."""
    model = trained(CONVS.replace("xz", "xzs").replace("rz", "rzs").replace("yz", "yzs"))
    found = compiled(model)
    assert steps_apart(model, found, 0.06) <= 1.01
    assert steps_apart(model, found, 0.06, optimize=True) <= 1.01
    zeros = {
        str(s): int(d.encoding.zero_point)
        for s, d in found.plan.sites.items()
        if d.encoding and not d.encoding.scale.ndim
    }
    assert zeros == {"x@Conv_a:0": 128, "r": 0, "y": 120}
    assert found.optimised().fallback == ()


SYMMETRIC = CONVS.replace("xz", "xzs").replace("rz", "xzs").replace("yz", "xzs")


def test_symmetric_activations_behind_relu_with_statistics() -> None:
    """As NVIDIA's tools train: int8 with zero point 0, also behind Relu. The steps stay where nothing saturates."""
    model = trained(SYMMETRIC, rs=np.float32(0.2))
    found = compiled(model, only_given=False)
    encoding = found.plan.sites[Site("r")].encoding
    assert encoding is not None
    assert (float(encoding.scale), int(encoding.zero_point)) == (np.float32(0.2), 0)
    assert steps_apart(model, found, 0.06) <= 1.01
    assert steps_apart(model, found, 0.06, optimize=True) <= 1.01
    assert found.optimised().fallback == ()


def test_symmetric_activations_behind_relu_without_statistics() -> None:
    """The end of the range stays, in finer steps, since values may saturate there."""
    model = trained(SYMMETRIC)
    found = compiled(model)
    encoding = found.plan.sites[Site("r")].encoding
    assert encoding is not None
    assert float(encoding.scale) == pytest.approx(0.02 * 127 / 255)
    assert int(encoding.zero_point) == 0
    assert steps_apart(model, found, 0.06, often=0.15) <= 2.01
    assert found.optimised().fallback == ()
    expected, got = run(model, found.feeds[0])[0], found.outputs()[0]
    assert np.square(np.asarray(got) - expected).mean() < 1e-3 * np.square(expected).mean()


def test_float_weights_behind_both() -> None:
    weight = (W1.astype(np.float32) + 0.3) * S1.reshape(-1, 1, 1, 1)
    body = CONVS.replace("wd = Dequantize", "wq = QuantizeLinear<axis = 0>(wf, s1, z8) wd = Dequantize").replace(
        "(w1, s1", "(wq, s1"
    )
    model = trained(body, wf=weight)
    found = compiled(model)
    np.testing.assert_array_equal(next(ir.array(c) for c in found.model.constants() if c.name == "wf_q"), W1)
    assert steps_apart(model, found, 0.06) <= 1.01
    assert found.optimised().fallback == ()


def test_integer_biases() -> None:
    scale = (np.float32(0.03) * S1).astype(np.float32)
    codes = np.random.default_rng(0).integers(-(10**5), 10**5, 8).astype(np.int32)
    body = CONVS.replace("a = Conv", "bd = DequantizeLinear<axis = 0>(bq, bs) a = Conv").replace("wd, b1", "wd, bd")
    model = trained(body, bq=codes, bs=scale)
    found = compiled(model)
    np.testing.assert_array_equal(next(ir.array(c) for c in found.model.constants() if c.name == "bq_float_q"), codes)
    assert steps_apart(model, found, 0.06) <= 1.01


def test_an_integer_bias_that_is_added_is_no_given_operand() -> None:
    """Its scale is far too fine for 8 bits: it must be encoded anew where an Add reads it."""
    body = f"""{FIRST} a = Conv(xd, wd)
        {pair("ad", "a", "ys", "yz")} bd = DequantizeLinear(bq, bs) s = Add(ad, bd) {pair("sd", "s", "ys", "yz")}
        {SECOND} c = Conv(sd, vd) {LAST}"""
    codes = np.random.default_rng(0).integers(-(10**5), 10**5, (8, 1, 1)).astype(np.int32)
    model = trained(body, bq=codes, bs=np.float32(1e-5))
    _, given, _ = adopted(model)
    assert not any(site.tensor.startswith("bq") for site in given)
    found = compiled(model)
    assert steps_apart(model, found, 0.06) <= 2


def test_one_scale_for_the_whole_weight() -> None:
    body = CONVS.replace("DequantizeLinear<axis = 0>(w1, s1, z8)", "DequantizeLinear(w1, s0, xzs)")
    model = trained(body, s0=np.float32(0.002))
    found = compiled(model)
    weight = found.plan.sites[Site("w1_float", "Conv_a", 1)].encoding
    assert weight is not None
    assert weight.scale.shape == ()
    assert steps_apart(model, found, 0.06) <= 1.01
    assert found.optimised().fallback == ()


def test_unsigned_weights_become_signed() -> None:
    codes, scales = weights(8, 4, 3, 3, dtype=np.uint8)
    model = trained(CONVS.replace("(w1, s1, z8)", "(u1, s1, zu)"), u1=codes, zu=np.full(8, 128, np.uint8), s1=scales)
    found = compiled(model)
    stored = next(ir.array(c) for c in found.model.constants() if c.name == "u1_float_q")
    np.testing.assert_array_equal(stored.astype(int), codes.astype(int) - 128)
    assert steps_apart(model, found, 0.06) <= 1.01
    assert found.optimised().fallback == ()


# ---- 16 bits
WIDE = CONVS.replace("xs, xz", "ws, wz").replace("rs, rz", "vs, vz").replace("ys, yz", "us, uz")
WIDE_GRIDS = {
    "ws": np.float32(1e-4), "wz": np.uint16(30000), "vs": np.float32(8e-5), "vz": np.uint16(0),
    "us": np.float32(2e-4), "uz": np.uint16(32768),
}  # fmt: skip


def test_pairs_of_16_bits_go_too() -> None:
    after, given, record = adopted(trained(WIDE, **WIDE_GRIDS))
    assert [n.op for n in after.nodes] == ["Conv", "Relu", "Conv"]
    assert record.refusals == []
    assert {str(given[Site(name)].spec.qtype) for name in ("x", "r", "y")} == {"uint16"}


def test_a_target_of_16_bits_keeps_their_grids() -> None:
    model, given, _ = adopted(trained(WIDE, **WIDE_GRIDS))
    plan = Pipeline().plan(model, QuantPlan(), [Annotate(get("qnn").spec, "w8a16", given=given, only_given=True)])
    for name, (scale, zero) in {"x": ("ws", "wz"), "r": ("vs", "vz"), "y": ("us", "uz")}.items():
        found = next(d.encoding for s, d in plan.sites.items() if s.tensor == name and d.encoding is not None)
        assert (found.scale, found.zero_point) == (WIDE_GRIDS[scale], WIDE_GRIDS[zero])
        assert str(found.spec.qtype) == "uint16"


def test_a_target_of_8_bits_takes_their_range_where_nothing_else_is_known() -> None:
    model = trained(WIDE, **WIDE_GRIDS)
    found = compiled(model)
    assert found.optimised().ops["QLinearConv"] == 2
    encoding = found.plan.sites[Site("x", "Conv_a", 0)].encoding
    assert encoding is not None
    np.testing.assert_allclose(encoding.range, (-3.0, 3.5535), atol=0.02)
    assert steps_apart(model, found, 0.06, often=0.2) <= 1.6
    calibrated = compiled(model, only_given=False).plan.sites[Site("x", "Conv_a", 0)].encoding
    assert calibrated is not None
    assert calibrated.method != "given"


def test_a_symmetric_grid_of_16_bits_is_made_of_one_that_is_not() -> None:
    """QNN's second operands are int16 around 0."""
    body = f"{pair('a', 'x', 'ws', 'wz')} {pair('b', 'z', 'vs', 'vz')} c = MatMul(a, b) {pair('y', 'c', 'us', 'uz')}"
    model, given, _ = adopted(trained(body, "float[4, 12] x, float[12, 5] z", "float[N, M] y", **WIDE_GRIDS))
    plan = Pipeline().plan(model, QuantPlan(), [Annotate(get("qnn").spec, "w8a16", given=given, only_given=True)])
    found = next(d.encoding for s, d in plan.sites.items() if s.tensor.startswith("z") and d.encoding is not None)
    assert str(found.spec.qtype) == "int16"
    assert int(found.zero_point) == 0
    np.testing.assert_allclose(found.range[1], 65535 * 8e-5, rtol=1e-3)


# ---- what stays
REFUSED = {
    "float8": ("xs, z", {"z": np.zeros((), ml_dtypes.float8_e4m3fn)}, "stores float8_e4m3fn"),
    "computed": ("s, xz", {}, "is computed"),
    "zero scale": ("s0, xz", {"s0": np.float32(0)}, "is not positive"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_pairs_stay(case: str) -> None:
    grid, constants, reason = REFUSED[case]
    body = f"xq = QuantizeLinear(x, {grid}) xd = DequantizeLinear(xq, {grid}) y = Tanh(xd)"
    inputs = f"{IMAGE}, float s" if case == "computed" else IMAGE
    after, given, record = adopted(trained(body, inputs, **constants))
    assert [n.op for n in after.nodes] == ["QuantizeLinear", "DequantizeLinear", "Tanh"]
    assert given == {}
    assert reason in record.refusals[0].reason


def test_pairs_with_two_scales_and_inputs_of_integers_stay() -> None:
    after, _, record = adopted(trained("q = QuantizeLinear(x, xs, xz) y = DequantizeLinear(q, rs, xz)"))
    assert [n.op for n in after.nodes] == ["QuantizeLinear", "DequantizeLinear"]
    assert record.refusals[0].reason == "QuantizeLinear 'QuantizeLinear_q' has another scale or zero point"
    after, _, record = adopted(trained("y = DequantizeLinear(x, xs, xz)", "uint8[1, 4, 12, 12] x"))
    assert record.refusals[0].reason == "'x' is not the result of QuantizeLinear"
    assert [n.op for n in after.nodes] == ["DequantizeLinear"]


def test_a_conv_behind_a_refused_pair_is_compiled_all_the_same() -> None:
    body = f"""xq = QuantizeLinear(x, xs, z) xd = DequantizeLinear(xq, xs, z)
        wd = DequantizeLinear<axis = 0>(w1, s1, z8) a = Conv(xd, wd, b1) {pair("y", "a", "ys", "yz")}"""
    model = trained(body, z=np.zeros((), ml_dtypes.float8_e4m3fn))
    assert compiled(model).plan.nodes["Conv_a"].reason.startswith("the model gives no encoding for 'xd'")
    found = compiled(model, only_given=False)
    assert found.plan.nodes["Conv_a"].precision == "int8"
    expected = run(model, found.feeds[0])[0]
    np.testing.assert_allclose(found.outputs(optimize=True)[0], expected, atol=0.13)


# ---- activations that a tool left to the grid
def test_a_grid_from_zero_cuts_off_what_may_be_negative() -> None:
    """ONNX Runtime's quantizer removes Relu where the zero point is the lowest code."""
    body = f"""{FIRST} a = Conv(xd, wd, b1) {pair("rd", "a", "rs", "rz")} {SECOND} c = Conv(rd, vd, b2) {LAST}"""
    model = trained(body)
    after, given, _ = adopted(model)
    assert [n.op for n in after.nodes] == ["Conv", "Clip", "Conv"]
    clip = after.nodes[1]
    assert [float(ir.array(t)) for t in clip.inputs[1:]] == [0.0, np.float32(255 * np.float32(0.02))]
    assert Site(clip.outputs[0].name, "Conv_c", 0) in given
    found = compiled(model)
    assert steps_apart(model, found, 0.06) <= 1.01
    assert found.optimised().fallback == ()
    assert "Clip" not in found.optimised().ops  # the grid does it again


@pytest.mark.parametrize("front", ["r = Relu(a)", "r = Sigmoid(a)", "s = Relu(a) t = Transpose(s) r = Add(t, t)"])
def test_a_grid_from_zero_behind_what_is_never_negative(front: str) -> None:
    body = f"""{FIRST} a = Conv(xd, wd, b1) {front} {pair("rd", "r", "rs", "rz")} y = Tanh(rd)"""
    after, _, _ = adopted(trained(body))
    assert "Clip" not in [n.op for n in after.nodes]


SEVEN = "xq = QuantizeLinear(x, xs, {zero}) xl = {clip} xd = DequantizeLinear(xl, xs, {zero}) y = Conv(xd, w, b1)"


@pytest.mark.parametrize("zero", ["rz", "sixty"])
@pytest.mark.parametrize("clip", ["Clip(xq, , top)", "Clip(xq, bottom, top)"])
def test_seven_bits_become_the_lower_half_of_int8(clip: str, zero: str) -> None:
    model = trained(SEVEN.format(clip=clip, zero=zero), w=W1.astype(np.float32), top=np.uint8(127), bottom=np.uint8(0),
                    sixty=np.uint8(60))  # fmt: skip
    after, given, record = adopted(model)
    assert [node.op for node in after.nodes] == ["Conv"] and record.changes == 1
    found = given[Site("x")]
    assert str(found.spec.qtype) == "int8" and int(found.zero_point) == (60 if zero == "sixty" else 0)
    assert found.range[1] == pytest.approx(0.03 * (127 - int(found.zero_point)))


@pytest.mark.parametrize("clip", ["Clip(xq, , half)", "Clip(xq, low, top)", "Clip(xq)", "Clip(xq, , live)"])
def test_other_limits_of_codes_stay(clip: str) -> None:
    text = f"live = Cast <to = 2> (high) {SEVEN.format(clip=clip, zero='rz')}"
    model = trained(text, f"{IMAGE}, float high", w=W1.astype(np.float32), half=np.uint8(63), low=np.uint8(1),
                    top=np.uint8(127))  # fmt: skip
    _, given, record = adopted(model)
    assert record.changes == 0 and not given and "is not the result of QuantizeLinear" in record.refusals[0].reason
