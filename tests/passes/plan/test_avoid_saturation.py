"""avoid-saturation: no pair of products leaves int16, and nothing else changes.

`maddubs` is vpmaddubsw of AVX2 in NumPy: the kernels of ONNX Runtime that this host does not run.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from qcompiler import ir
from qcompiler.numerics.histogram import Histogram
from qcompiler.passes.plan import avoid_saturation
from qcompiler.passes.plan.avoid_saturation import AvoidSaturation, codes_of
from qcompiler.passes.plan.derive_bias import DeriveBias
from qcompiler.passes.plan.encode import Encode, encode_constant
from qcompiler.pipeline import Pipeline
from qcompiler.quant import Encoding, PerAxis, PerTensor, QSpec, QuantPlan, Site, SitePlan
from qcompiler.quant.qtype import INT8, UINT8
from tests.graphs import parse
from tests.quantized import Seen, annotate

Codes = npt.NDArray[Any]
CHANNEL = QSpec(INT8, PerAxis(0), symmetric=True)

FORMS = {
    "Conv": ("agraph (float[1, {c}, 8, 8] x) => (float[1, {o}, n, m] y) {{ y = Conv(x, w) }}", 0),
    "MatMul": ("agraph (float[2, {k}] x) => (float[2, {o}] y) {{ y = MatMul(x, w) }}", 1),
    "Gemm": ("agraph (float[2, {k}] x) => (float[2, {o}] y) {{ y = Gemm <transB = 1> (x, w) }}", 0),
}


def maddubs(x: Codes, w: Codes) -> npt.NDArray[np.int64]:
    """Products of rows of uint8 `x` (M, K) and int8 `w` (N, K), pairs from even places saturated to int16."""
    if x.shape[1] % 2:
        x, w = np.pad(x, ((0, 0), (0, 1))), np.pad(w, ((0, 0), (0, 1)))
    products = x.astype(np.int64)[:, None] * w.astype(np.int64)[None]
    pairs = products[..., ::2] + products[..., 1::2]
    return np.clip(pairs, -32768, 32767).sum(-1)


def exact(x: Codes, w: Codes) -> npt.NDArray[np.int64]:
    return x.astype(np.int64) @ w.astype(np.int64).T


def model_of(op: str, w: npt.NDArray[np.float32]) -> tuple[ir.Model, PerAxis]:
    """A model of one product, and the axis of its output channels."""
    text, axis = FORMS[op]
    rows = w.shape[1] if axis == 0 else w.shape[0]
    return parse(text.format(c=rows, k=rows, o=w.shape[axis]), {"w": w}), PerAxis(axis)


def applied(model: ir.Model, encoding: Encoding, x: QSpec | None = None) -> tuple[Encoding, SitePlan, list[str]]:
    """The encoding of the weight behind the pass."""
    node = model.nodes[-1]
    site, read = Site("w", node.name, 1), Site("x", node.name, 0)
    plan = QuantPlan({
        read: SitePlan((x or QSpec(UINT8),), x or QSpec(UINT8), "r"),
        site: SitePlan((encoding.spec,), encoding.spec, "r", "weight", encoding=encoding),
    })  # fmt: skip
    pipeline = Pipeline()
    decision = pipeline.plan(model, plan, [AvoidSaturation()]).sites[site]
    assert decision.encoding is not None
    return decision.encoding, decision, pipeline.trace.notes


def rows_of(op: str, codes: Codes) -> Codes:
    """Codes as ONNX Runtime packs them: (channels, K)."""
    if op == "Conv":
        return np.moveaxis(codes, 1, -1).reshape(codes.shape[0], -1)
    return codes.T if op == "MatMul" else codes


shapes = {
    "Conv": st.tuples(st.integers(1, 5), st.integers(1, 6), st.integers(1, 3), st.integers(1, 3)),
    "MatMul": st.tuples(st.integers(1, 9), st.integers(1, 5)),
    "Gemm": st.tuples(st.integers(1, 5), st.integers(1, 9)),
}
floats = st.floats(-4, 4, width=32)


@pytest.mark.parametrize("op", FORMS)
@settings(max_examples=60)
@given(data=st.data())
def test_no_neighbours_exceed_the_bound_and_other_channels_stay(op: str, data: st.DataObject) -> None:
    w = data.draw(hnp.arrays(np.float32, data.draw(shapes[op]), elements=floats))
    model, axis = model_of(op, w)
    before = encode_constant(w, QSpec(INT8, axis, symmetric=True))
    after, _, notes = applied(model, before)
    old, new = rows_of(op, codes_of(w, before)).astype(int), rows_of(op, codes_of(w, after)).astype(int)

    def worst(codes: Codes) -> Codes:
        found = np.abs(codes[:, :-1] + codes[:, 1:]).max(1, initial=0)
        if op == "Conv":  # the order of ONNX counts, too
            flat = np.moveaxis(codes.reshape(w.shape[0], *w.shape[2:], w.shape[1]), -1, 1).reshape(w.shape[0], -1)
            found = np.maximum(found, np.abs(flat[:, :-1] + flat[:, 1:]).max(1, initial=0))
        return found

    depthwise = op == "Conv" and w.shape[:2] == (1, 1)
    broken = (worst(old) > 128) & (not depthwise)
    assert depthwise or (worst(new) <= 128).all()
    np.testing.assert_array_equal(after.scale[~broken], before.scale[~broken])
    assert (after.scale[broken] > before.scale[broken]).all()
    assert bool(notes) == bool(broken.any())
    # the smallest that will do: one step of float32 less breaks the bound
    for channel in np.flatnonzero(broken):
        scale = after.scale.copy()
        scale[channel] = np.nextafter(scale[channel], np.float32(0))
        less = Encoding(after.spec, scale, after.zero_point, "minmax")
        assert worst(rows_of(op, codes_of(w, less)).astype(int))[channel] > 128


@pytest.mark.parametrize("op", FORMS)
@settings(max_examples=40)
@given(data=st.data())
def test_saturating_hardware_gives_the_exact_result(op: str, data: st.DataObject) -> None:
    w = data.draw(hnp.arrays(np.float32, data.draw(shapes[op]), elements=floats))
    model, axis = model_of(op, w)
    encoding, _, _ = applied(model, encode_constant(w, QSpec(INT8, axis, symmetric=True)))
    if op == "Conv" and w.shape[:2] == (1, 1):
        return
    rows = rows_of(op, codes_of(w, encoding))
    x = data.draw(hnp.arrays(np.uint8, (3, rows.shape[1]), elements=st.sampled_from([0, 1, 128, 254, 255])))
    np.testing.assert_array_equal(maddubs(x, rows), exact(x, rows))


def test_it_would_saturate_without() -> None:
    w = np.array([[1.0, 1.0, -0.5, 0.25], [1.0, -1.0, 0.5, 0.0]], np.float32)
    model, _ = model_of("Gemm", w)
    before = encode_constant(w, CHANNEL)
    after, decision, notes = applied(model, before)
    x = np.full((1, 4), 255, np.uint8)
    old, new = codes_of(w, before), codes_of(w, after)
    assert maddubs(x, old).tolist() == [[32767 + 255 * (-64 + 32), 64 * 255]]
    assert exact(x, old).tolist() == [[254 * 255 + 255 * (-64 + 32), 64 * 255]]
    np.testing.assert_array_equal(maddubs(x, new), exact(x, new))
    # 1 becomes code 64 in the first channel: the smallest scale with round(1 / scale) = 64 is 1 / 64.5
    assert new[0].tolist() == [64, 64, -32, 16]
    np.testing.assert_allclose(after.scale, [1 / 64.5, 1 / 127], rtol=1e-6)
    assert decision.why == (
        "weight; steps up to 1.97 times coarser in 1 of 2 channels: pairs of codes summed up to 254, over 128"
    )
    assert notes == [
        "products of 1 of 1 layers could saturate int16 in pairs: the channels concerned have steps up to 1.97 times "
        "coarser (`why` of each weight)"
    ]


def test_weights_of_opposite_signs_stay() -> None:
    """|w0| + |w1| is 254, but 255 w0 and 255 w1 never come together on one side."""
    w = np.array([[1.0, -1.0, 1.0, -1.0]], np.float32)
    model, _ = model_of("Gemm", w)
    before = encode_constant(w, CHANNEL)
    after, _, notes = applied(model, before)
    assert after is before
    assert notes == []
    x = np.random.default_rng(0).integers(0, 256, (50, 4), np.uint8)
    np.testing.assert_array_equal(maddubs(x, codes_of(w, after)), exact(x, codes_of(w, after)))


def test_depthwise_conv_stays() -> None:
    w = np.ones((4, 1, 3, 3), np.float32)
    text = "agraph (float[1, 4, 8, 8] x) => (float[1, 4, 6, 6] y) { y = Conv <group = 4> (x, w) }"
    before = encode_constant(w, CHANNEL)
    assert applied(parse(text, {"w": w}), before)[0] is before
    # two channels out of each group: a product of matrices
    w = np.ones((4, 1, 3, 3), np.float32)
    text = "agraph (float[1, 2, 8, 8] x) => (float[1, 4, 6, 6] y) { y = Conv <group = 2> (x, w) }"
    after, _, _ = applied(parse(text, {"w": w}), before)
    np.testing.assert_allclose(after.scale, 1 / 64.5, rtol=1e-6)


def test_a_smaller_activation_code_allows_larger_sums() -> None:
    w = np.array([[1.0, 1.0]], np.float32)
    model, _ = model_of("Gemm", w)
    before = encode_constant(w, CHANNEL)
    seven_bits = QSpec(INT8)
    assert applied(model, before, seven_bits)[0] is before  # 127 * 254 = 32258


def test_one_scale_for_all_and_a_zero_point() -> None:
    w = np.array([[1.0, 0.5], [0.75, 0.9]], np.float32)
    model, _ = model_of("MatMul", w)
    spec = QSpec(INT8, PerTensor())
    before = encode_constant(w, spec)
    assert before.zero_point.any()
    after, _, _ = applied(model, before)
    assert not after.zero_point.any()
    assert after.scale.shape == ()
    codes = codes_of(w, after).astype(int)
    assert np.abs(codes[:-1] + codes[1:]).max() <= 128


def test_codes_of_optimised_rounding_go_where_they_saturate() -> None:
    w = np.array([[0.502, 0.502, -1.0, 1.0], [1.0, -0.1, -0.1, 0.1]], np.float32)
    model, _ = model_of("Gemm", w)
    nearest = encode_constant(w, CHANNEL)
    codes = np.array([[65, 64, -127, 127], [127, -13, -12, 12]], np.int8)
    rounded = Encoding(CHANNEL, nearest.scale, nearest.zero_point, "adaround", codes)
    after, _, _ = applied(model, rounded)
    assert after.codes is None
    np.testing.assert_array_equal(after.scale, nearest.scale)  # nearest rounding gives 64 + 64
    kept = Encoding(CHANNEL, nearest.scale, nearest.zero_point, "adaround", np.full(w.shape, 64, np.int8))
    assert applied(model, kept)[0] is kept


def test_a_packing_that_is_not_known_is_bounded_whatever_it_is() -> None:
    w = np.array([[1.0, 0.0, 0.0, 0.9]], np.float32)
    model, _ = model_of("Gemm", w)
    model.nodes[-1].op = "Einsum"
    after, _, _ = applied(model, encode_constant(w, CHANNEL))
    assert np.sort(np.abs(codes_of(w, after).astype(int)).ravel())[-2:].sum() <= 128


def test_a_raised_scale_is_what_the_bias_follows() -> None:
    w = np.array([[1.0, 1.0], [1.0, -1.0]], np.float32)
    text = "agraph (float[2, 2] x) => (float[2, 2] y) { y = Gemm <transB = 1> (x, w, b) }"
    model = parse(text, {"w": w, "b": np.ones(2, np.float32)})

    plan, _ = annotate(model)
    stats = Seen({"x": Histogram.of(np.array([-1, 1], np.float32))})
    name = model.nodes[-1].name
    plan = Pipeline().plan(model, plan, [Encode(stats, "minmax"), AvoidSaturation(), DeriveBias()])
    x, weight, bias = (plan.sites[Site(t, name, i)].encoding for i, t in enumerate("xwb"))
    assert x is not None and weight is not None and bias is not None
    np.testing.assert_array_equal(bias.scale, x.scale * weight.scale)
    np.testing.assert_allclose(weight.scale, [1 / 64.5, 1 / 127], rtol=1e-6)


def test_the_limit_is_that_of_uint8() -> None:
    assert avoid_saturation.INT16 // avoid_saturation.UINT8 == 128
