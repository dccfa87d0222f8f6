"""remove-identity: nodes that change nothing, and those that only look so."""

from __future__ import annotations

import re

import numpy as np
import pytest

from qcompiler import ir
from qcompiler.passes.prepare import NameEverything, RemoveIdentity
from qcompiler.pipeline import PassRecord
from tests.graphs import assert_same_numbers, ops, parse, transform

CONSTANTS = {
    "one": np.float32(1),
    "ones": np.ones((1, 3, 1), np.float32),
    "wide": np.ones((2, 1, 3, 4), np.float32),
    "zero": np.zeros(1, np.float32),
    "half": np.float32(0.5),
    "copy": np.array([0, 0, -1]),
    "whole": np.array([0, 3, 4]),
    "other": np.array([0, 4, 3]),
    "flip": np.array([-1, 4, 3]),
    "same": np.array([3, 1]),
    "twice": np.array([2, 1, 1, 1]),
    "pads": np.zeros(6, np.int64),
    "pad": np.array([0, 0, 0, 0, 0, 1]),
    "start": np.array([0]),
    "far": np.array([2**31 - 1]),
    "step": np.array([2]),
    "unit": np.array([1]),
    "axis": np.array([1]),
    "no": np.array(False),
    "yes": np.array(True),
    "floats": np.ones(3, np.float32),
}


def model(node: str) -> ir.Model:
    """`node` computes b from a."""
    used = {name: CONSTANTS[name] for name in re.findall(r"\w+", node) if name in CONSTANTS}
    return parse(f"g (float[N, 3, 4] x, int64[1] given) => (float[N, 3, 4] y) {{ a = Neg(x) {node} y = Exp(b) }}", used)


def feeds() -> list[dict[str, np.ndarray]]:
    x = np.random.default_rng(3).normal(size=(2, 3, 4)).astype(np.float32)
    return [{"x": x, "given": np.array([1])}]


@pytest.mark.parametrize(
    "node",
    [
        "b = Identity(a)",
        "b = Dropout(a)",
        "b = Dropout(a, half)",
        "b = Dropout(a, half, no)",
        "b = Cast <to = 1> (a)",
        "b = CastLike(a, floats)",
        "b = Transpose <perm = [0, 1, 2]> (a)",
        "b = Reshape(a, copy)",
        "b = Reshape(a, whole)",
        "b = Expand(a, same)",
        "b = Pad(a, pads)",
        "b = Slice(a, start, far)",
        "b = Slice(a, start, far, axis, unit)",
        "b = Concat <axis = 1> (a)",
        "b = Sum(a)",
        "b = Max(a)",
        "b = Min(a)",
        "b = Mean(a)",
        "b = Split <num_outputs = 1, axis = 1> (a)",
        "b = Mul(a, one)",
        "b = Mul(ones, a)",
        "b = Div(a, ones)",
        "b = Add(zero, a)",
        "b = Sub(a, zero)",
        "c = Unsqueeze(a, axis) b = Squeeze(c, axis)",
    ],
)
def test_removes(node: str) -> None:
    before = model(node)
    after, records = transform(before, RemoveIdentity())
    assert [tensor.name for tensor in after.nodes[-1].inputs] == ["a"]
    assert records[0].changes == 1
    assert_same_numbers(before, after, feeds())


@pytest.mark.parametrize(
    "node",
    [
        "b = Dropout(a, half, yes)",
        "d, m = Dropout(a) k = Cast <to = 1> (m) b = Mul(d, k)",
        "d = Cast <to = 11> (a) b = Cast <to = 1> (d)",
        "b = Transpose <perm = [1, 0, 2]> (a)",
        "b = Reshape(a, flip)",
        "b = Reshape(a, other)",
        "b = Reshape <allowzero = 1> (a, copy)",
        "b = Expand(a, twice)",
        "b = Pad(a, pad)",
        "b = Slice(a, start, far, axis, step)",
        "b = Slice(a, start, far, axis, given)",
        "b = Slice(a, start, unit)",
        "b = Concat <axis = 1> (a, a)",
        "b = Mul(a, half)",
        "b = Mul(a, wide)",
        "b = Sub(zero, a)",
        "b = Div(one, a)",
        "b = Flatten(a)",
        "c = Unsqueeze(a, axis) b = Squeeze(c, given)",
    ],
)
def test_keeps(node: str) -> None:
    before = model(node)
    after = before.copy()
    record = PassRecord("remove-identity")
    RemoveIdentity().apply(after, record)
    assert record.changes == 0
    assert after.to_proto() == before.to_proto()


def test_the_producer_takes_over_the_name_of_an_output() -> None:
    before = parse("g (float[2] x) => (float[2] y) { a = Neg(x) y = Identity(a) }")
    after, _ = transform(before, RemoveIdentity())
    assert [(node.op, node.outputs[0].name) for node in after.nodes] == [("Neg", "y")]
    assert_same_numbers(before, after)


def test_stays_where_nobody_can_take_over_the_name() -> None:
    before = parse(
        """g (float[2] x) => (float[2] y, float[2] z, float[2] v, float[2] u) {
        y = Identity(x) z = Identity(w) v = Neg(x) u = Identity(v) }""",
        {"w": np.ones(2, np.float32)},
    )
    after, records = transform(before, RemoveIdentity())
    assert ops(after) == ["Identity", "Identity", "Neg", "Identity"]
    assert records[0].changes == 0


def test_other_readers_are_served_although_it_stays() -> None:
    before = parse("g (float[2] x) => (float[2] y, float[2] z) { y = Identity(x) z = Neg(y) }")
    after, records = transform(before, RemoveIdentity())
    assert after.nodes[1].inputs[0].name == "x"
    assert records[0].changes == 1
    assert_same_numbers(before, after)
    assert transform(after, RemoveIdentity())[1][0].changes == 0


def test_in_branches_captured_values_keep_their_identity() -> None:
    before = parse("""g (bool c, float[2] x) => (float[2] y) {
        a = Neg(x)
        y = If (c) <then_branch = t () => (float[2] r) { p = Exp(a) q = Identity(p) r = Identity(q) },
                    else_branch = e () => (float[2] s) { s = Identity(a) }> }""")
    after, records = transform(before, NameEverything(), RemoveIdentity())
    assert [node.op for node in after.all_nodes()] == ["Neg", "If", "Exp", "Identity"]
    assert records[1].changes == 2
    x = np.array([0.5, -1.5], np.float32)
    assert_same_numbers(before, after, [{"c": np.array(flag), "x": x} for flag in (True, False)])


def test_does_not_believe_what_the_file_states_of_inner_tensors() -> None:
    before = parse("g (float[N, 3] x) => (float[1, M] y) { a = Neg(x) y = Reshape(a, s) }", {"s": np.array([1, -1])})
    next(ir.editors(before)).retype(before.nodes[0].outputs[0], np.dtype(np.float32), [1, 3])
    after, _ = transform(before, RemoveIdentity())
    assert ops(after) == ["Neg", "Reshape"]
