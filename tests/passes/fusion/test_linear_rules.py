"""The rules about linear operators together: chains, random graphs, the zoo."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from qcompiler import ir
from qcompiler.passes.fusion.linear_rules import LINEAR_RULES
from qcompiler.passes.prepare import prepare
from qcompiler.pipeline import Pipeline
from tests.graphs import assert_same_numbers, ops, parse, run

RNG = np.random.default_rng(31)


def normal(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


def batchnorm(channels: int) -> dict[str, np.ndarray]:
    var = RNG.uniform(0.5, 2, channels).astype(np.float32)
    return {
        "g": RNG.uniform(0.5, 2, channels).astype(np.float32),
        "be": normal(channels),
        "m": normal(channels),
        "v": var,
    }


def apply(model: ir.Model) -> tuple[ir.Model, Pipeline]:
    after, pipeline = model.copy(), Pipeline()
    pipeline.fixpoint(after, LINEAR_RULES)
    onnx.checker.check_model(after.to_proto(), full_check=True)
    return after, pipeline


def test_names_are_unique_and_tell_the_file() -> None:
    names = [rule.name for rule in LINEAR_RULES]
    assert len(set(names)) == len(names)
    for rule in LINEAR_RULES:
        assert type(rule).__module__.endswith(f".{rule.name.replace('-', '_')}")
        assert type(rule).__name__ == "".join(part.capitalize() for part in rule.name.split("-"))


BODY = "BatchNormalization(x, g, be, m, v)"


@pytest.mark.parametrize(
    ("text", "shapes", "wanted"),
    [
        # a Conv without padding takes the whole BatchNormalization before it
        (
            f"g (float[N, 4, 6, 6] x) => (float[N, 6, P, Q] y) {{ t = {BODY} y = Conv(t, w) }}",
            {"w": (6, 4, 3, 3)},
            ["Conv"],
        ),
        # with padding, the border would see the shift; the factor goes past it
        (
            f"g (float[N, 4, 6, 6] x) => (float[N, 6, P, Q] y) {{ t = {BODY} y = Conv <pads = [1, 1, 1, 1]> (t, w) }}",
            {"w": (6, 4, 3, 3)},
            ["Add", "Conv"],
        ),
        # a MatMul becomes a Gemm through the shift of what follows it
        (
            "g (float[N, 5] x) => (float[N, 4] y) { t = MatMul(x, w) y = BatchNormalization(t, g, be, m, v) }",
            {"w": (5, 4)},
            ["Gemm"],
        ),
        (
            """g (float[N, 4, 6, 6] x) => (float[N, 4, P, Q] y) {
                p = Pad(x, pads) c = Conv(p, w) d = Add(c, b) y = BatchNormalization(d, g, be, m, v) }""",
            {"w": (4, 4, 3, 3), "b": (1, 4, 1, 1)},
            ["Conv"],
        ),
        # PaddlePaddle writes ConvTranspose, Add, BatchNormalization
        (
            """g (float[N, 3, 6, 6] x) => (float[N, 4, P, Q] y) {
                c = ConvTranspose <strides = [2, 2]> (x, w) d = Add(c, b) y = BatchNormalization(d, g, be, m, v) }""",
            {"w": (3, 4, 2, 2), "b": (4, 1, 1)},
            ["ConvTranspose"],
        ),
        # a normalised image: (x - mean) / std into the first Conv
        (
            """g (float[N, 4, 6, 6] x) => (float[N, 6, P, Q] y) { s = Sub(x, m4) t = Div(s, d4) y = Conv(t, w) }""",
            {"w": (6, 4, 3, 3), "m4": (1, 4, 1, 1), "d4": (1, 1, 1, 1)},
            ["Conv"],
        ),
    ],
)
def test_chains(text: str, shapes: dict[str, tuple[int, ...]], wanted: list[str]) -> None:
    pads = {"pads": np.int64([0, 0, 1, 1, 0, 0, 1, 1])} if "pads)" in text else {}
    before = parse(text, {**batchnorm(4), **pads, **{name: normal(*shape) for name, shape in shapes.items()}})
    after, _ = apply(before)
    assert ops(after) == wanted
    assert_same_numbers(before, after, rtol=1e-3, atol=1e-4)


class Builder:
    """Grows a random graph of images, one operator after the other, with what a drawn number says."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.inits: list[onnx.TensorProto] = []
        self.tensor, self.shape = "x", (1, 4, 6, 6)
        self.earlier: list[tuple[str, tuple[int, ...]]] = []

    def constant(self, *shape: int, low: float = -1.0, high: float = 1.0) -> str:
        name = f"k{len(self.inits)}"
        values = self.rng.uniform(low, high, shape).astype(np.float32)
        self.inits.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def node(self, op: str, *inputs: str, shape: tuple[int, ...] | None = None, **attrs: object) -> None:
        self.earlier.append((self.tensor, self.shape))
        name = f"{op.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [f"{name}_y"], name=name, **attrs))
        self.tensor, self.shape = f"{name}_y", shape or self.shape

    def operand(self, low: float = -1.0, high: float = 1.0) -> str:
        c, h, w = self.shape[1:]
        shapes = [(), (1,), (c, 1, 1), (1, c, 1, 1), (c, 1, 1), (1, 1, w), (h, 1)]
        return self.constant(*shapes[self.rng.integers(len(shapes))], low=low, high=high)

    def grow(self, op: str) -> None:
        _, c, h, w = self.shape
        flip, x = bool(self.rng.integers(2)), self.tensor
        if op in ("Add", "Sub", "Mul", "Div"):
            k = self.operand(0.5, 2.0) if op in ("Mul", "Div") else self.operand()
            self.node(op, *((k, x) if flip and op != "Div" else (x, k)))
        elif op == "Relu":
            self.node("Relu", x)
        elif op == "BatchNormalization":
            params = [self.constant(c, low=0.5, high=1.5), self.constant(c), self.constant(c)]
            self.node(op, x, *params, self.constant(c, low=0.5, high=2.0))
        elif op == "Conv":
            group = int(self.rng.choice([g for g in (1, 2, c) if c % g == 0]))
            out, pad = group * int(self.rng.integers(1, 3)), int(self.rng.integers(2))
            if h + 2 * pad < 3 or w + 2 * pad < 3:
                return
            inputs = [x, self.constant(out, c // group, 3, 3), *([self.constant(out)] if flip else [])]
            size = (1, out, h + 2 * pad - 2, w + 2 * pad - 2)
            self.node("Conv", *inputs, shape=size, group=group, pads=[pad] * 4)
        elif op == "ConvTranspose":
            group = int(self.rng.choice([g for g in (1, 2) if c % g == 0]))
            out = int(self.rng.integers(1, 3))
            inputs = [x, self.constant(c, out, 2, 2), *([self.constant(out * group)] if flip else [])]
            self.node("ConvTranspose", *inputs, shape=(1, out * group, h + 1, w + 1), group=group)
        elif op == "Pad":
            amounts = [
                0,
                0,
                *(int(n) for n in self.rng.integers(0, 3, 2)),
                0,
                0,
                *(int(n) for n in self.rng.integers(0, 3, 2)),
            ]
            name = f"k{len(self.inits)}"
            self.inits.append(numpy_helper.from_array(np.int64(amounts), name))
            self.node("Pad", x, name, shape=(1, c, h + amounts[2] + amounts[6], w + amounts[3] + amounts[7]))
        elif op in ("MaxPool", "AveragePool"):
            if h >= 2 and w >= 2:
                self.node(op, x, shape=(1, c, h - 1, w - 1), kernel_shape=[2, 2])
        elif op == "Residual":
            same = [name for name, shape in self.earlier if shape == self.shape]
            if same:
                self.node("Add", *([same[-1], x] if flip else [x, same[-1]]))

    def model(self, outputs: set[int], dense: int) -> ir.Model:
        features = int(np.prod(self.shape))
        self.node("Flatten", self.tensor, shape=(1, features))
        for _ in range(dense):
            x, width = self.tensor, self.shape[1]
            self.node("MatMul", x, self.constant(width, 5), shape=(1, 5))
            self.node("Add", self.tensor, self.constant(5))
            self.node("Mul", self.tensor, self.constant(5, low=0.5, high=2.0))
        info = helper.make_tensor_value_info
        shapes = dict([*self.earlier, (self.tensor, self.shape)])
        names = [n.output[0] for i, n in enumerate(self.nodes[:-1]) if i in outputs] + [self.tensor]
        ends = [info(name, TensorProto.FLOAT, shapes[name]) for name in names]
        graph = helper.make_graph(self.nodes, "g", [info("x", TensorProto.FLOAT, (1, 4, 6, 6))], ends, self.inits)
        proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
        return ir.Model.from_proto(onnx.shape_inference.infer_shapes(proto))


KINDS = [
    "Conv",
    "BatchNormalization",
    "Mul",
    "Add",
    "Sub",
    "Div",
    "Relu",
    "Residual",
    "Pad",
    "ConvTranspose",
    "MaxPool",
    "AveragePool",
]


@settings(max_examples=120, derandomize=True)
@given(
    st.integers(0, 2**16),
    st.lists(st.sampled_from(KINDS), min_size=1, max_size=12),
    st.sets(st.integers(0, 11), max_size=2),
    st.integers(0, 2),
)
def test_random_graphs_keep_their_numbers(seed: int, kinds: list[str], outputs: set[int], dense: int) -> None:
    builder = Builder(seed)
    for kind in kinds:
        builder.grow(kind)
    before = builder.model(outputs, dense)
    after, pipeline = apply(before)
    feed = {"x": np.random.default_rng(seed).normal(size=(1, 4, 6, 6)).astype(np.float32)}
    for wanted, got in zip(run(before, feed), run(after, feed), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-3, atol=1e-4 * max(1.0, float(np.abs(wanted).max(initial=0))))
    assert [t.name for t in after.outputs] == [t.name for t in before.outputs]
    assert not Pipeline().graph(after.copy(), LINEAR_RULES), "the rules had not come to an end"
    decomposed = sum(record.changes for record in pipeline.trace.records if record.name == "decompose-batchnorm")
    assert len(after.nodes) <= len(before.nodes) + decomposed


# what the rules do to each model behind the prepare passes: the least number of nodes that they take away
TAKEN = {"mobilenetv3_small": 1, "ppocrv3_det": 51, "minilm_l6": 6}


@pytest.mark.zoo
@pytest.mark.parametrize(
    "name", [*TAKEN, "stories260k", "resnet20_cifar10", "vit_cifar10", "kws_dscnn", "silero_vad", "yunet_320"]
)
def test_zoo_models_keep_their_numbers(zoo: ModuleType, name: str) -> None:
    entry = zoo.MODELS[name]
    before = ir.Model.from_proto(onnx.load(entry.path))
    prepare(Pipeline(), before)
    after, pipeline = apply(before)
    assert len(after.nodes) <= len(before.nodes) - TAKEN.get(name, 0)
    assert "BatchNormalization" not in ops(after)
    assert sum(record.seconds for record in pipeline.trace.records) < 5
    feed = next(iter(entry.calibration()))
    for wanted, got in zip(run(before, feed), run(after, feed), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-3, atol=1e-4 * float(np.abs(wanted).max()))


def test_a_value_keeps_its_name() -> None:
    """Whatever tensor of the first model is left in the second holds the same numbers."""
    text = """g (float[1, 4, 6, 6] x) => (float[1, 4, P, Q] y) {
        s = Mul(x, two) t = Sub(s, one) c = Conv <pads = [1, 1, 1, 1]> (t, w) n = BatchNormalization(c, g, be, m, v)
        r = Relu(n) h = BatchNormalization(r, g, be, m, v) a = Tanh(h) d = Add(a, one) e = Add(d, two) y = Relu(e) }"""
    before = parse(text, {**batchnorm(4), "w": normal(4, 4, 3, 3), "two": np.float32(2), "one": np.float32(1)})
    after, _ = apply(before)
    assert ops(after) == ["Add", "Conv", "Relu", "Mul", "Add", "Tanh", "Add", "Relu"]
    names = [{t.name for node in model.nodes for t in node.outputs} for model in (before, after)]
    common = sorted(names[0] & names[1])
    assert common == ["a", "e", "h", "n", "r", "y"]
    for model in (before, after):
        tensors = {t.name: t for node in model.nodes for t in node.outputs}
        model.graph.outputs = [tensors[name] for name in common]
    assert_same_numbers(before, after)
