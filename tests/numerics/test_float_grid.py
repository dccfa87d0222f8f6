"""FP8 and FP4 grids, bit for bit against ONNX Runtime and the ONNX reference evaluator; forms of scales."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from qcompiler.errors import DataError, InternalError
from qcompiler.numerics.float_grid import PHASES, choose_scale, dequantize_float, phase, quantize_float
from qcompiler.numerics.histogram import Histogram
from qcompiler.numerics.scale_forms import fits_half, rounded_scale, two_levels

E4M3 = {"high": 448.0, "dtype": ml_dtypes.float8_e4m3fn}
E5M2 = {"high": 57344.0, "dtype": ml_dtypes.float8_e5m2}
E2M1 = {"high": 6.0, "dtype": ml_dtypes.float4_e2m1fn}
finite = st.floats(-1e6, 1e6, width=32)
positive = st.floats(2.0**-60, 2.0**60, width=32)


def pair(kind: int, opset: int, attributes: dict[str, int] | None = None) -> onnx.ModelProto:
    """QuantizeLinear and DequantizeLinear to a type."""
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        [
            helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"], **(attributes or {})),
            helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"], **(attributes or {})),
        ],
        "qdq",
        [info("x", TensorProto.FLOAT, None), info("s", TensorProto.FLOAT, None)],
        [info("y", TensorProto.FLOAT, None)],
        [helper.make_tensor("z", kind, [], [0.0])],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=11)


SESSIONS = {
    kind: onnxruntime.InferenceSession(pair(kind, 21).SerializeToString())
    for kind in (TensorProto.FLOAT8E4M3FN, TensorProto.FLOAT8E5M2)
}


@given(hnp.arrays(np.float32, st.integers(0, 40), elements=finite), positive)
def test_fp8_is_that_of_onnx_runtime(x: np.ndarray, step: float) -> None:
    scale = np.asarray(step, np.float32)
    for kind, grid in ((TensorProto.FLOAT8E4M3FN, E4M3), (TensorProto.FLOAT8E5M2, E5M2)):
        wanted = SESSIONS[kind].run(None, {"x": x, "s": scale})[0]
        np.testing.assert_array_equal(dequantize_float(quantize_float(x, scale, **grid), scale), wanted)


@settings(max_examples=30)
@given(hnp.arrays(np.float32, st.integers(1, 20), elements=st.floats(-20, 20, width=32)))
def test_fp4_is_that_of_the_reference_evaluator(x: np.ndarray) -> None:
    scale = np.asarray(0.75, np.float32)
    reference = ReferenceEvaluator(pair(TensorProto.FLOAT4E2M1, 23))
    wanted = reference.run(None, {"x": x, "s": scale})[0]
    np.testing.assert_array_equal(dequantize_float(quantize_float(x, scale, **E2M1), scale), wanted)


def test_blocks_and_channels_have_scales_of_their_own() -> None:
    x = np.array([[1, 2, 30, 40, 5], [6, 7, 80, 90, 1]], np.float32)
    scale = np.array([[1, 10, 1], [2, 20, 1]], np.float32)
    codes = quantize_float(x, scale, **E2M1, axis=1, block_size=2)
    wanted = [[1, 2, 3, 4, 4], [3, 4, 4, 4, 1]]  # 5 and 4.5 lie half way: to the even mantissa
    np.testing.assert_array_equal(codes.astype(np.float32), wanted)
    values = dequantize_float(codes, scale, axis=1, block_size=2)
    np.testing.assert_array_equal(values, np.array(wanted, np.float32) * scale.repeat(2, 1)[:, :5])
    rows = quantize_float(x, np.array([1, 100], np.float32), **E4M3, axis=0)
    np.testing.assert_array_equal(rows[0].astype(np.float32), x[0])


def test_the_largest_value_is_the_largest_number() -> None:
    scale = choose_scale([896.0, 0.0, 1e-45], high=448)
    assert scale.tolist() == [2.0, np.float32(1 / 448), np.float32(1 / 448)]
    assert float(quantize_float(np.float32([1e30]), scale[0], **E4M3)[0]) == 448
    with pytest.raises(DataError, match="not finite"):
        choose_scale(np.inf, high=6)


@given(hnp.arrays(np.float32, st.integers(1, 20), elements=positive), st.sampled_from(["f32", "f16", "pow2", "e4m3"]))
def test_forms_of_scales_are_fixed_points_and_positive(scale: np.ndarray, form: str) -> None:
    once = rounded_scale(scale, form)
    assert (once > 0).all() and once.dtype == np.float32
    np.testing.assert_array_equal(rounded_scale(once, form), once)


def test_forms_of_scales() -> None:
    scale = np.float32([0.1, 1.0, 3.0])
    assert rounded_scale(scale, "f16").tolist() == np.float16([0.1, 1, 3]).tolist()
    fewer, least = np.float32([0.1, 1e-5, 1e-9]), 2.0**-20
    assert rounded_scale(fewer, "f16").tolist() == [*np.float16([0.1, 1e-5]).tolist(), least]
    for alone in (np.float32([1e-5, 1e-9]), np.float32([1, 1e6])):
        assert rounded_scale(alone, "f16").tolist() == alone.tolist()
    assert rounded_scale(scale, "pow2").tolist() == [0.125, 1, 4]
    assert rounded_scale(scale, "e8m0").tolist() == [0.125, 1, 4]
    codes, factor = two_levels(scale)
    assert factor == np.float32(3 / 448) and codes[2] == 448
    np.testing.assert_array_equal(codes, codes.astype(ml_dtypes.float8_e4m3fn).astype(np.float32))
    np.testing.assert_allclose(rounded_scale(scale, "e4m3"), scale, rtol=2**-4)
    with pytest.raises(InternalError, match="unknown form"):
        rounded_scale(scale, "f8")


@given(hnp.arrays(np.float32, st.integers(1, 20), elements=positive))
def test_what_fits_half_is_stored_to_rounding(scale: np.ndarray) -> None:
    once = rounded_scale(scale, "f16")
    with np.errstate(over="ignore"):
        stored = once.astype(np.float16).astype(np.float32)
    assert fits_half(once) == bool((stored == once).all())
    kept = scale >= 2.0**-20
    np.testing.assert_allclose(once[kept], scale[kept], rtol=2.0**-5)


def test_the_phase_of_least_error() -> None:
    x = np.random.default_rng(0).normal(3.3, 0.1, size=20000).astype(np.float32)  # most of it in one octave
    hist, amax = Histogram.empty().update(x), float(np.abs(x).max())

    def error(factor: float) -> float:
        scale = choose_scale(amax * factor, high=448)
        return float(np.square(dequantize_float(quantize_float(x, scale, **E4M3), scale) - x).sum(dtype=np.float64))

    found = phase(hist, amax, high=448, dtype=E4M3["dtype"])
    least = min(error(float(factor)) for factor in PHASES)
    assert error(found) <= 1.05 * least < 0.9 * error(1.0)
