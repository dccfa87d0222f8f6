"""correct-bias: the mean of every result is that of the float model, to what rounding the bias leaves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pytest

from qcompiler import ir
from qcompiler.numerics.channel_histogram import ChannelHistogram
from qcompiler.numerics.histogram import Histogram
from qcompiler.passes.lower.materialise import Materialise
from qcompiler.passes.plan.correct_bias import CorrectBias, corrected_by, response
from qcompiler.passes.plan.derive_bias import DeriveBias
from qcompiler.passes.plan.encode import Encode, wanted
from qcompiler.passes.plan.taps import Reading, inside, shares
from qcompiler.pipeline import Pipeline
from qcompiler.quant import Site
from tests.graphs import run
from tests.quantized import annotate, observe
from tests.small import graph, normal


@dataclass
class Seen:
    """Statistics of values that are known whole."""

    values: Mapping[str, np.ndarray]

    def histogram(self, tensor: str) -> Histogram:
        return Histogram.of(self.values[tensor])

    def channels(self, tensor: str, axis: int) -> ChannelHistogram | None:
        return ChannelHistogram(axis).update(self.values[tensor]) if tensor in self.values else None

    def shape(self, tensor: str) -> tuple[int | None, ...] | None:
        return self.values[tensor].shape if tensor in self.values else None


def feed(shape: tuple[int, ...] = (1, 4, 16, 16)) -> dict[str, np.ndarray]:
    """Channels that hardly move, far from zero."""
    rng = np.random.default_rng(0)
    means = np.float32([3, -1.4, 0.7, 1.4]).reshape(1, 4, *[1] * (len(shape) - 2))
    return {"x": (means + 0.05 * rng.normal(size=shape)).astype(np.float32)}


def compiled(model: ir.Model, correct: bool, hide: tuple[str, ...] = ()) -> tuple[ir.Model, list[str], int]:
    plan, _ = annotate(model)
    given = feed(tuple(model.inputs[0].shape))
    names = dict.fromkeys([*wanted(model, plan), *corrected_by(model, plan)])
    stats = Seen({n: v for n, v in observe(model, list(names), given).items() if isinstance(v, np.ndarray)})
    known = Seen({name: values for name, values in stats.values.items() if name not in hide})
    pipeline, after = Pipeline(), model.copy()
    steps = [Encode(stats, "minmax"), DeriveBias(), *([CorrectBias(known)] if correct else [])]
    plan = pipeline.plan(model, plan, steps)
    last = pipeline.trace.records[-1]
    pipeline.graph(after, [Materialise(plan)])
    return after, [r.reason for r in last.refusals], last.changes


def off(model: ir.Model, after: ir.Model) -> np.ndarray:
    """By how much the mean of each channel of the result is off."""
    given = feed(tuple(model.inputs[0].shape))
    error = np.asarray(run(after, given)[0], np.float64) - run(model, given)[0]
    return np.abs(error.mean((0, 2, 3) if error.ndim == 4 else 0))


@pytest.mark.parametrize(
    ("body", "shape", "outputs"),
    [
        ("y = Conv(x, h, e)", (1, 4, 16, 16), "float[N, M, P, Q] y"),
        (
            "y = Conv<pads = [2, 2, 2, 2], strides = [2, 2], dilations = [2, 2]>(x, h, e)",
            (1, 4, 9, 9),
            "float[N, M, P, Q] y",
        ),
        ("y = Conv<group = 4, pads = [1, 1, 1, 1]>(x, each, b)", (1, 4, 8, 8), "float[N, M, P, Q] y"),
        ("y = Gemm(x, columns, six_)", (200, 4), "float[N, M] y"),
        ("y = Gemm<transB = 1>(x, rows, six_)", (200, 4), "float[N, M] y"),
    ],
)
def test_the_mean_of_the_result_is_right(body: str, shape: tuple[int, ...], outputs: str) -> None:
    constants = {"each": normal(8, 1, 3, 3), "columns": normal(4, 6), "rows": normal(6, 4), "six_": normal(6)}
    sizes = ", ".join(map(str, shape))
    model = graph(body, inputs=f"float[{sizes}] x", outputs=outputs, constants=constants)
    plain, _, _ = compiled(model, correct=False)
    better, reasons, changes = compiled(model, correct=True)
    assert (reasons, changes) == ([], 1)
    # What is left comes from rounding the input, and from means that are known by octave.
    assert off(model, better).mean() < 0.5 * off(model, plain).mean()


def test_means_exactly() -> None:
    """The predicted shift is what the weights' error does to the mean."""
    body = "y = Conv<group = 2, pads = [1, 2, 0, 1], strides = [2, 1]>(x, g, e)"
    model = graph(body, constants={"g": normal(4, 2, 3, 2)})
    node = model.nodes[0]
    means = np.array([1.0, -2, 3, 0.5])
    x = np.broadcast_to(means.astype(np.float32).reshape(1, 4, 1, 1), (1, 4, 16, 16)).copy()
    expected = run(model, {"x": x})[0].mean((0, 2, 3)) - ir.array(node.inputs[2])
    weight = ir.array(node.inputs[1]).astype(np.float64)
    np.testing.assert_allclose(
        response(node, weight, Reading(means, np.square(means), shares(node))), expected, atol=1e-5
    )


def test_taps_in_the_padding_count_less() -> None:
    model = graph("y = Conv<pads = [1, 1, 1, 1]>(x, h, e)")
    np.testing.assert_allclose(inside(model.nodes[0], 0, 3), [15 / 16, 1, 15 / 16])
    unknown = graph("y = Conv<pads = [1, 1, 1, 1]>(x, h, e)", inputs="float[1, 4, A, B] x")
    np.testing.assert_allclose(inside(unknown.nodes[0], 0, 3), [1, 1, 1])


def test_a_node_that_was_not_observed_is_passed_over() -> None:
    model = graph("a = Conv(x, h, e) y = Conv(a, h, e)")
    _, reasons, changes = compiled(model, correct=True, hide=("a",))
    assert reasons == ["the channels of 'a' were not observed"]
    assert changes == 1


def test_nodes_that_share_a_bias_get_their_own() -> None:
    model = graph("a = Conv(x, h, e) b2 = Conv(x, h2, e) y = Add(a, b2)", constants={"h2": normal(4, 4, 3, 3)})
    after, _, changes = compiled(model, correct=True)
    assert changes == 2
    biases = [c for c in after.constants() if c.dtype == np.int32 and ir.array(c).any()]
    assert len(biases) == 2


def test_exact_weights_need_no_correction() -> None:
    whole = np.float32(np.random.default_rng(0).integers(-127, 128, (4, 4, 3, 3)))
    whole[:, 0, 0, 0] = 127
    model = graph("y = Conv(x, whole, e)", constants={"whole": whole})
    plan, _ = annotate(model)
    stats = Seen(feed())
    plan = Pipeline().plan(model, plan, [Encode(_Known(stats, model), "minmax"), DeriveBias(), CorrectBias(stats)])
    bias = plan.sites[Site("e", "Conv_y", 2)].encoding
    assert bias is not None and bias.codes is not None
    np.testing.assert_array_equal(bias.codes, np.rint(ir.array(model.nodes[0].inputs[2]) / bias.scale))


@dataclass
class _Known:
    """Statistics of everything that the model computes on the feed."""

    seen: Seen
    model: ir.Model

    def histogram(self, tensor: str) -> Histogram:
        return Histogram.of(np.asarray(observe(self.model, [tensor], feed())[tensor], np.float32))

    def channels(self, tensor: str, axis: int) -> ChannelHistogram | None:
        return None

    def shape(self, tensor: str) -> tuple[int | None, ...] | None:
        return None
