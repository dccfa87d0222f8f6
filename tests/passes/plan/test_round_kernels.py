"""round-kernels: errors of a kernel add up to half a step at most, and what it reads smoothly comes out better."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from qcompiler import ir
from qcompiler.numerics.affine import dequantize
from qcompiler.passes.lower.materialise import Materialise
from qcompiler.passes.plan.derive_bias import DeriveBias
from qcompiler.passes.plan.encode import Encode, encode_constant, wanted
from qcompiler.passes.plan.round_kernels import RoundKernels, kernel_codes
from qcompiler.pipeline import Pipeline
from qcompiler.quant import Encoding, PerAxis, QSpec, Site
from qcompiler.quant.qtype import INT8
from tests.graphs import feed_for, run
from tests.quantized import Seen, annotate
from tests.small import graph, normal

SPEC = QSpec(INT8, PerAxis(0), symmetric=True)
F32 = npt.NDArray[np.float32]


def coded(w: F32) -> tuple[npt.NDArray[np.int8], Encoding]:
    encoding = encode_constant(w, SPEC)
    return kernel_codes(w, encoding), encoding


@pytest.mark.parametrize("shape", [(32, 1, 3, 3), (16, 8, 3, 3), (16, 4, 5, 5), (8, 2, 7), (4, 2, 3, 3, 3)])
def test_sums_stay_within_half_a_step_and_codes_within_one(shape: tuple[int, ...]) -> None:
    w = normal(*shape)
    codes, encoding = coded(w)
    steps = w / encoding.scale.reshape(-1, *[1] * (len(shape) - 1)).astype(np.float64)
    error = steps - codes
    taps = tuple(range(2, len(shape)))
    assert np.abs(error.sum(taps)).max() <= 0.5 + 1e-9
    assert np.abs(error).max() < 1
    assert np.abs(codes.astype(int)).max() <= 127
    assert (codes != np.rint(steps)).any()
    assert np.square(error).mean() < 1.35 * np.square(steps - np.rint(steps)).mean()


def test_a_code_at_the_end_of_the_grid_does_not_leave_it() -> None:
    w = np.float32([[127, 126.45, 126.45, 126.45]]).reshape(1, 1, 2, 2)
    codes, _ = coded(w)
    assert codes.ravel().tolist() == [127, 127, 126, 126]
    full = np.float32([[127, 127.0, 0.4, 0.4]]).reshape(1, 1, 2, 2)
    assert coded(full)[0].ravel().tolist() == [127, 127, 1, 0]


def test_channels_of_zeros_stay_zero() -> None:
    codes, _ = coded(np.concatenate([np.zeros((1, 2, 3, 3), np.float32), normal(1, 2, 3, 3)]))
    assert not codes[0].any() and codes[1].any()


def test_smooth_inputs_come_out_better() -> None:
    w = normal(64, 1, 5, 5)
    codes, encoding = coded(w)
    nearest = dequantize(np.rint(w / encoding.scale.reshape(-1, 1, 1, 1)).astype(np.int8), encoding.scale, 0, axis=0)
    x = np.full((5, 5), 2.0) + np.random.default_rng(0).normal(size=(500, 5, 5)) * 0.3

    def noise(stored: F32) -> float:
        return float(np.square(np.einsum("nij,oij->no", x, (stored - w)[:, 0])).mean())

    assert noise(dequantize(codes, encoding.scale, 0, axis=0)) < 0.2 * noise(nearest)


def planned(model: ir.Model, given: dict[Site, Encoding] | None = None) -> dict[str, Encoding | None]:
    plan, _ = annotate(model, given=given)
    feeds = [feed_for(model, seed) for seed in range(2)]
    pipeline = Pipeline()
    steps = [Encode(Seen.of(model, wanted(model, plan), feeds), "minmax"), DeriveBias(), RoundKernels()]
    plan = pipeline.plan(model, plan, steps)
    after = model.copy()
    pipeline.graph(after, [Materialise(plan)])
    stored = {c.name: ir.array(c) for c in after.constants()}
    for site, decision in plan.quantized():
        if decision.encoding is not None and decision.encoding.codes is not None:
            np.testing.assert_array_equal(stored[f"{site.tensor}_q"], decision.encoding.codes)
    assert all(np.isfinite(value).all() for value in run(after, feeds[0]))
    return {str(s): d.encoding for s, d in plan.quantized()}


def test_only_kernels_with_several_taps_that_are_not_given() -> None:
    model = graph("a = Conv(x, h, e) y = Conv(a, one_tap, e)", constants={"one_tap": normal(4, 4, 1, 1)})
    found = planned(model)
    assert {name for name, e in found.items() if e is not None and e.codes is not None} == {"h@Conv_a:1"}
    trained = encode_constant(ir.array(next(c for c in model.constants() if c.name == "h")), SPEC)
    given = {Site("h", "Conv_a", 1): replace(trained, method="given")}
    assert all(e is None or e.codes is None for e in planned(model, given).values())
