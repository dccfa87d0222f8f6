"""equalize-depthwise: the same numbers to the bit, channels of like range, and less noise."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pytest

from qcompiler import ir
from qcompiler.backends import get
from qcompiler.numerics.channel_histogram import ChannelHistogram
from qcompiler.numerics.histogram import Histogram
from qcompiler.numerics.observers import ChannelRange
from qcompiler.passes.condition.equalize_depthwise import EqualizeDepthwise, stretch, wanted_ranges
from qcompiler.passes.plan.stretched import Stretched
from qcompiler.quant import Encoding, QSpec, QuantPlan, Site
from qcompiler.quant.qtype import UINT8
from qcompiler.search.candidates import Drafter
from tests.graphs import ops, refusals, run, transform
from tests.quantized import annotate, observe
from tests.small import graph, normal

SPREAD = np.float32([1, 0.3, 0.02, 4, 1e-4, 0.5, 0, 2])
CONSTANTS = {
    "wide": normal(8, 4, 3, 3) * SPREAD.reshape(8, 1, 1, 1),
    "bias": normal(8) * SPREAD,
    "each": normal(8, 1, 3, 3) / np.where(SPREAD > 0, SPREAD, 1).reshape(8, 1, 1, 1),
    "two": normal(16, 1, 3, 3) / np.repeat(np.where(SPREAD > 0, SPREAD, 1), 2).reshape(16, 1, 1, 1),
}
BODIES = {
    "Relu": "a = Conv(x, wide, bias) r = Relu(a) y = Conv<group = 8>(r, each, c)",
    "Clip": "a = Conv(x, wide, bias) r = Clip(a, zero, six) y = Conv<group = 8>(r, each, c)",
    "nothing": "r = Conv(x, wide, bias) y = Conv<group = 8>(r, each, c)",
    "no bias": "r = Conv(x, wide) y = Conv<group = 8>(r, each)",
    "two results a channel": "r = Conv(x, wide, bias) y = Conv<group = 8>(r, two)",
}
FEED = {"x": np.random.default_rng(0).normal(size=(1, 4, 16, 16)).astype(np.float32)}


@dataclass
class Seen:
    """Statistics of values that are known whole."""

    values: Mapping[str, np.ndarray]

    def histogram(self, tensor: str) -> Histogram:
        return Histogram.of(self.values[tensor])

    def shape(self, tensor: str) -> tuple[int | None, ...] | None:
        return None

    def channels(self, tensor: str, axis: int) -> ChannelHistogram | None:
        return ChannelHistogram(axis).update(self.values[tensor])

    def channel_range(self, tensor: str, axis: int = 1) -> ChannelRange | None:
        return ChannelRange(1).update(self.values[tensor]) if tensor in self.values else None


def seen(model: ir.Model, plan: QuantPlan | None = None) -> Seen:
    plan = plan or annotate(model)[0]
    names = [*wanted_ranges(model, plan), *(t.name for node in model.nodes for t in node.outputs)]
    return Seen({n: v for n, v in observe(model, names, FEED).items() if isinstance(v, np.ndarray)})


def equalized(
    model: ir.Model, given: dict[Site, Encoding] | None = None
) -> tuple[ir.Model, EqualizeDepthwise, list[str]]:
    plan, _ = annotate(model, given=given)
    step = EqualizeDepthwise(plan, seen(model, plan))
    after, records = transform(model, step)
    return after, step, refusals(records)


@pytest.mark.parametrize("kind", BODIES)
def test_the_same_numbers_and_channels_that_fill_the_range(kind: str) -> None:
    model = graph(BODIES[kind], constants=CONSTANTS)
    after, step, reasons = equalized(model)
    assert reasons == []
    assert ops(after) == ops(model)
    assert step.renamed == {"r_equalized": "r"}
    np.testing.assert_array_equal(run(after, FEED)[0], run(model, FEED)[0])
    values = observe(after, ["r_equalized"], FEED)["r_equalized"]
    assert isinstance(values, np.ndarray)
    peaks = np.abs(values).max((0, 2, 3))
    top = 6 if kind == "Clip" else peaks.max()
    alive = peaks > 0
    assert (peaks[alive] > top / 2 * 0.999).all() and peaks.max() <= top
    assert alive.sum() >= 6


def test_octaves() -> None:
    assert stretch(np.float32([8, 4.1, 4, 1, 0, 1e-30]), None).tolist() == [0, 0, 1, 3, 0, 24]
    assert stretch(np.float32([1.5, 3, 6]), 6.0).tolist() == [2, 1, 0]
    assert not stretch(np.zeros(3, np.float32), None).any()


def test_values_beyond_what_was_seen_saturate_only_under_a_clip() -> None:
    for kind, same in (("Relu", True), ("Clip", False)):
        model = graph(BODIES[kind], constants=CONSTANTS)
        after, _, _ = equalized(model)
        far = {"x": 3 * FEED["x"]}
        assert np.array_equal(run(after, far)[0], run(model, far)[0]) is same


@pytest.mark.parametrize(
    "body",
    [
        "a = Conv(x, wide, bias) r = Relu(a) y = Conv(r, v, c)",
        "a = Conv(x, wide, bias) r = HardSwish(a) y = Conv<group = 8>(r, each, c)",
        "a = Conv(x, wide, bias) r = Clip(a, minus, six) y = Conv<group = 8>(r, each, c)",
        "a = Conv(x, wide) r = Relu(a) s = Conv<group = 8>(r, each, c) t = Conv<group = 8>(r, each) y = Add(s, t)",
        "r = Conv(x, wide, bias) s = Conv<group = 8>(r, each, c) y = Sigmoid(s) z = Relu(r)",
        "w2 = Relu(wide) r = Conv(x, w2, bias) y = Conv<group = 8>(r, each, c)",
        "r = MaxPool<kernel_shape = [2, 2]>(x) y = Conv<group = 4>(r, four)",
    ],
)
def test_other_graphs_stay(body: str) -> None:
    constants = {**CONSTANTS, "four": normal(4, 1, 3, 3)}
    outputs = "float[N, M, P, Q] y" + (", float[N, M, P, Q] z" if "z =" in body else "")
    model = graph(body, outputs=outputs, constants=constants)
    after, step, _ = equalized(model)
    assert not step.renamed
    assert ops(after) == ops(model)


def test_refusals() -> None:
    model = graph(BODIES["Relu"], constants=CONSTANTS)
    plan, _ = annotate(model)
    _, records = transform(model, EqualizeDepthwise(plan, Seen({})))
    assert refusals(records) == ["the channels of 'r' were not observed"]
    even = graph(
        BODIES["Relu"], constants={**CONSTANTS, "wide": np.ones((8, 4, 3, 3), np.float32), "bias": normal(1).repeat(8)}
    )
    assert equalized(even)[2] == ["its channels are alike"]


def test_trained_encodings_stay() -> None:
    trained = Encoding(QSpec(UINT8), np.asarray(0.1, np.float32), np.asarray(0, np.int32), "given")
    assert not equalized(graph(BODIES["Relu"], constants=CONSTANTS), given={Site("r"): trained})[1].renamed


def test_a_candidate_has_less_noise_and_the_statistics_that_fit() -> None:
    model = graph(BODIES["Relu"], constants=CONSTANTS)
    drafter = Drafter(model, get("onnxruntime"))
    draft = drafter.draft("int8")
    stats = Seen({**seen(model).values, **FEED})
    equal, known = drafter.equalized(draft, stats)
    assert isinstance(known, Stretched)
    values = observe(equal.model, ["r_equalized"], FEED)["r_equalized"]
    assert isinstance(values, np.ndarray)
    assert known.histogram("r_equalized").maximum == values.max()
    assert known.histogram("x").same(stats.histogram("x"))
    np.testing.assert_array_equal(known.channels("r_equalized", 1).counts, ChannelHistogram(1).update(values).counts)  # type: ignore[union-attr]
    candidate = drafter.candidate(draft, stats, "minmax", {})
    assert Site("r_equalized") in candidate.plan.sites
    wanted = run(model, FEED)[0]

    def noise(found: ir.Model) -> float:
        return float(np.square(run(found, FEED)[0] - wanted).mean((0, 2, 3))[[1, 2, 5]].max())

    plain = Drafter(model, get("onnxruntime")).candidate(draft, Hidden(stats.values), "minmax", {})
    assert noise(candidate.model) < 0.25 * noise(plain.model)


class Hidden(Seen):
    """Statistics without extremes by channel."""

    def channel_range(self, tensor: str, axis: int = 1) -> ChannelRange | None:
        return None
