"""Weights trained on the grid of the folded weight keep their codes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from hypothesis import given
from hypothesis import strategies as st
from onnx import numpy_helper

import qcompiler
from qcompiler import Recipe
from qcompiler.passes.plan.carry_grids import multiplied
from qcompiler.quant import Encoding, PerAxis, PerTensor, QSpec
from qcompiler.quant.qtype import INT8
from tests.graphs import parse

RNG = np.random.default_rng(3)


def encoding(scale: np.ndarray, axis: int | None) -> Encoding:
    granularity = PerTensor() if axis is None else PerAxis(axis)
    return Encoding(QSpec(INT8, granularity, symmetric=True), scale, np.zeros(scale.shape, np.int32), "given")


@given(st.integers(0, 2**32 - 1), st.sampled_from([0, 1]), st.booleans())
def test_codes_stay_whatever_the_factor(seed: int, axis: int, whole: bool) -> None:
    rng = np.random.default_rng(seed)
    codes = rng.integers(-128, 127, (5, 5, 3), endpoint=True)
    scale = np.float32(rng.uniform(1e-4, 1e-1, () if whole else 5))
    factor = np.exp(rng.normal(0, 3, 5)).astype(np.float32)
    shape = [-1 if i == axis else 1 for i in range(3)]
    old = (codes * (scale if whole else scale.reshape(shape))).astype(np.float32)
    new = old * factor.reshape(shape)
    found = multiplied(encoding(scale, None if whole else axis), old, new, axis)
    assert found is not None and found.spec.granularity == PerAxis(axis)
    np.testing.assert_array_equal(np.rint(new / found.scale.reshape(shape)), codes)


def test_what_is_no_multiple_is_calibrated_anew() -> None:
    old = (RNG.integers(-128, 127, (4, 9)) * np.float32(0.01)).astype(np.float32)
    scale = np.full(4, 0.01, np.float32)
    assert multiplied(encoding(scale, 0), old, old + np.float32(0.004), 0) is None
    assert multiplied(encoding(scale, 0), old, -old, 0) is None
    assert multiplied(encoding(scale, 1), old, old, 0) is None
    moved = Encoding(QSpec(INT8, PerTensor()), np.float32(0.01), np.int32(3), "given")
    assert multiplied(moved, old, old, 0) is None


def test_a_conv_as_pytorch_trains_it(tmp_path: Path) -> None:
    """Conv(x, FQ(k W)) / k, then BatchNormalization, its k the same; scales are vectors of one number."""
    codes = RNG.integers(-127, 127, (6, 16, 3, 3), endpoint=True).astype(np.int8)
    gamma, var = RNG.uniform(0.5, 2, 6).astype(np.float32), RNG.uniform(0.5, 2, 6).astype(np.float32)
    k = (gamma / np.sqrt(var + np.float32(1e-5))).astype(np.float32)
    scale = RNG.uniform(1e-3, 1e-2, 6).astype(np.float32)
    model = parse(
        """g (float[1, 16, 8, 8] x) => (float[1, 6, 6, 6] y) {
        xq = QuantizeLinear(x, xs, xz) xd = DequantizeLinear(xq, xs, xz)
        wq = QuantizeLinear <axis = 0> (w, ws, wz) wd = DequantizeLinear <axis = 0> (wq, ws, wz)
        c = Conv(xd, wd) d = Div(c, k) n = BatchNormalization(d, gamma, beta, mean, var) r = Relu(n)
        rq = QuantizeLinear(r, rs, xz) rl = Clip(rq, , top) y = DequantizeLinear(rl, rs, xz) }""",
        {
            "xs": np.float32([0.02]), "xz": np.uint8([0]), "rs": np.float32([0.05]), "top": np.uint8(127),
            "w": codes * scale.reshape(-1, 1, 1, 1), "ws": scale, "wz": np.zeros(6, np.int8),
            "k": k.reshape(1, -1, 1, 1), "gamma": gamma, "var": var, "beta": RNG.normal(size=6).astype(np.float32),
            "mean": RNG.normal(size=6).astype(np.float32),
        },
    )  # fmt: skip
    onnx.save(model.to_proto(), tmp_path / "m.onnx")
    data = [{"x": RNG.uniform(0, 4, (1, 16, 8, 8)).astype(np.float32)} for _ in range(4)]
    recipe = Recipe(precision="int8", bench_seconds=0)
    found = qcompiler.compile(tmp_path / "m.onnx", "onnxruntime", data, recipe=recipe, output=tmp_path / "out")
    stored = [numpy_helper.to_array(t) for t in onnx.load(tmp_path / "out" / "model.onnx").graph.initializer]
    (weight,) = [values for values in stored if values.dtype == np.int8 and values.ndim == 4]
    np.testing.assert_array_equal(weight, codes)
    assert found.report.target["shipped"] == "int8"
    (line,) = [line for line in found.report.candidates if line.precision == "int8"]
    assert line.worst_sqnr_db is not None and line.worst_sqnr_db > 35
