"""Random graphs of everything that the table knows and some that it does not: nothing falls back, nothing breaks."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import helper

from qcompiler import ir
from qcompiler.passes.prepare.eliminate_dead import EliminateDead
from qcompiler.pipeline import Pipeline
from qcompiler.search.candidates import Candidate, Drafter
from tests.backends.builder import GraphBuilder
from tests.graphs import feed_for, run
from tests.quantized import BACKEND, Seen

SHAPE = [1, 4, 8, 8]


class Builder(GraphBuilder):
    """A graph under construction; every value has the shape `SHAPE`."""

    def floats(self, *shape: int) -> np.ndarray:
        return self.rng.normal(size=shape)

    def conv(self, x: str, channels: int = 4) -> str:
        weight = self.const(self.floats(4, channels, 3, 3) * 0.3 / np.sqrt(channels / 4))
        bias = [self.const(self.floats(4) * 0.3)] if self.rng.random() < 0.8 else []
        return str(self.node("Conv", x, weight, *bias, pads=[1, 1, 1, 1]))

    def pick(self) -> str:
        recent = self.rng.random() < 0.5
        return self.values[-1] if recent else self.values[self.rng.integers(len(self.values))]


def halves(b: Builder, x: str) -> str:
    first, second = b.node("Split", x, outputs=2, axis=1, num_outputs=2)
    return str(b.node("Concat", second, first, axis=1))


def sliced(b: Builder, x: str) -> str:
    part = b.node("Slice", x, b.const([0]), b.const([2]), b.const([1]))
    return str(b.node("Concat", part, part, axis=1))


def shuffled(b: Builder, x: str) -> str:
    wide = b.node("Reshape", x, b.const([1, 2, 2, 8, 8]))
    return str(b.node("Reshape", b.node("Transpose", wide, perm=[0, 2, 1, 3, 4]), b.const(SHAPE)))


def pooled(b: Builder, x: str, op: str = "MaxPool", **attributes: int) -> str:
    return str(b.node(op, x, kernel_shape=[3, 3], pads=[1, 1, 1, 1], **attributes))


STEPS: tuple[Callable[[Builder, str], str], ...] = (
    Builder.conv,
    Builder.conv,
    Builder.conv,
    lambda b, x: b.node("Relu", x),
    lambda b, x: b.node("Clip", x, b.const(0.0), b.const(b.rng.choice([0.5, 1, 6]))),
    lambda b, x: b.node("Clip", x, b.const(-0.1 - b.rng.random()), b.const(0.1 + b.rng.random())),
    lambda b, x: b.node("Add", x, b.pick()),
    lambda b, x: b.node("Add", x, b.const(b.floats(4, 1, 1))),
    lambda b, x: b.node("Mul", x, b.pick()),
    lambda b, x: b.node("Mul", x, b.const(0.3 + b.rng.random())),
    lambda b, x: b.node("Mul", x, b.const(-0.7)),
    lambda b, x: b.node("Mul", x, b.const(b.floats(1, 4, 1, 1))),
    lambda b, x: b.conv(b.node("Concat", x, b.pick(), axis=1), 8),
    lambda b, x: b.node("Sigmoid", x),
    lambda b, x: b.node("LeakyRelu", x, alpha=0.1),
    lambda b, x: b.node("Tanh", x),
    lambda b, x: b.node("HardSwish", x),
    lambda b, x: b.node("HardSigmoid", x),
    lambda b, x: b.node("Softmax", x, axis=1),
    lambda b, x: b.node("Transpose", x, perm=[0, 1, 3, 2]),
    lambda b, x: b.node("Mul", x, b.node("Sigmoid", b.conv(b.node("GlobalAveragePool", b.pick())))),
    lambda b, x: b.node("Conv", x, b.const(b.floats(4, 1, 3, 3) * 0.4), pads=[1, 1, 1, 1], group=4),
    pooled,
    lambda b, x: pooled(b, x, "AveragePool", count_include_pad=int(b.rng.random() < 0.5)),
    halves,
    sliced,
    shuffled,
)  # fmt: skip


def build(seed: int) -> ir.Model:
    """A graph of 5 to 16 steps with one to three outputs, without dead ends."""
    b = Builder(np.random.default_rng(seed))
    b.values.append(b.conv("x"))
    for _ in range(b.rng.integers(4, 16)):
        b.values.append(STEPS[b.rng.integers(len(STEPS))](b, b.pick()))
    more = [b.values[b.rng.integers(1, len(b.values))] for _ in range(b.rng.integers(0, 3))]
    outputs = [helper.make_tensor_value_info(name, 1, SHAPE) for name in dict.fromkeys([b.values[-1], *more])]
    inputs = [helper.make_tensor_value_info("x", 1, SHAPE)]
    graph = helper.make_graph(b.nodes, "random", inputs, outputs, b.constants)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    model = ir.Model.from_proto(onnx.shape_inference.infer_shapes(proto))
    Pipeline().graph(model, [EliminateDead()])
    return model


def compiled(model: ir.Model, keep_float: tuple[str, ...] = ()) -> Candidate:
    drafter = Drafter(model, BACKEND, keep_float)
    draft = drafter.draft("int8")
    stats = Seen.of(model, draft.wanted, [feed_for(model, seed) for seed in range(3)])
    return drafter.candidate(draft, stats, "minmax", {})


def sqnr(expected: np.ndarray, got: np.ndarray) -> float:
    noise, signal = np.square(expected - got).sum(), np.square(expected).sum()
    return float(10 * np.log10(signal / noise)) if noise > 1e-12 else 200.0


@pytest.mark.parametrize("seed", range(12))
def test_nothing_falls_back_and_the_numbers_hold(seed: int) -> None:
    model = build(seed)
    found = compiled(model)
    conformance = BACKEND.inspect(found.model, found.plan.nodes)
    assert conformance.fallback == ()
    # a pool between transposed values is known to run in the slow layout
    assert {s.runs_as for s in conformance.surprises} <= {"MaxPool"}
    feed = feed_for(model, 0)
    outputs = zip(run(model, feed), run(found.model, feed), run(found.model, feed, optimize=True), strict=True)
    for expected, off, on in outputs:
        assert sqnr(np.asarray(off), np.asarray(on)) > 25
        assert sqnr(np.asarray(expected), np.asarray(on)) > 8


@pytest.mark.parametrize("seed", range(100, 112))
def test_what_is_kept_float_is_computed_in_float(seed: int) -> None:
    model = build(seed)
    names = [node.name for node in model.nodes]
    kept = np.random.default_rng(seed).choice(names, max(1, len(names) // 4), replace=False).tolist()
    found = compiled(model, tuple(kept))
    assert all(found.plan.nodes[name].precision == "float" for name in kept if name in found.plan.nodes)
    conformance = BACKEND.inspect(found.model, found.plan.nodes)
    assert conformance.fallback == ()
    assert {s.runs_as for s in conformance.surprises} <= {"MaxPool"}


def test_the_same_graph_gives_the_same_bytes() -> None:
    for seed in range(200, 205):
        one, two = compiled(build(seed)), compiled(build(seed))
        assert one.model.to_proto().SerializeToString() == two.model.to_proto().SerializeToString()
