"""The affine grid, bit for bit against ONNX Runtime and the ONNX reference evaluator."""

from __future__ import annotations

import functools
from typing import Any

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
from qcompiler.numerics.affine import choose_qparams, dequantize, fake_quantize, quantize

TYPES = {
    np.uint8: (TensorProto.UINT8, 0, 255),
    np.int8: (TensorProto.INT8, -128, 127),
    np.uint16: (TensorProto.UINT16, 0, 65535),
    np.int16: (TensorProto.INT16, -32768, 32767),
}
TINY = float(np.finfo(np.float32).tiny)
finite = st.floats(width=32, allow_nan=False, allow_infinity=False)
grids = st.sampled_from([(0, 255), (-128, 127), (-127, 127), (0, 65535), (-32768, 32767), (-8, 7), (0, 15), (0, 3)])


@functools.cache
def qdq_model(dtype: type, attributes: tuple[tuple[str, int], ...]) -> onnx.ModelProto:
    onnx_type = TYPES[dtype][0]
    graph = helper.make_graph(
        [
            helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"], **dict(attributes)),
            helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"], **dict(attributes)),
        ],
        "qdq",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, None),
            helper.make_tensor_value_info("s", TensorProto.FLOAT, None),
            helper.make_tensor_value_info("z", onnx_type, None),
        ],
        [
            helper.make_tensor_value_info("q", onnx_type, None),
            helper.make_tensor_value_info("y", TensorProto.FLOAT, None),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


@functools.cache
def qdq_session(dtype: type, attributes: tuple[tuple[str, int], ...]) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(qdq_model(dtype, attributes).SerializeToString(), options)


def check(x: Any, scale: Any, zero_point: Any, dtype: type, reference: bool = True, **layout: int) -> None:
    _, qmin, qmax = TYPES[dtype]
    codes = quantize(x, scale, zero_point, qmin=qmin, qmax=qmax, dtype=dtype, **layout)
    values = dequantize(codes, scale, zero_point, **layout)
    fake = fake_quantize(x, scale, zero_point, qmin=qmin, qmax=qmax, **layout)
    attributes = tuple(layout.items())
    feed = {"x": x, "s": scale, "z": zero_point.astype(dtype)}
    runs = [qdq_session(dtype, attributes).run(None, feed)]
    if reference:
        runs.append(ReferenceEvaluator(qdq_model(dtype, attributes)).run(None, feed))
    assert codes.dtype == dtype and codes.shape == x.shape
    for wanted_codes, wanted_values in runs:
        np.testing.assert_array_equal(codes, wanted_codes)
        np.testing.assert_array_equal(values.view(np.uint32), wanted_values.view(np.uint32))
    np.testing.assert_array_equal(fake.view(np.uint32), values.view(np.uint32))


@pytest.mark.parametrize("dtype", TYPES)
@settings(max_examples=60)
@given(data=st.data())
def test_per_tensor_equals_onnx_runtime(dtype: type, data: st.DataObject) -> None:
    _, qmin, qmax = TYPES[dtype]
    scale = np.float32(data.draw(st.floats(TINY, 2.0**100, width=32)))
    zero_point = np.asarray(data.draw(st.integers(qmin, qmax)), np.int32)
    steps = data.draw(hnp.arrays(np.float32, 40, elements=st.floats(-70000, 70000, width=32)))
    halves = np.round(steps) + np.float32(0.5)
    with np.errstate(over="ignore"):
        x = np.concatenate([steps, halves]) * scale
    x = np.where(np.isfinite(x), x, 1).astype(np.float32)
    check(x, np.asarray(scale), zero_point, dtype)


@pytest.mark.parametrize("dtype", TYPES)
def test_special_values_equal_onnx_runtime(dtype: type) -> None:
    x = np.float32([np.inf, -np.inf, np.nan, -np.nan, 3e38, -3e38, 1e-45, -1e-45, 0.0, -0.0, 1e-38] * 5)
    # The reference evaluator leaves infinity and NaN to the C cast of the machine.
    check(x, np.asarray(0.1, np.float32), np.asarray(3, np.int32), dtype, reference=False)


def test_ties_go_to_even() -> None:
    x = np.float32([0.5, 1.5, 2.5, -0.5, -1.5, -2.5])
    codes = quantize(x, np.asarray(1, np.float32), 0, qmin=-128, qmax=127, dtype=np.int8)
    assert codes.tolist() == [0, 2, 2, 0, -2, -2]


@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int16])
def test_per_axis_equals_onnx_runtime(dtype: type, axis: int) -> None:
    random = np.random.default_rng(1)
    _, qmin, qmax = TYPES[dtype]
    x = random.normal(size=(3, 4, 5)).astype(np.float32)
    channels = x.shape[axis]
    scale = random.uniform(0.001, 0.02, channels).astype(np.float32)
    zero_point = random.integers(qmin, qmax, channels).astype(np.int32)
    check(x, scale, zero_point, dtype, axis=axis)


@pytest.mark.parametrize("axis", [0, 1])
def test_blocks_equal_onnx_runtime(axis: int) -> None:
    random = np.random.default_rng(2)
    x = random.normal(size=(8, 12)).astype(np.float32)
    shape = (2, 12) if axis == 0 else (8, 3)
    scale = random.uniform(0.001, 0.02, shape).astype(np.float32)
    zero_point = random.integers(-5, 5, shape).astype(np.int32)
    check(x, scale, zero_point, np.int8, axis=axis, block_size=4)


def test_last_block_may_be_short() -> None:
    x = np.float32([[1, 2, 3, 4, 5]])
    scale = np.float32([[1, 2, 5]])
    codes = quantize(x, scale, np.zeros((1, 3), np.int32), qmin=-8, qmax=7, dtype=np.int8, axis=1, block_size=2)
    assert codes.tolist() == [[1, 2, 2, 2, 1]]


def test_int32_grid_saturates_exactly() -> None:
    x = np.float32([1e12, -1e12, 16777217.0, 2147483.0])
    codes = quantize(x, np.asarray(1, np.float32), 0, qmin=-(2**31), qmax=2**31 - 1, dtype=np.int32)
    assert codes.tolist() == [2**31 - 1, -(2**31), 16777216, 2147483]


def test_wrong_layout_is_an_internal_error() -> None:
    x, scale = np.zeros((2, 3), np.float32), np.ones(3, np.float32)
    for layout, words in [({}, "axis None"), ({"axis": 0}, "along axis 0"), ({"axis": 2}, "axis 2"),
                          ({"axis": 1, "block_size": 2}, "expected \\(2, 2\\)")]:  # fmt: skip
        with pytest.raises(InternalError, match=words):
            fake_quantize(x, scale, np.zeros(3, np.int32), qmin=0, qmax=255, **layout)
    with pytest.raises(InternalError, match="beside a scale"):
        dequantize(np.zeros(3, np.int8), scale, np.zeros(2, np.int32), axis=0)


@given(low=finite, high=finite, grid=grids, symmetric=st.booleans())
def test_every_range_gives_a_sound_grid(low: float, high: float, grid: tuple[int, int], symmetric: bool) -> None:
    qmin, qmax = grid
    low, high = min(low, high), max(low, high)
    scale, zero_point = choose_qparams(low, high, qmin=qmin, qmax=qmax, symmetric=symmetric)
    assert scale.dtype == np.float32 and zero_point.dtype == np.int32
    assert scale.shape == zero_point.shape == ()
    assert TINY <= scale <= np.finfo(np.float32).max
    assert qmin <= zero_point <= qmax
    assert fake_quantize(np.zeros(1, np.float32), scale, zero_point, qmin=qmin, qmax=qmax)[0] == 0
    low, high = min(low, 0.0), max(high, 0.0)
    steps = qmax - (0 if qmin < 0 else (qmin + qmax + 1) // 2) if symmetric else qmax - qmin
    if max(-low, high) / steps >= TINY:
        # The grid covers the range up to the half step that nudging the zero point costs.
        step = float(scale) * (1 + 1e-6)
        assert (qmin - int(zero_point)) * step <= low + step / 2
        assert (qmax - int(zero_point)) * step >= high - step / 2


@given(low=st.floats(-1e4, 0, width=32), high=st.floats(0, 1e4, width=32))
def test_range_error_is_at_most_a_step(low: float, high: float) -> None:
    scale, zero_point = choose_qparams(low, high, qmin=0, qmax=255, symmetric=False)
    x = np.linspace(low, high, 99, dtype=np.float32)
    error = np.abs(fake_quantize(x, scale, zero_point, qmin=0, qmax=255) - x).max()
    assert error <= float(scale) * 1.001 or max(-low, high) < 256 * TINY


@pytest.mark.parametrize(
    ("low", "high", "qmin", "qmax", "symmetric", "scale", "zero_point"),
    [
        (-1, 1, -128, 127, True, 1 / 127, 0),
        (-1, 0.5, -127, 127, True, 1 / 127, 0),
        (0, 2.54, 0, 255, True, 0.02, 128),
        (0, 255, 0, 255, False, 1.0, 0),
        (-255, 0, 0, 255, False, 1.0, 255),
        (3, 6, 0, 255, False, 6 / 255, 0),
        (-6, -3, 0, 255, False, 6 / 255, 255),
        (-1, 3, -8, 7, False, 4 / 15, -4),
        (0, 0, 0, 255, False, 1 / 255, 0),
        (0, 0, -128, 127, True, 1 / 127, 0),
        (-1e-40, 1e-40, -128, 127, False, 1 / 255, -128),
        (-3e38, 3e38, -1, 1, False, 3e38, 0),
    ],
)
def test_known_grids(
    low: float, high: float, qmin: int, qmax: int, symmetric: bool, scale: float, zero_point: int
) -> None:
    got = choose_qparams(low, high, qmin=qmin, qmax=qmax, symmetric=symmetric)
    assert got[0] == np.float32(scale)
    assert got[1] == zero_point


def test_channels_are_independent() -> None:
    low, high = np.float32([-1, 0, -2, 0]), np.float32([1, 4, 0.5, 0])
    scale, zero_point = choose_qparams(low, high, qmin=0, qmax=255, symmetric=False)
    assert scale.shape == (4,)
    for i in range(4):
        one = choose_qparams(low[i], high[i], qmin=0, qmax=255, symmetric=False)
        assert (scale[i], zero_point[i]) == one


def test_a_range_that_is_none_is_refused() -> None:
    with pytest.raises(DataError, match="not finite"):
        choose_qparams(np.nan, 1, qmin=0, qmax=255, symmetric=False)
    with pytest.raises(DataError, match="not finite"):
        choose_qparams([0, 0], [1, np.inf], qmin=0, qmax=255, symmetric=False)
    with pytest.raises(DataError, match="ends before it begins"):
        choose_qparams(1, -1, qmin=0, qmax=255, symmetric=False)
    with pytest.raises(InternalError, match="no codes"):
        choose_qparams(0, 1, qmin=5, qmax=5, symmetric=False)


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("high", [0.0, 1.0, 1e30, float(np.finfo(np.float32).max)])
def test_no_code_of_the_widest_range_is_infinite(bits: int, high: float) -> None:
    last = 2**bits - 1
    low = float(np.finfo(np.float32).min)
    scale, zero = choose_qparams(low, high, qmin=0, qmax=last, symmetric=False)
    values = dequantize(np.arange(last + 1), scale, zero)
    assert np.isfinite(values).all() and values[0] == pytest.approx(low, rel=3 / last)
