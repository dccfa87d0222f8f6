"""Models as tools export them that train with quantization, and what becomes of them here."""

from __future__ import annotations

import numpy as np
import onnx

from qcompiler import ir
from qcompiler.passes.plan.adopt_qdq import AdoptQdq
from qcompiler.pipeline import PassRecord, Pipeline
from qcompiler.quant import Encoding, Site
from tests.graphs import run
from tests.quantized import Quantized, quantize
from tests.small import graph, normal

IMAGE, OUT = "float[1, 4, 12, 12] x", "float[N, M, P, Q] y"


def weights(
    rows: int, *shape: int, axis: int = 0, dtype: type = np.int8, seed: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """Codes that use the whole range of each channel, and scales."""
    rng = np.random.default_rng(seed)
    whole = (rows, *shape)
    low, high = (-127, 127) if dtype is np.int8 else (0, 255)
    codes = rng.integers(low, high, whole, endpoint=True)
    np.moveaxis(codes, axis, 0).reshape(whole[axis], -1)[:, 0] = high
    return codes.astype(dtype), rng.uniform(0.001, 0.004, whole[axis]).astype(np.float32)


W1, S1 = weights(8, 4, 3, 3)
W2, S2 = weights(8, 8, 3, 3, seed=2)
USUAL = {
    "w1": W1, "s1": S1, "z8": np.zeros(8, np.int8), "w2": W2, "s2": S2, "b1": normal(8), "b2": normal(8),
    "xs": np.float32(0.03), "xz": np.uint8(128), "rs": np.float32(0.02), "rz": np.uint8(0),
    "ys": np.float32(0.06), "yz": np.uint8(120), "xzs": np.int8(0), "rzs": np.int8(-128), "yzs": np.int8(-8),
}  # fmt: skip


def pair(new: str, old: str, scale: str, zero: str) -> str:
    return f"{new}_q = QuantizeLinear({old}, {scale}, {zero}) {new} = DequantizeLinear({new}_q, {scale}, {zero})"


def trained(body: str, inputs: str = IMAGE, outputs: str = OUT, **constants: np.ndarray) -> ir.Model:
    return graph(body, inputs, outputs, {**USUAL, **constants})


def adopted(model: ir.Model) -> tuple[ir.Model, dict[Site, Encoding], PassRecord]:
    after, adopt, pipeline = model.copy(), AdoptQdq(), Pipeline()
    pipeline.graph(after, [adopt])
    onnx.checker.check_model(after.to_proto(), full_check=True)
    return after, adopt.given, pipeline.trace.records[-1]


def compiled(model: ir.Model, only_given: bool = True, **options: object) -> Quantized:
    after, given, _ = adopted(model)
    return quantize(after, given=given, only_given=only_given, **options)  # type: ignore[arg-type]


def steps_apart(
    before: ir.Model, found: Quantized, step: float, *, optimize: bool = False, often: float = 0.03
) -> float:
    """The largest difference of any output from the model as given, with optimisation off there, in steps.

    A float bias becomes int32, which moves a value over the edge of a step here and there: not more than `often`.
    """
    worst = 0.0
    for feed in found.feeds:
        for a, b in zip(run(before, feed), run(found.model, feed, optimize=optimize), strict=True):
            steps = np.abs(np.asarray(a) - b) / step
            worst = max(worst, float(steps.max()))
            assert (steps > 0.5).mean() < often
    return worst


FIRST = f"{pair('xd', 'x', 'xs', 'xz')} wd = DequantizeLinear<axis = 0>(w1, s1, z8)"
SECOND = "vd = DequantizeLinear<axis = 0>(w2, s2, z8)"
LAST = pair("y", "c", "ys", "yz")
CONVS = f"""{pair("xd", "x", "xs", "xz")}
    wd = DequantizeLinear<axis = 0>(w1, s1, z8) a = Conv<pads = [1, 1, 1, 1]>(xd, wd, b1) r = Relu(a)
    {pair("rd", "r", "rs", "rz")}
    {SECOND} c = Conv<pads = [1, 1, 1, 1]>(rd, vd, b2)
    {LAST}"""
