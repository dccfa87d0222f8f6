"""Invariants: each is broken once, and named."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from onnx import TensorProto, helper

from qcompiler import ir
from qcompiler.errors import QCompilerError, VerifyError
from tests.ir.models import attributes, branch, plain


def reading_nothing(model: ir.Model) -> None:
    edit = next(ir.editors(model))
    edit.set_input(model.nodes[1], 0, edit.variable("loose"))


def reading_the_other_branch(model: ir.Model) -> None:
    _, then, other = ir.editors(model)
    other.set_input(other.graph.nodes[0], 0, then.graph.nodes[0].outputs[0])


def output_from_outside(model: ir.Model) -> None:
    model.find("if").attrs["else_branch"].outputs[0] = model.nodes[0].outputs[0]


def two_producers(model: ir.Model) -> None:
    edit = next(ir.editors(model))
    edit.add("Neg", [model.inputs[0]], name="again", outputs=[model.nodes[0].outputs[0]])


def cycle(model: ir.Model) -> None:
    edit = next(ir.editors(model))
    edit.set_input(model.nodes[0], 0, model.nodes[1].outputs[0])


FAULTS: dict[str, tuple[Callable[[ir.Model], object], str]] = {
    "empty name": (lambda m: setattr(m.nodes[0], "name", ""), "'': node name is empty or used twice"),
    "node name": (lambda m: setattr(m.nodes[0], "name", "t0"), "'t0': node name is empty or used twice"),
    "tensor name": (lambda m: setattr(m.nodes[0].outputs[0], "name", "x"), "x: two tensors share this name"),
    "constant name": (lambda m: setattr(m.graph.declared[0], "name", "v"), "v: two tensors share this name"),
    "unnamed constant": (lambda m: setattr(m.graph.declared[0], "name", ""), "has no name"),
    "unused constant": (
        lambda m: m.graph.declared.append(ir.Constant("x", next(m.constants())._values)),
        "x: two tensors share this name",
    ),
    "listed twice": (lambda m: m.graph.nodes.append(m.nodes[0]), "'neg': node name is empty or used twice"),
    "consumers": (
        lambda m: list.pop(m.nodes[0].outputs[0].outputs),
        "consumer list of 'a' disagrees with the node",
    ),
    "consumers, too many": (
        lambda m: list.append(m.inputs[0].outputs, m.nodes[1]),
        "if: consumer list of 'x' disagrees with the node",
    ),
    "erased consumer": (
        lambda m: list.append(m.inputs[0].outputs, ir.Node("Relu", "ghost")),
        "a node not in it: consumer list of 'x' disagrees with the node",
    ),
    "no producer": (reading_nothing, "if: input 'loose' has no producer"),
    "other branch": (reading_the_other_branch, "e0: input 't1' has no producer"),
    "output": (lambda m: m.graph.outputs.append(ir.Variable("z")), "z: graph output has no producer"),
    "output from outside": (output_from_outside, "a: graph output has no producer"),
    "two producers": (two_producers, "output 'a' has 2 producers"),
    "cycle": (cycle, "neg -> if -> neg: the graph has a cycle"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_faults(name: str) -> None:
    model = ir.Model.from_proto(branch())
    ir.verify(model)
    change, message = FAULTS[name]
    change(model)
    with pytest.raises(QCompilerError) as found:
        ir.verify(model)
    assert message in str(found.value)
    assert isinstance(found.value, VerifyError) or name == "cycle"


@pytest.mark.parametrize("make", [plain, branch, attributes])
def test_sound_models(make: Callable[[], object]) -> None:
    ir.verify(ir.Model.from_proto(make()))


@pytest.mark.parametrize("kind", ["chain", "star", "hub"])
def test_large_graphs_take_no_time(kind: str) -> None:
    """A chain; one tensor that all read; one node that reads all, every tensor twice."""
    count = 5000
    inputs = {
        "chain": [[f"t{i}"] for i in range(count)],
        "star": [["t0", "t0"]] * count,
        "hub": [["t0"]] * (count - 1) + [[f"t{i}" for i in range(1, count)] * 2],
    }[kind]
    nodes = [helper.make_node("Sum", names, [f"t{i + 1}"], name=f"n{i}") for i, names in enumerate(inputs)]
    x = helper.make_tensor_value_info("t0", TensorProto.FLOAT, [2])
    model = ir.Model.from_proto(helper.make_model(helper.make_graph(nodes, "g", [x], [])))
    best = min(timed(model) for _ in range(3))
    assert best < 0.2


def timed(model: ir.Model) -> float:
    """Seconds for one verification."""
    start = time.process_time()
    ir.verify(model)
    return time.process_time() - start
