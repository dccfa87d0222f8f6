"""Random small graphs, old and new opsets, keep their outputs through prepare and fusion, and come to rest."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import numpy as np
import onnx
import pytest
from onnx import NodeProto, TensorProto, helper, numpy_helper

from qcompiler import ir
from qcompiler.passes.fusion import fusion_rules
from qcompiler.passes.prepare import prepare, simplify_passes
from qcompiler.pipeline import Pipeline
from tests.graphs import assert_same_numbers

SHAPE = ["N", 3, 4, 4]
AXES_ARE_INPUTS = 13


@dataclass
class Writer:
    """Writes one graph of float[N, 3, 4, 4] tensors; branches have writers of their own."""

    rng: random.Random
    opset: int
    names: list[str]
    prefix: str = ""
    nodes: list[NodeProto] = field(default_factory=list)
    constants: list[TensorProto] = field(default_factory=list)

    def add(self, op: str, inputs: list[str], outputs: int = 1, **attributes: object) -> str:
        names = [f"{self.prefix}t{len(self.nodes)}_{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(op, inputs, names, **attributes))
        return names[0]

    def constant(self, value: object, dtype: type = np.float32) -> str:
        tensor = numpy_helper.from_array(np.asarray(value, dtype), f"{self.prefix}w{len(self.constants)}")
        if self.rng.random() < 0.5:
            return self.add("Constant", [], value=tensor)
        self.constants.append(tensor)
        return tensor.name

    def integers(self, *values: int) -> str:
        return self.constant(values, np.int64)

    def axes(self, op: str, tensor: str, axis: int) -> str:
        if self.opset < AXES_ARE_INPUTS:
            return self.add(op, [tensor], axes=[axis])
        return self.add(op, [tensor, self.integers(axis)])

    def step(self) -> None:
        pick = self.rng.choice
        a, b = pick(self.names), pick(self.names)
        match pick(
            ["unary", "binary", "sum", "split", "reshape", "copy", "turn", "neutral", "scale", "fold", "squeeze", "if"]
        ):
            case "unary":
                new = self.add(pick(["Relu", "Neg", "Identity", "Sigmoid"]), [a])
            case "binary":
                new = self.add(pick(["Add", "Mul", "Sub"]), [a, b])
            case "sum":
                new = self.add("Sum", [pick(self.names) for _ in range(pick([1, 2, 3]))])
            case "split":
                joined = self.add("Concat", [a, b], axis=1)
                form = [joined, self.integers(3, 3)] if self.opset >= AXES_ARE_INPUTS else [joined]
                new = self.add("Split", form, 2, axis=1, **({} if len(form) > 1 else {"split": [3, 3]}))
            case "reshape":
                new = self.add("Reshape", [a, self.integers(*pick([[0, 0, 0, -1], [-1, 3, 4, 4]]))])
            case "copy":
                batch = self.add("Gather", [self.add("Shape", [b]), self.constant(0, np.int64)])
                target = self.add("Concat", [self.axes("Unsqueeze", batch, 0), self.integers(3, 4, 4)], axis=0)
                new = self.add("Reshape", [a, target])
            case "turn":
                new = self.add("Transpose", [self.add("Transpose", [a], perm=[0, 2, 3, 1])], perm=[0, 3, 1, 2])
            case "neutral":
                op, value = pick([("Add", 0), ("Mul", 1), ("Div", 1), ("Sub", 0)])
                new = self.add(op, [a, self.constant(np.full(pick([(), (1,), (3, 1, 1)]), value))])
            case "scale":
                new = self.add("Mul", [self.constant(np.full(pick([(), (3, 1, 1), (1, 3, 4, 4)]), 0.5)), a])
            case "fold":
                new = self.add("Add", [a, self.add("Exp", [self.constant(np.full((3, 1, 1), 0.3))])])
            case "squeeze":
                new = self.axes("Squeeze", self.axes("Unsqueeze", a, 1), 1)
            case _:
                new = self.branch(a)
        self.names.append(new)

    def branch(self, source: str) -> str:
        if self.prefix.count("b") > 1:
            return self.add("Relu", [source])
        condition = "c" if self.rng.random() < 0.5 else self.constant(self.rng.random() < 0.5, np.bool_)
        branches = {}
        for name in ("then_branch", "else_branch"):
            inner = Writer(self.rng, self.opset, list(self.names), f"{self.prefix}b{len(self.nodes)}{name[0]}_")
            branches[name] = inner.graph(self.rng.randint(1, 4), [])
        return self.add("If", [condition], **branches)

    def graph(self, steps: int, inputs: list[onnx.ValueInfoProto]) -> onnx.GraphProto:
        outer = len(self.names)
        for _ in range(steps):
            self.step()
        own = self.names[outer:]
        outputs = (
            [self.add("Identity", [self.rng.choice(own)])] if not inputs else self.rng.sample(own, min(2, len(own)))
        )
        infos = [helper.make_tensor_value_info(name, TensorProto.FLOAT, SHAPE) for name in outputs]
        return helper.make_graph(self.nodes, f"{self.prefix}graph", inputs, infos, self.constants)


def random_model(seed: int) -> onnx.ModelProto:
    rng = random.Random(seed)
    opset = rng.choice([11, 13, 17, 21])
    inputs = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, SHAPE),
        helper.make_tensor_value_info("c", TensorProto.BOOL, []),
    ]
    graph = Writer(rng, opset, ["x"]).graph(rng.randint(2, 14), inputs)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


@pytest.mark.parametrize("block", range(6))
def test_outputs_stay(block: int) -> None:
    for seed in range(block * 12, block * 12 + 12):
        proto = random_model(seed)
        before, after = ir.Model.from_proto(proto), ir.Model.from_proto(proto)
        x = np.random.default_rng(seed).normal(scale=0.5, size=(2, 3, 4, 4)).astype(np.float32)
        feeds = [{"x": x, "c": np.array(flag)} for flag in (True, False)]
        prepare(Pipeline(), after)
        onnx.checker.check_model(after.to_proto(), full_check=True)
        assert_same_numbers(before, after, feeds)
        again = Pipeline()
        prepare(again, after)
        assert [record.name for record in again.trace.records if record.changes] == [], seed
        again.fixpoint(after, fusion_rules())
        again.fixpoint(after, simplify_passes())
        assert_same_numbers(before, after, feeds)
