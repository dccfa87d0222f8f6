"""Transformer blocks in the forms that exporters write, compiled to few bits and run: each computes what it did."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from models.decoder import Sizes, write
from qcompiler import Recipe, compile

WIDTH, HEADS, HEAD, HIDDEN, WORDS, TOKENS, EXPERTS = 64, 4, 16, 96, 128, 12, 4
MICROSOFT = "com.microsoft"


@dataclass
class Block:
    """A decoder of one block, node by node.

    Attributes:
        form: how layers are written: `matmul`, `add` (MatMul and Add), `gemm` (Gemm between two Reshapes, transposed).
    """

    form: str = "matmul"
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    weights: list[onnx.TensorProto] = field(default_factory=list)
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))

    def node(self, op: str, inputs: list[str], outputs: str | list[str], domain: str = "", **attrs: object) -> str:
        names = [outputs] if isinstance(outputs, str) else outputs
        self.nodes.append(helper.make_node(op, inputs, names, f"/{names[0]}", domain=domain, **attrs))
        return names[0]

    def constant(self, name: str, values: np.ndarray) -> str:
        self.weights.append(numpy_helper.from_array(values, name))
        return name

    def random(self, name: str, *shape: int) -> str:
        values = self.rng.standard_normal(shape, np.float32) / np.sqrt(np.float32(shape[-2]))
        return self.constant(name, values)

    def layer(self, x: str, name: str, k: int, n: int) -> str:
        if self.form == "matmul":
            return self.node("MatMul", [x, self.random(f"{name}.weight", k, n)], f"{name}.out")
        bias = self.constant(f"{name}.bias", self.rng.standard_normal(n, np.float32))
        if self.form == "add":
            product = self.node("MatMul", [x, self.random(f"{name}.weight", k, n)], f"{name}.product")
            return self.node("Add", [bias, product], f"{name}.out")
        rows = self.node("Reshape", [x, self.constant(f"{name}.flat", np.array([-1, k]))], f"{name}.rows")
        values = self.rng.standard_normal((n, k), np.float32) / np.float32(np.sqrt(k))
        weight = self.constant(f"{name}.weight", values)
        product = self.node("Gemm", [rows, weight, bias], f"{name}.gemm", transB=1)
        shape = self.constant(f"{name}.shape", np.array([-1, TOKENS, n]))
        return self.node("Reshape", [product, shape], f"{name}.out")

    def attention(self, x: str) -> str:
        """Rotary embeddings of their own, then MultiHeadAttention."""
        parts = [self.layer(x, name, WIDTH, WIDTH) for name in "qkv"]
        angles = np.outer(np.arange(32), 100.0 ** (-np.arange(0, HEAD, 2) / HEAD)).astype(np.float32)
        caches = [self.constant("cos", np.cos(angles)), self.constant("sin", np.sin(angles))]
        turned = [
            self.node("RotaryEmbedding", [part, "positions", *caches], f"turned_{part}", MICROSOFT, num_heads=HEADS)
            for part in parts[:2]
        ]
        out = self.node(
            "MultiHeadAttention", [*turned, parts[2]], "attention", MICROSOFT, num_heads=HEADS, unidirectional=1
        )
        return self.layer(out, "o", WIDTH, WIDTH)

    def experts(self, x: str, bits: int) -> str:
        """A router and experts whose weights came in few bits, as the builder of onnxruntime-genai writes them."""
        rows = self.node("Reshape", [x, self.constant("flat", np.array([-1, WIDTH]))], "rows")
        router = self.node("MatMul", [rows, self.random("router.weight", WIDTH, EXPERTS)], "router")
        inputs = [x, router]
        for name, n, k in (("fc1", HIDDEN, WIDTH), ("fc2", WIDTH, HIDDEN)):
            codes = self.rng.integers(0, 256, (EXPERTS, n, k * bits // 8)).astype(np.uint8)
            scale = (0.5 + self.rng.random((EXPERTS, n))).astype(np.float32) / (2**bits * np.sqrt(k) / 4)
            inputs += [self.constant(name, codes), self.constant(f"{name}.scale", scale.astype(np.float32)), ""]
        return self.node(
            "QMoE", inputs[:-1], "experts", MICROSOFT, k=2, activation_type="silu", normalize_routing_weights=1,
            expert_weight_bits=bits,
        )  # fmt: skip

    def save(self, path: Path, bits: int = 0) -> Path:
        """Writes the model; `bits` of experts, 0 for a gated layer."""
        gains = [self.constant(f"gain{i}", 1 + self.rng.random(WIDTH, np.float32)) for i in range(3)]
        table = self.random("table", WORDS, WIDTH)
        x = self.node("Gather", [table, "ids"], "embedded")
        normed = self.node("SimplifiedLayerNormalization", [x, gains[0]], "normed", axis=-1, epsilon=1e-5, stash_type=1)
        skip = "SkipSimplifiedLayerNormalization"
        normed = self.node(
            skip, [x, self.attention(normed), gains[1]], ["normed1", "", "", "sum1"], MICROSOFT, epsilon=1e-5
        )
        if bits:
            y = self.experts(normed, bits)
        else:
            gate, up = (self.layer(normed, name, WIDTH, HIDDEN) for name in ("gate", "up"))
            silu = self.node("Mul", [gate, self.node("Sigmoid", [gate], "sigmoid")], "silu")
            y = self.layer(self.node("Mul", [silu, up], "product"), "down", HIDDEN, WIDTH)
        normed = self.node(skip, ["sum1", y, gains[2]], "normed2", MICROSOFT, epsilon=1e-5)
        turned = self.node("Transpose", [table], "turned", perm=[1, 0])
        self.node("MatMul", [normed, turned], "logits")  # the table is the output layer, too
        info = helper.make_tensor_value_info
        ids = [info(name, TensorProto.INT64, ["batch", TOKENS]) for name in ("ids", "positions")]
        logits = info("logits", TensorProto.FLOAT, ["batch", TOKENS, WORDS])
        graph = helper.make_graph(self.nodes, "block", ids, [logits], self.weights)
        opsets = [helper.make_opsetid("", 21), helper.make_opsetid(MICROSOFT, 1)]
        onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), path)
        return path


def samples(count: int) -> list[dict[str, np.ndarray]]:
    rng = np.random.default_rng(1)
    return [{"ids": rng.integers(0, WORDS, (1, TOKENS)), "positions": np.arange(TOKENS)[None]} for _ in range(count)]


def scores(path: Path, feed: dict[str, np.ndarray]) -> np.ndarray:
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, feed)[0])


LAYERS = 8
LEAST = {("w4", 8): 0.999, ("w4", 4): 0.93, ("int8", 0): 0.99, ("w8", 0): 0.999}


@pytest.mark.parametrize("form", ["matmul", "add", "gemm"])
@pytest.mark.parametrize(("precision", "bits"), list(LEAST))
def test_every_layer_is_found_and_computes_what_it_did(form: str, precision: str, bits: int, tmp_path: Path) -> None:
    model = Block(form).save(tmp_path / "m.onnx")
    options = {"bits": bits, "table_bits": bits, "accuracy_level": 0} if bits else {}
    recipe = Recipe(precision=precision, max_drop="none", bench_seconds=0, preset="fast", options=options)
    result = compile(
        model,
        "onnxruntime",
        samples(48 if bits == 4 and precision == "w4" else 6),
        output=tmp_path / "o",
        recipe=recipe,
    )
    shipped = tmp_path / "o" / "model.onnx"
    found = list(onnx.load(shipped).graph.node)
    if precision == "w4":
        assert sum(node.op_type == "MatMulNBits" for node in found) == LAYERS
        assert sum(node.op_type == "GatherBlockQuantized" for node in found) == 1
        large = [
            t for t in onnx.load(shipped).graph.initializer if t.dims and np.prod(t.dims) >= WORDS * WIDTH * bits / 8
        ]
        assert len(large) == 1  # one copy stays one
    else:
        quantized = [node for node in result.report.nodes if node.precision != "float"]
        assert sum(node.op in ("MatMul", "Gemm") for node in quantized) >= LAYERS
    feed = samples(49)[48]
    assert np.corrcoef(scores(model, feed).ravel(), scores(shipped, feed).ravel())[0, 1] > LEAST[precision, bits]


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("precision", ["w4", "int8"])
def test_experts_that_came_in_few_bits_stay_as_they_are(precision: str, bits: int, tmp_path: Path) -> None:
    model = Block().save(tmp_path / "m.onnx", bits)
    before = {t.name: numpy_helper.to_array(t) for t in onnx.load(model).graph.initializer}
    options = {"bits": 8, "accuracy_level": 0} if precision == "w4" else {}
    recipe = Recipe(precision=precision, max_drop="none", bench_seconds=0, preset="fast", options=options)
    compile(
        model,
        "onnxruntime",
        samples(48 if bits == 4 and precision == "w4" else 6),
        output=tmp_path / "o",
        recipe=recipe,
    )
    shipped = onnx.load(tmp_path / "o" / "model.onnx")
    (node,) = (node for node in shipped.graph.node if node.op_type == "QMoE")
    constants = {t.name: numpy_helper.to_array(t) for t in shipped.graph.initializer}
    np.testing.assert_array_equal(constants[node.input[2]], before["fc1"])
    feed = samples(49)[48]
    got = scores(tmp_path / "o" / "model.onnx", feed)
    assert np.corrcoef(scores(model, feed).ravel(), got.ravel())[0, 1] > (0.999 if precision == "w4" else 0.95)


@pytest.mark.parametrize(("bits", "least"), [(8, 0.998), (4, 0.94)])
def test_experts_get_few_bits(bits: int, least: float, tmp_path: Path) -> None:
    model = write(tmp_path / "m", Sizes(1, 256, 96, 64, 64, half=False, experts=4))
    empty = {f"past_key_values.0.{part}": np.zeros((1, 1, 0, 64), np.float32) for part in ("key", "value")}
    feed = {"input_ids": np.arange(TOKENS)[None], "attention_mask": np.ones((1, TOKENS), np.int64), **empty}
    options = {"bits": bits, "table_bits": 8, "accuracy_level": 0}
    recipe = Recipe(precision="w4", weight_method="mse", bench_seconds=0, options=options)
    for keep in ((), ("*/MoE",)):
        out = tmp_path / f"o{len(keep)}"
        notes = compile(model, "onnxruntime", output=out, recipe=replace(recipe, keep_float=keep)).report.notes
        ops = [node.op_type for node in onnx.load(out / "model.onnx", load_external_data=False).graph.node]
        assert ops.count("QMoE") == (not keep) and ops.count("MoE") == len(keep)
        assert any(f"the experts of 1 MoE have {bits} bits" in note for note in notes) == (not keep)
        assert np.corrcoef(scores(model, feed).ravel(), scores(out / "model.onnx", feed).ravel())[0, 1] > least
