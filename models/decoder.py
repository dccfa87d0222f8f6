"""Writes a decoder of any size with made-up weights, as the model builder of onnxruntime-genai writes real ones.

    python -m models.decoder FOLDER [--layers 21] [--width 4096] [--hidden 11008] [--vocabulary 32000] [--type float16]

The sizes left out give 8 GB in float16 (4 billion parameters). Weights go to external data tensor by tensor, so that
memory does not grow with the model; the same arguments give the same bytes. The form is that of Llama: RMSNorm with
skip (`SkipSimplifiedLayerNormalization`), `GroupQueryAttention` with rotary embedding inside, SwiGLU; a cache of keys
and values; `--tied` makes the output layer the transposed embedding, stored twice, as exporters store it; `--experts N`
makes the layers behind attention a mixture of N experts (`MoE`).
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
import onnx
from onnx import NodeProto, TensorProto, helper

MICROSOFT = "com.microsoft"
HEAD, PAGE, PIECE = 64, 4096, 1 << 22


@dataclass(frozen=True)
class Sizes:
    """The form of a decoder."""

    layers: int = 21
    width: int = 4096
    hidden: int = 11008
    vocabulary: int = 32000
    length: int = 2048
    half: bool = True
    tied: bool = False
    experts: int = 0

    @property
    def heads(self) -> int:
        """Of queries; there are a quarter as many of keys and values."""
        return self.width // HEAD

    @property
    def groups(self) -> int:
        """Heads of keys and values."""
        return max(1, self.heads // 4)


@dataclass
class Writer:
    """Graph and data of a decoder.

    Attributes:
        stream: the file of weights.
    """

    sizes: Sizes
    stream: BinaryIO
    nodes: list[NodeProto] = field(default_factory=list)
    weights: list[TensorProto] = field(default_factory=list)
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))

    @property
    def kind(self) -> int:
        """Type of weights and activations."""
        return int(TensorProto.FLOAT16 if self.sizes.half else TensorProto.FLOAT)

    def node(self, op: str, inputs: list[str], outputs: str | list[str], domain: str = "", **attributes: object) -> str:
        """Adds a node; gives the name of its first output."""
        names = [outputs] if isinstance(outputs, str) else outputs
        self.nodes.append(helper.make_node(op, inputs, names, f"/{names[0]}/{op}", domain=domain, **attributes))
        return names[0]

    def random(self, name: str, *shape: int) -> str:
        """Weights of a normal distribution, a few MiB at a time; their size keeps activations near 1."""
        count, scale = int(np.prod(shape)), 1 / np.sqrt(shape[-2] if name.endswith("weight") else 1)

        def pieces() -> list[int]:
            return [min(PIECE, count - start) for start in range(0, count, PIECE)]

        self._place(name, shape, (self.rng.standard_normal(n, np.float32) * np.float32(scale) for n in pieces()))
        return name

    def fixed(self, name: str, values: npt.NDArray[np.float32]) -> str:
        """Given weights."""
        self._place(name, values.shape, [values])
        return name

    def _place(self, name: str, shape: tuple[int, ...], pieces: object) -> None:
        start = -(-self.stream.tell() // PAGE) * PAGE
        self.stream.write(bytes(start - self.stream.tell()))
        for piece in pieces:  # type: ignore[attr-defined]
            self.stream.write(piece.astype(np.float16 if self.sizes.half else np.float32).tobytes())
        tensor = TensorProto(name=name, data_type=self.kind, dims=shape, data_location=TensorProto.EXTERNAL)
        places = {"location": Path(self.stream.name).name, "offset": start, "length": self.stream.tell() - start}
        for key, value in places.items():
            tensor.external_data.add(key=key, value=str(value))
        self.weights.append(tensor)

    def linear(self, x: str, name: str, k: int, n: int) -> str:
        """x W."""
        return self.node("MatMul", [x, self.random(f"{name}.weight", k, n)], f"{name}.out")

    def norm(self, x: str, skip: str, name: str) -> tuple[str, str]:
        """RMSNorm of x + skip, and that sum."""
        gamma = self.fixed(f"{name}.gamma", 1 + 0.1 * self.rng.standard_normal(self.sizes.width, np.float32))
        if not skip:
            op = "SimplifiedLayerNormalization"
            return self.node(op, [x, gamma], f"{name}.out", axis=-1, epsilon=1e-5, stash_type=1), x
        outputs = [f"{name}.out", "", "", f"{name}.sum"]
        op = "SkipSimplifiedLayerNormalization"
        return self.node(op, [x, skip, gamma], outputs, MICROSOFT, epsilon=1e-5), f"{name}.sum"

    def attention(self, x: str, name: str, number: int) -> str:
        """Grouped-query attention with its cache."""
        s = self.sizes
        parts = [
            self.linear(x, f"{name}.{p}_proj", s.width, h * HEAD)
            for p, h in {"q": s.heads, "k": s.groups, "v": s.groups}.items()
        ]
        past = [f"past_key_values.{number}.{part}" for part in ("key", "value")]
        present = [f"present.{number}.{part}" for part in ("key", "value")]
        inputs = [*parts, *past, "seqlens_k", "total_sequence_length", "cos_cache", "sin_cache"]
        attributes = {"num_heads": s.heads, "kv_num_heads": s.groups, "do_rotary": 1}
        out = self.node("GroupQueryAttention", inputs, [f"{name}.attention", *present], MICROSOFT, **attributes)
        return self.linear(out, f"{name}.o_proj", s.width, s.width)

    def gated(self, x: str, name: str) -> str:
        """SwiGLU."""
        s = self.sizes
        gate, up = (self.linear(x, f"{name}.{part}_proj", s.width, s.hidden) for part in ("gate", "up"))
        sigmoid = self.node("Sigmoid", [gate], f"{name}.sigmoid")
        silu = self.node("Mul", [gate, sigmoid], f"{name}.silu")
        product = self.node("Mul", [silu, up], f"{name}.product")
        return self.linear(product, f"{name}.down_proj", s.hidden, s.width)

    def mixture(self, x: str, name: str) -> str:
        """A router and its experts."""
        s = self.sizes
        rows = self.node("Reshape", [x, "rows"], f"{name}.rows")
        router = self.linear(rows, f"{name}.router", s.width, s.experts)
        first = self.random(f"{name}.experts.fc1", s.experts, s.hidden, s.width)
        second = self.random(f"{name}.experts.fc2", s.experts, s.width, s.hidden)
        inputs = [x, router, first, "", second]
        return self.node(
            "MoE", inputs, f"{name}.out", MICROSOFT, k=2, activation_type="silu", normalize_routing_weights=1
        )


def write(folder: Path, sizes: Sizes) -> Path:
    """Writes `model.onnx` and its data into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / "model.onnx"
    with (folder / "model.onnx.data").open("wb") as stream:
        graph = decoder(Writer(sizes, stream))
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid(MICROSOFT, 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10, producer_name="decoder"), target)
    return target


def decoder(out: Writer) -> onnx.GraphProto:
    """The graph, its weights written."""
    s = out.sizes
    angles = np.outer(np.arange(s.length), 10000.0 ** (-np.arange(0, HEAD, 2) / HEAD)).astype(np.float32)
    out.fixed("cos_cache", np.cos(angles))
    out.fixed("sin_cache", np.sin(angles))
    table = out.random("model.embed_tokens", s.vocabulary, s.width)
    x, skip = out.node("Gather", [table, "input_ids"], "embedded"), ""
    lengths = out.node("ReduceSum", ["attention_mask", "axis"], "lengths", keepdims=0)
    out.node("Cast", [out.node("Sub", [lengths, "one"], "last")], "seqlens_k", to=TensorProto.INT32)
    total = out.node("Gather", [out.node("Shape", ["attention_mask"], "mask_shape"), "one"], "total", axis=0)
    out.node("Cast", [total], "total_sequence_length", to=TensorProto.INT32)
    for number in range(s.layers):
        name = f"model.layers.{number}"
        normed, skip = out.norm(x, skip if number else "", f"{name}.input_norm")
        x = out.attention(normed, f"{name}.attn", number)
        normed, skip = out.norm(x, skip, f"{name}.post_norm")
        x = out.mixture(normed, f"{name}.moe") if s.experts else out.gated(normed, f"{name}.mlp")
    normed, _ = out.norm(x, skip, "model.norm")
    if s.tied:
        size = s.vocabulary * s.width * (2 if s.half else 4)
        place = next(t for t in out.weights if t.name == table).external_data
        offset = int(next(entry.value for entry in place if entry.key == "offset"))
        out.stream.flush()
        values = np.memmap(out.stream.name, np.float16 if s.half else np.float32, "r", offset, (s.vocabulary, s.width))
        assert values.nbytes == size
        out.node("MatMul", [normed, out.fixed("lm_head.weight", values.T)], "logits")
    else:
        out.node("MatMul", [normed, out.random("lm_head.weight", s.width, s.vocabulary)], "logits")
    small = {"axis": np.array([1], np.int64), "one": np.array(1, np.int64), "rows": np.array([-1, s.width], np.int64)}
    used = {name for node in out.nodes for name in node.input}
    constants = [onnx.numpy_helper.from_array(v, k) for k, v in small.items() if k in used]
    cache = ["batch", s.groups, "past", HEAD], ["batch", s.groups, "total", HEAD]
    names = [f"{n}.{part}" for n in range(s.layers) for part in ("key", "value")]
    info = helper.make_tensor_value_info
    integers = [
        info(name, TensorProto.INT64, ["batch", length])
        for name, length in (("input_ids", "length"), ("attention_mask", "total"))
    ]
    past = [info(f"past_key_values.{name}", out.kind, cache[0]) for name in names]
    present = [info(f"present.{name}", out.kind, cache[1]) for name in names]
    logits = info("logits", out.kind, ["batch", "length", s.vocabulary])
    return helper.make_graph(out.nodes, "decoder", [*integers, *past], [logits, *present], [*out.weights, *constants])


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    default = Sizes()
    for name in ("layers", "width", "hidden", "vocabulary", "experts"):
        parser.add_argument(f"--{name}", type=int, default=getattr(default, name))
    parser.add_argument("--type", choices=("float16", "float32"), default="float16")
    parser.add_argument("--tied", action="store_true")
    given = parser.parse_args()
    sizes = Sizes(
        given.layers, given.width, given.hidden, given.vocabulary,
        half=given.type == "float16", tied=given.tied, experts=given.experts,
    )  # fmt: skip
    print(write(given.folder, sizes))


if __name__ == "__main__":
    main()
