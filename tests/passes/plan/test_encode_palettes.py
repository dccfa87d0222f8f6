"""Palettes by what inputs are like: less is lost at the outputs than by the values of the weight alone."""

from __future__ import annotations

import numpy as np
import pytest

from qcompiler import ir
from qcompiler.analysis.moments import collect_moments, collect_patch_moments
from qcompiler.analysis.run import Runner
from qcompiler.data import Sample
from qcompiler.passes.lower.codes import values_of
from qcompiler.passes.plan.ada_round import window_of
from qcompiler.passes.plan.encode import encode_constant
from qcompiler.passes.plan.encode_palettes import EncodePalettes, by_inputs, palettes, rounded
from qcompiler.pipeline import Pipeline
from qcompiler.quant import Encoding, NodePlan, PerGroup, PerTensor, QSpec, QuantPlan, Site, SitePlan
from qcompiler.quant.qtype import PALETTE4
from qcompiler.targets.spec import channel_axis, reduced_axis
from tests.small import graph, normal

GRAPHS = {
    "MatMul": ("y = MatMul (x, w)", "float[40, 24] x", "float[A, B] y", normal(24, 32)),
    "Gemm": ("y = Gemm <transB = 1> (x, w)", "float[40, 24] x", "float[A, B] y", normal(32, 24)),
    "Conv": (
        "y = Conv <pads = [1, 1, 1, 1]> (x, w)",
        "float[1, 6, 9, 9] x",
        "float[A, B, C, D] y",
        normal(32, 6, 3, 3),
    ),
}


def samples(model: ir.Model) -> list[Sample]:
    """Inputs that have much in common."""
    rng, found = np.random.default_rng(5), []
    shape = tuple(model.inputs[0].shape)
    for _ in range(8):
        own, common = rng.normal(size=shape), rng.normal(size=(shape[0], 1, *shape[2:]))
        found.append(Sample({"x": (0.3 * own + common).astype(np.float32)}, None, ""))
    return found


@pytest.mark.parametrize("grouped", [True, False])
@pytest.mark.parametrize("op", GRAPHS)
def test_outputs_lose_less(op: str, grouped: bool) -> None:
    body, inputs, outputs, weight = GRAPHS[op]
    model = graph(body, inputs, outputs, {"w": weight})
    node, source = model.nodes[0], samples(model)
    spec = QSpec(PALETTE4, PerGroup(channel_axis(node), 16) if grouped else PerTensor(), scale="half")
    site = Site("w", node.name, 1)
    plan = QuantPlan({site: SitePlan((spec,), spec, "")}, {node.name: NodePlan("w4-palette", "", "")})
    moments = collect_moments(model, source, {"x": 24}) if op != "Conv" else {}
    window = window_of(node)
    assert window is not None
    patches = collect_patch_moments(model, source, {node.name: ("x", window)}) if op == "Conv" else {}
    found = Pipeline().plan(model, plan, [EncodePalettes(moments, patches)]).sites[site].encoding
    assert palettes(model, plan) == [site] and found is not None and found.method == "k-means, gptq"
    wanted = [Runner(model).run(sample.feed)["y"] for sample in source]

    def lost(encoding: Encoding) -> float:
        held = graph(body, inputs, outputs, {"w": values_of(encoding.codes, encoding)})
        return sum(float(((Runner(held).run(s.feed)["y"] - y) ** 2).sum()) for s, y in zip(source, wanted, strict=True))

    assert lost(found) < 0.6 * lost(encode_constant(weight, spec))


def test_the_share_that_is_lost_is_what_the_outputs_lose() -> None:
    weight, x = normal(24, 32), normal(200, 24)
    found, share = by_inputs(weight, QSpec(PALETTE4, PerTensor(), scale="half"), 0, (x.T @ x).astype(np.float64))
    error = x @ values_of(found.codes, found) - x @ weight
    assert share == pytest.approx(float((error**2).sum() / ((x @ weight) ** 2).sum()), rel=1e-3)


def test_what_has_no_rows_of_inputs_is_left() -> None:
    grouped = graph("y = Conv <group = 8> (x, dw)", "float[1, 8, 9, 9] x")
    turned = graph("y = Gemm <transA = 1> (x, w)", "float[24, 40] x", "float[A, B] y", {"w": normal(24, 32)})
    assert not rounded(grouped.nodes[0]) and not rounded(turned.nodes[0]) and reduced_axis(turned.nodes[0]) == 0
