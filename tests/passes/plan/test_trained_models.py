"""Models trained with quantization, whole: where pairs stand, who reads them, and what gets lost."""

from __future__ import annotations

import numpy as np

from qcompiler import ir
from qcompiler.quant import PerAxis, Site
from tests.graphs import run
from tests.quantized import quantize
from tests.small import normal
from tests.trained import (
    CONVS,
    FIRST,
    LAST,
    OUT,
    SECOND,
    adopted,
    compiled,
    pair,
    steps_apart,
    trained,
    weights,
)


# ---- shapes of graphs
def test_residual_branches() -> None:
    body = f"""{FIRST}
        a = Conv<pads = [1, 1, 1, 1]>(xd, wd, b1) r = Relu(a) {pair("rd", "r", "rs", "rz")}
        {SECOND} c = Conv<pads = [1, 1, 1, 1]>(rd, vd, b2) {pair("cd", "c", "ys", "yz")}
        s = Add(cd, rd) t = Relu(s) {pair("td", "t", "ys", "rz")}
        d = Conv<pads = [1, 1, 1, 1]>(td, vd, b2) {pair("y", "d", "ys", "yz")}"""
    model = trained(body)
    found = compiled(model)
    assert steps_apart(model, found, 0.06) <= 1.01
    assert steps_apart(model, found, 0.06, optimize=True) <= 2.01
    ops = found.optimised().ops
    assert (ops["QLinearConv"], ops["QLinearAdd"]) == (3, 1)


def test_pairs_around_a_pool_keep_one_encoding() -> None:
    body = f"""{FIRST}
        a = Conv<pads = [1, 1, 1, 1]>(xd, wd, b1) r = Relu(a) {pair("rd", "r", "rs", "rz")}
        p = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(rd) {pair("pd", "p", "rs", "rz")}
        {SECOND} c = Conv(pd, vd, b2) {LAST}"""
    model = trained(body)
    found = compiled(model)
    assert found.plan.root(Site("p")) == Site("r")
    assert steps_apart(model, found, 0.06) <= 1.01
    assert found.optimised().ops["NhwcMaxPool"] == 1


def test_a_pair_behind_the_pool_alone_serves_the_result_before_it() -> None:
    """As NVIDIA's tools place them: at the inputs of Conv."""
    body = f"""{FIRST}
        a = Conv<pads = [1, 1, 1, 1]>(xd, wd, b1) r = Relu(a)
        p = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(r) {pair("pd", "p", "rs", "rz")}
        {SECOND} c = Conv(pd, vd, b2) {LAST}"""
    model = trained(body)
    found = compiled(model)
    assert {n for n, d in found.plan.nodes.items() if d.precision == "int8"} == {
        "Conv_a",
        "Relu_r",
        "MaxPool_p",
        "Conv_c",
    }
    assert steps_apart(model, found, 0.06) <= 1.01
    assert found.optimised().fallback == ()


def test_one_dequantizer_with_several_readers() -> None:
    body = f"""{FIRST} a = Conv(xd, wd, b1)
        d = Conv(xd, wd, b2) {pair("ad", "a", "ys", "yz")} {pair("dd", "d", "ys", "yz")}
        s = Add(ad, dd) {pair("sd", "s", "ys", "yz")}
        {SECOND} c = Conv(sd, vd) {LAST}"""
    model = trained(body)
    _, given, _ = adopted(model)
    assert {str(s) for s in given if s.tensor in ("x", "w1_float")} == {
        "x", "x@Conv_a:0", "x@Conv_d:0", "w1_float", "w1_float@Conv_a:1", "w1_float@Conv_d:1",
    }  # fmt: skip
    assert steps_apart(model, compiled(model), 0.06) <= 1.01


def test_one_quantizer_with_several_dequantizers() -> None:
    """As PyTorch exports: a DequantizeLinear for each reader, here one of them the graph's output."""
    body = f"""{FIRST} a = Conv(xd, wd, b1) r = Relu(a)
        q = QuantizeLinear(r, rs, rz) r1 = DequantizeLinear(q, rs, rz) r2 = DequantizeLinear(q, rs, rz)
        {SECOND} c = Conv(r1, vd) {LAST}"""
    model = trained(body, outputs=f"{OUT}, float[N, M, R, S] r2")
    after, given, record = adopted(model)
    assert [n.op for n in after.nodes] == ["Conv", "Relu", "Conv"]
    assert record.changes == 6
    assert Site("r2") in given
    assert Site("r2", "Conv_c", 0) in given
    assert not any(site.tensor == "r" for site in given)
    assert steps_apart(model, compiled(model), 0.06) <= 1.01


def test_another_float_reader_sees_the_stored_value() -> None:
    body = f"""{FIRST} a = Conv(xd, wd, b1)
        {pair("ad", "a", "ys", "yz")} f = Tanh(a) {SECOND} c = Conv(ad, vd)
        {LAST}"""
    model = trained(body, outputs=f"{OUT}, float[N, M, R, S] f")
    _, given, _ = adopted(model)
    assert Site("a") not in given
    found = compiled(model)
    assert {n for n, d in found.plan.nodes.items() if d.precision == "int8"} == {"Conv_a", "Conv_c"}
    y, f = found.outputs()
    wanted_y, wanted_f = run(model, found.feeds[0])
    assert np.abs(np.asarray(y) - wanted_y).max() <= 0.0601
    assert np.abs(np.asarray(f) - wanted_f).max() <= 0.03 + 1e-6


def test_transposed_weights() -> None:
    """As exporters write a linear layer on more than matrices."""
    codes, scales = weights(10, 16)
    body = f"""{pair("xd", "x", "xs", "xz")} wd = DequantizeLinear<axis = 0>(wt, ws, z10)
        t = Transpose<perm = [1, 0]>(wd) p = MatMul(xd, t) y = Add(p, nb)"""
    constants = {"wt": codes, "ws": scales, "z10": np.zeros(10, np.int8), "nb": normal(10)}
    model = trained(body, "float[2, 5, 16] x", "float[2, 5, 10] y", **constants)
    after, given, _ = adopted(model)
    assert [n.op for n in after.nodes] == ["MatMul", "Add"]
    weight = given[Site("wt_float_transposed", "MatMul_p", 1)]
    assert weight.spec.granularity == PerAxis(1)
    found = compiled(model)
    stored = next(ir.array(c) for c in found.model.constants() if c.name == "wt_float_transposed_q")
    np.testing.assert_array_equal(stored, codes.T)
    assert steps_apart(model, found, 1.0) < 1e-4
    assert found.optimised().fallback == ()
    dynamic = compiled(model, only_given=False, precision="w8")
    stored = next(ir.array(c) for c in dynamic.model.constants() if c.name == "wt_float_transposed_q")
    np.testing.assert_array_equal(stored, codes.T)


def test_dynamic_matrices_keep_asymmetric_weights() -> None:
    codes, scales = weights(16, 10, axis=1, dtype=np.uint8)
    zeros = np.arange(120, 130).astype(np.uint8)
    body = "wd = DequantizeLinear<axis = 1>(wq, ws, wz) y = MatMul(x, wd)"
    model = trained(body, "float[5, 16] x", "float[5, 10] y", wq=codes, ws=scales, wz=zeros)
    found = compiled(model, only_given=False, precision="w8")
    expected = run(model, found.feeds[0])[0]
    for optimize in (False, True):
        np.testing.assert_allclose(found.outputs(optimize=optimize)[0], expected, atol=0.02 * np.abs(expected).max())
    assert found.optimised().fallback == ()


# ---- given and lost
def test_without_data_nodes_without_encodings_stay_float() -> None:
    body = CONVS.replace(pair("y", "c", "ys", "yz"), "y = Sigmoid(c)")
    model = trained(body)
    found = compiled(model)
    assert found.plan.nodes["Conv_a"].precision == "int8"
    assert found.plan.nodes["Conv_c"].precision == "float"
    assert found.plan.nodes["Conv_c"].reason == (
        "the model gives no encoding for 'c', and there is no calibration data"
    )
    assert steps_apart(model, found, 1.0) < 0.01
    with_data = compiled(model, only_given=False)
    assert with_data.plan.nodes["Conv_c"].precision == "int8"


def test_encodings_of_tensors_that_are_gone_do_no_harm() -> None:
    after, given, _ = adopted(trained(CONVS))
    lost = {Site(f"gone_{site.tensor}", site.consumer, site.port): e for site, e in given.items()}
    found = quantize(after, given=lost)
    assert found.optimised().fallback == ()
    assert not any("as trained" in d.why for d in found.plan.sites.values())


def test_a_node_kept_float_although_given() -> None:
    after, given, _ = adopted(trained(CONVS))
    found = quantize(after, given=given, only_given=True, keep_float=("Conv_c",))
    assert found.plan.nodes["Conv_c"].precision == "float"
    assert found.plan.nodes["Conv_a"].precision == "int8"
    assert found.optimised().surprises == ()


def test_weights_with_scales_along_another_axis_are_encoded_anew() -> None:
    codes, scales = weights(16, 10, axis=0)
    body = f"{pair('xd', 'x', 'xs', 'xz')} wd = DequantizeLinear<axis = 0>(wq, ws, wz) y = MatMul(xd, wd)"
    constants = {"wq": codes, "ws": scales, "wz": np.zeros(16, np.int8)}
    model = trained(body, "float[5, 16] x", "float[5, 10] y", **constants)
    found = compiled(model)
    weight = found.plan.sites[Site("wq_float", "MatMul_y", 1)].encoding
    assert weight is not None
    assert (weight.scale.shape, weight.method) == ((10,), "minmax")
    expected = run(model, found.feeds[0])[0]
    np.testing.assert_allclose(found.outputs()[0], expected, atol=0.02 * np.abs(expected).max())
