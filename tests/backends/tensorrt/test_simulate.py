"""What ONNX Runtime runs in place of NVFP4 and bfloat16, against the reference evaluator and NumPy."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from ml_dtypes import bfloat16, float4_e2m1fn, float8_e4m3fn
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

from qcompiler import ir
from qcompiler.analysis import Runner, SessionConfig
from qcompiler.backends.tensorrt.backend import TensorRT
from qcompiler.backends.tensorrt.simulate import simulated
from qcompiler.passes.lower.two_levels import DOMAIN, DYNAMIC
from qcompiler.search.candidates import Drafter
from tests.quantized import Seen

FACTOR = np.float32(0.01)


class TRT_FP4DynamicQuantize(OpRun):
    """The operator, written from its description: blocks of the last axis, FP8 scales."""

    op_domain = DOMAIN

    def _run(self, x, factor, axis=-1, block_size=16, scale_type=17):  # type: ignore[no-untyped-def]
        blocks = x.astype(np.float32).reshape(*x.shape[:-1], -1, block_size)
        wanted = np.abs(blocks).max(-1) / np.float32(6) / factor
        scale = np.minimum(wanted, np.float32(448)).astype(float8_e4m3fn)
        step = np.maximum(scale.astype(np.float32) * factor, np.finfo(np.float32).tiny)[..., None]
        return (blocks / step).astype(float4_e2m1fn).reshape(x.shape), scale


def dynamic_model() -> onnx.ModelProto:
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        [
            helper.make_node(
                DYNAMIC, ["x", "f"], ["q", "s"], name="quantize", domain=DOMAIN, axis=-1, block_size=16, scale_type=17
            ),
            helper.make_node("DequantizeLinear", ["s", "f"], ["t"], name="scales"),
            helper.make_node("DequantizeLinear", ["q", "t"], ["y"], name="values", axis=-1, block_size=16),
        ],
        "g", [info("x", TensorProto.FLOAT, [3, 32])], [info("y", TensorProto.FLOAT, [3, 32])],
        [onnx.numpy_helper.from_array(FACTOR, "f")],
    )  # fmt: skip
    opsets = [helper.make_opsetid("", 23), helper.make_opsetid(DOMAIN, 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=11)


RUNNER = Runner(simulated(ir.Model.from_proto(dynamic_model())), SessionConfig())
REFERENCE = ReferenceEvaluator(dynamic_model(), new_ops=[TRT_FP4DynamicQuantize])


@settings(max_examples=60)
@given(hnp.arrays(np.float32, (3, 32), elements=st.floats(-25, 25, width=32)))
def test_dynamic_fp4_is_that_of_the_reference_evaluator(x: np.ndarray) -> None:
    (wanted,) = REFERENCE.run(None, {"x": x})
    np.testing.assert_allclose(RUNNER.run({"x": x})["y"], wanted, rtol=1e-6, atol=1e-12)


def test_ties_go_to_even() -> None:
    x = np.zeros((3, 32), np.float32)
    x[0, :8] = [6, 0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5]
    x[1] = -x[0]
    scale = float(np.float32(1 / FACTOR).astype(float8_e4m3fn)) * FACTOR
    wanted = [6, 0, 1, 1, 2, 2, 4, 4]
    x *= scale
    got = RUNNER.run({"x": x})["y"]
    np.testing.assert_allclose(got[0, :8] / scale, wanted, rtol=1e-5)
    np.testing.assert_allclose(got[1], -got[0])
    assert not got[2].any()


@pytest.mark.parametrize("precision", ["nvfp4", "bf16"])
def test_whole_models(precision: str) -> None:
    rng = np.random.default_rng(0)
    proto = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["" : 21]> g (float[4, 64] x) => (float[4, 32] y) '
        "{ a = MatMul(x, v) b = Relu(a) y = MatMul(b, w) }"
    )
    for number, node in enumerate(proto.graph.node):
        node.name = f"n{number}"
    for name, shape in (("v", (64, 48)), ("w", (48, 32))):
        proto.graph.initializer.append(onnx.numpy_helper.from_array(rng.normal(size=shape).astype(np.float32), name))
    model = ir.Model.from_proto(onnx.shape_inference.infer_shapes(proto))
    feed = {"x": rng.normal(size=(4, 64)).astype(np.float32)}
    backend = TensorRT("sm120")
    drafter = Drafter(model, backend)
    found = drafter.candidate(drafter.draft(precision), Seen.of(model, ["x", "a", "b", "y"], [feed]), "minmax", {})
    assert found.simulated is not None
    got = Runner(found.simulated, SessionConfig()).run(feed)["y"]
    if precision == "nvfp4":
        proto = found.model.to_proto()
        wanted = ReferenceEvaluator(proto, new_ops=[TRT_FP4DynamicQuantize]).run(None, feed)[0]
        np.testing.assert_allclose(got, wanted, rtol=2e-2, atol=2e-1)
        assert np.square(got - wanted).sum() < 1e-4 * np.square(wanted).sum()
    else:
        x, v, w = feed["x"], *(ir.array(c) for c in model.constants())

        def narrow(a: np.ndarray) -> np.ndarray:
            return a.astype(bfloat16).astype(np.float32)

        wanted = narrow(narrow(np.maximum(narrow(narrow(x) @ narrow(v)), 0)) @ narrow(w))
        np.testing.assert_allclose(got, wanted, rtol=2e-2, atol=2e-2)


def test_a_model_that_runs_as_it_is_stays_as_it_is() -> None:
    text = '<ir_version: 10, opset_import: ["" : 21]> g (float[2] x) => (float[2] y) { y = Relu(x) }'
    model = ir.Model.from_proto(onnx.parser.parse_model(text))
    assert simulated(model) is model
