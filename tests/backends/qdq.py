"""Quantized graphs made by hand, node by node, to see what ONNX Runtime makes of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from qcompiler import ir

SCALE, MIDDLE = np.float32(0.05), np.uint8(128)


@dataclass
class Qdq:
    """A graph under construction; every method gives the name of its result."""

    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: list[onnx.TensorProto] = field(default_factory=list)
    inputs: list[onnx.ValueInfoProto] = field(default_factory=list)
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))

    def input(self, *shape: int) -> str:
        name = f"x{len(self.inputs)}"
        self.inputs.append(helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape))
        return name

    def constant(self, values: Any) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def node(self, op: str, *inputs: str, name: str = "", **attributes: Any) -> str:
        name = name or f"{op.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [f"{name}_out"], name=name, **attributes))
        return f"{name}_out"

    def q(self, x: str, scale: Any = SCALE, zero: Any = MIDDLE) -> str:
        """Q and DQ."""
        grid = self.constant(np.asarray(scale, np.float32)), self.constant(zero)
        return self.node("DequantizeLinear", self.node("QuantizeLinear", x, *grid), *grid)

    def weight(self, *shape: int, axis: int = 0, dtype: Any = np.int8, zero: int = 0) -> str:
        """Constant weights behind DQ, one scale a channel."""
        low = 0 if dtype is np.uint8 else -127
        codes = self.rng.integers(low, low + 255, shape).astype(dtype)
        scales = np.full(shape[axis], 0.01, np.float32)
        zeros = np.full(shape[axis], zero, dtype)
        return self.node(
            "DequantizeLinear", self.constant(codes), self.constant(scales), self.constant(zeros), axis=axis
        )

    def floats(self, *shape: int) -> str:
        """Constant float weights."""
        return self.constant(self.rng.normal(size=shape).astype(np.float32))

    def conv(self, x: str, channels: int = 8, *, name: str = "", weights: str = "", kernel: int = 3) -> str:
        """A Conv that keeps the size."""
        weights = weights or self.weight(channels, channels, kernel, kernel)
        return self.node("Conv", x, weights, name=name, pads=[kernel // 2] * 4)

    def model(self, *outputs: str) -> ir.Model:
        """The graph as a model."""
        results = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in outputs]
        graph = helper.make_graph(self.nodes, "g", self.inputs, results, self.constants)
        opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
        proto = helper.make_model(graph, opset_imports=opsets, ir_version=10)
        return ir.Model.from_proto(onnx.shape_inference.infer_shapes(proto))


def feed(model: ir.Model, seed: int = 0) -> dict[str, np.ndarray]:
    """Seeded normal values for every input."""
    rng = np.random.default_rng(seed)
    return {t.name: rng.normal(size=[int(d) for d in t.shape]).astype(np.float32) for t in model.inputs}
