"""Constants by blocks and as floats: from the spec to nodes that ONNX Runtime runs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

from qcompiler import ir
from qcompiler.errors import InternalError
from qcompiler.passes.lower.codes import codes_of, np_dtype, values_of
from qcompiler.passes.lower.materialise import Materialise
from qcompiler.passes.plan.encode import Encode, encode_constant
from qcompiler.pipeline import Pipeline
from qcompiler.quant import Encoding, PerAxis, PerBlock, PerTensor, QSpec, QuantPlan, Site, SitePlan
from qcompiler.quant.plan_file import plan_from_json, plan_to_json
from qcompiler.quant.qtype import FP4_E2M1, FP8_E4M3, INT4, UINT4, QType
from tests.graphs import session

SPECS = [
    QSpec(INT4, PerBlock(0, 32), symmetric=True),
    QSpec(INT4, PerBlock(1, 16), symmetric=True, scale="f16"),
    QSpec(UINT4, PerBlock(0, 32)),
    QSpec(FP8_E4M3, PerAxis(1)),
    QSpec(FP8_E4M3, PerTensor()),
    QSpec(FP4_E2M1, PerBlock(0, 16), scale="e4m3"),
]
SITE = Site("w", "mul", 1)


def matmul(opset: int = 21) -> ir.Model:
    """y = x w with K = 80, a multiple of 16 and not of 32."""
    rng = np.random.default_rng(0)
    proto = onnx.parser.parse_model(
        f'<ir_version: 11, opset_import: ["" : {opset}]> g (float[4, 80] x) => (float[4, 48] y) {{ y = MatMul(x, w) }}'
    )
    proto.graph.node[0].name = "mul"
    w = rng.standard_t(4, size=(80, 48)).astype(np.float32)
    proto.graph.initializer.append(onnx.numpy_helper.from_array(w, "w"))
    return ir.Model.from_proto(proto)


def planned(model: ir.Model, spec: QSpec) -> QuantPlan:
    plan = QuantPlan({SITE: SitePlan((spec,), spec, "test")})
    return Pipeline().plan(model, plan, [Encode()])


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_a_model_with_stored_weights_computes_with_their_values(spec: QSpec) -> None:
    model = matmul(23 if spec.qtype is FP4_E2M1 else 21)
    (w,) = model.constants()
    plan = planned(model, spec)
    encoding = plan.sites[SITE].encoding
    assert encoding is not None
    values, exact = values_of(codes_of(w, encoding), encoding), ir.array(w)
    assert np.square(values - exact).sum() < 0.03 * np.square(exact).sum()
    Pipeline().graph(model, [Materialise(plan)])
    proto = model.to_proto()
    onnx.checker.check_model(proto)
    x = np.random.default_rng(1).normal(size=(4, 80)).astype(np.float32)
    if spec.qtype is FP4_E2M1:  # ONNX Runtime has no kernel
        (y,) = ReferenceEvaluator(proto).run(None, {"x": x})
    else:
        (y,) = session(model).run(None, {"x": x})
    np.testing.assert_allclose(y, x @ values, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_the_plan_file_gives_the_same_numbers(spec: QSpec) -> None:
    plan = planned(matmul(), spec)
    before, after = plan.sites[SITE].encoding, plan_from_json(plan_to_json(plan)).sites[SITE].encoding
    assert before is not None and after is not None and before.spec == after.spec
    np.testing.assert_array_equal(before.scale, after.scale)
    np.testing.assert_array_equal(before.zero_point, after.zero_point)
    assert after.zero_point.dtype == np.int32 and after.scale.shape == before.scale.shape


@pytest.mark.parametrize("spec", [SPECS[0], SPECS[5], QSpec(INT4, PerAxis(1), symmetric=True)], ids=str)
def test_few_bits_are_clipped_where_that_is_nearer(spec: QSpec) -> None:
    (w,) = matmul().constants()
    values = ir.array(w)
    found = encode_constant(values, spec)
    wide = replace(found, scale=found.scale * 0 + np.float32(np.abs(values).max() / spec.qtype.high))

    def error(encoding: Encoding) -> float:
        return float(np.square(values_of(codes_of(w, encoding), encoding) - values).sum())

    assert found.method == "mse" and error(found) < 0.7 * error(wide)


def test_a_type_that_onnx_lacks() -> None:
    encoding = encode_constant(np.ones((2, 2), np.float32), QSpec(FP8_E4M3))
    with pytest.raises(InternalError, match="no type int5"):
        np_dtype(replace(encoding, spec=QSpec(QType("int5", "int", 5, -16, 15))))
