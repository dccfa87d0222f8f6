"""Random graphs for a random precision and GPU: the real builder takes every one, and computes each node as planned."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from qcompiler import ir
from qcompiler.analysis import Runner, SessionConfig
from qcompiler.backends.tensorrt.backend import NO_FUSION, TensorRT
from qcompiler.backends.tensorrt.build import build, version
from qcompiler.backends.tensorrt.gate import PLANNED
from qcompiler.backends.tensorrt.kernels import by_node, kernels
from qcompiler.backends.tensorrt.variants import GPUS
from qcompiler.passes.prepare.eliminate_dead import EliminateDead
from qcompiler.pipeline import Pipeline
from qcompiler.search.candidates import Candidate, Drafter
from tests.backends.builder import GraphBuilder
from tests.graphs import feed_for, run
from tests.quantized import Seen

pytestmark = pytest.mark.skipif(not version(), reason="needs the extra `tensorrt`")

IMAGE, TOKENS, WIDTH = [2, 32, 8, 8], [2, 24, 64], 64


class Builder(GraphBuilder):
    """A graph under construction; every value has the shape of its input."""

    def weight(self, *shape: int) -> str:
        fan = int(np.prod(shape[1:])) if len(shape) > 2 else shape[0]
        return self.const(self.rng.normal(size=shape) / np.sqrt(fan))

    def pick(self) -> str:
        return self.values[-1] if self.rng.random() < 0.6 else self.values[self.rng.integers(len(self.values))]


def conv(b: Builder, x: str, kernel: int = 3, group: int = 1) -> str:
    weight = b.weight(32, 32 // group, kernel, kernel)
    bias = [b.const(b.rng.normal(size=32) * 0.1)] if b.rng.random() < 0.7 else []
    return b.node("Conv", x, weight, *bias, pads=[kernel // 2] * 4, group=group)


def residual(b: Builder, x: str) -> str:
    inner = conv(b, b.node("Relu", conv(b, x)))
    return b.node("Relu", b.node("Add", inner, x) if b.rng.random() < 0.5 else b.node("Add", x, inner))


def excite(b: Builder, x: str) -> str:
    return b.node("Mul", x, b.node("Sigmoid", conv(b, b.node("GlobalAveragePool", x), kernel=1)))


def upsampled(b: Builder, x: str) -> str:
    pooled = b.node("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
    scales = b.const(np.float32([1, 1, 2, 2]))
    return b.node("Resize", pooled, "", scales, mode=str(b.rng.choice(["nearest", "linear"])))


IMAGES: tuple[Callable[[Builder, str], str], ...] = (
    conv, conv, residual, excite, upsampled,
    lambda b, x: conv(b, x, kernel=1),
    lambda b, x: conv(b, x, group=32),
    lambda b, x: conv(b, x, group=4),
    lambda b, x: b.node("Relu", x),
    lambda b, x: b.node("HardSwish", x),
    lambda b, x: b.node("Clip", x, b.const(0.0), b.const(6.0)),
    lambda b, x: b.node("Add", x, b.pick()),
    lambda b, x: b.node("AveragePool", x, kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
    lambda b, x: b.node("Mul", x, b.const(b.rng.normal(size=(32, 1, 1)))),
    lambda b, x: b.node("ConvTranspose", x, b.weight(32, 32, 3, 3), pads=[1, 1, 1, 1]),
    lambda b, x: conv(b, b.node("Slice", b.node("Concat", x, b.pick(), axis=1),
                                b.const([16]), b.const([48]), b.const([1]))),
)  # fmt: skip


def linear(b: Builder, x: str, out: int = WIDTH, inner: int = WIDTH) -> str:
    product = b.node("MatMul", x, b.weight(inner, out))
    return b.node("Add", product, b.const(b.rng.normal(size=out) * 0.1)) if b.rng.random() < 0.7 else product


def attention(b: Builder, x: str) -> str:
    heads = [b.node("Reshape", linear(b, x), b.const([0, 0, 2, WIDTH // 2])) for _ in range(3)]
    q, v = (b.node("Transpose", head, perm=[0, 2, 1, 3]) for head in heads[:2])
    k = b.node("Transpose", heads[2], perm=[0, 2, 3, 1])
    scores = b.node("Mul", b.node("MatMul", q, k), b.const(0.2))
    if b.rng.random() < 0.5:
        mask = np.where(np.arange(24) < 20, 0, np.finfo(np.float32).min).astype(np.float32)
        scores = b.node("Add", scores, b.const(mask.reshape(1, 1, 1, 24)))
    mixed = b.node("Transpose", b.node("MatMul", b.node("Softmax", scores, axis=-1), v), perm=[0, 2, 1, 3])
    return b.node("Add", x, linear(b, b.node("Reshape", mixed, b.const([0, 0, WIDTH]))))


SENTENCES: tuple[Callable[[Builder, str], str], ...] = (
    attention, attention, linear,
    lambda b, x: b.node("LayerNormalization", x, b.const(np.ones(WIDTH)), b.const(np.zeros(WIDTH)), axis=-1),
    lambda b, x: b.node("Add", x, linear(b, b.node("Gelu", linear(b, x, 128)), inner=128)),
    lambda b, x: b.node("Mul", linear(b, x), b.node("Sigmoid", linear(b, x))),
    lambda b, x: b.node("Tanh", x),
    lambda b, x: b.node("Add", x, b.pick()),
)  # fmt: skip


def graph(seed: int) -> ir.Model:
    """A network over images, or over sentences, of 3 to 7 steps."""
    b = Builder(np.random.default_rng(seed))
    steps, shape = (IMAGES, IMAGE) if seed % 2 else (SENTENCES, TOKENS)
    for _ in range(b.rng.integers(3, 8)):
        b.values.append(steps[b.rng.integers(len(steps))](b, b.pick()))
    last = b.values[-1] if b.values[-1] != "x" else b.node("Relu", "x")
    outputs, inputs = (helper.make_tensor_value_info(name, 1, shape) for name in (last, "x"))
    made = helper.make_graph(b.nodes, "random", [inputs], [outputs], b.constants)
    proto = helper.make_model(made, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    model = ir.Model.from_proto(onnx.shape_inference.infer_shapes(proto))
    Pipeline().graph(model, [EliminateDead()])
    return model


def compiled(model: ir.Model, backend: TensorRT, precision: str) -> Candidate:
    drafter = Drafter(model, backend)
    draft = drafter.draft(precision)
    names = [t.name for t in model.inputs] + [t.name for node in model.nodes for t in node.outputs]
    return drafter.candidate(draft, Seen.of(model, names, [feed_for(model, seed) for seed in range(3)]), "minmax", {})


CASES = [
    (seed, variant, precision)
    for seed, (variant, precision) in enumerate(
        (variant, precision)
        for variant in ("sm75", "sm80", "sm86", "sm89", "sm120")
        for precision in TensorRT(variant).spec.schemes
    )
]


@pytest.mark.parametrize(("seed", "variant", "precision"), CASES)
def test_the_builder_takes_what_is_legal(seed: int, variant: str, precision: str, tmp_path: Path) -> None:
    seed = int(np.random.default_rng(seed).integers(1000)) * 2 + seed % 2
    model, backend = graph(seed), TensorRT(variant)
    found = compiled(model, backend, precision)
    path = tmp_path / "model.onnx"
    ir.save(found.model, path)
    built = build(path, GPUS[variant].proxy, {})
    assert built.ok, built.error
    types = by_node(kernels(built.layers))
    planned = {name: plan.precision for name, plan in found.plan.nodes.items() if plan.precision in PLANNED}
    assert {name: types.get(name) for name in planned} == planned
    feed = feed_for(model, 0)
    (expected,), got = (
        run(model, feed),
        next(iter(Runner(found.runs, SessionConfig(entries=(NO_FUSION,))).run(feed).values())),
    )
    noise, signal = np.square(expected - got).sum(), np.square(expected).sum()
    assert noise < (0.3 if precision in ("nvfp4", "w4") else 0.03) * signal
