"""Intermediate tensors as outputs: values, branches, refusals, and numbers that do not depend on what is looked at."""

from __future__ import annotations

import numpy as np
import pytest

from qcompiler import ir
from qcompiler.analysis.observe import observable, observed, order, refusals
from qcompiler.analysis.run import Runner
from tests.graphs import feed_for, parse

CHAIN = "g (float[N] x) => (float[N] y) { a = Neg(x)  b = Abs(a)  i = Cast<to = 7>(b)  y = Exp(b) }"

BRANCHES = """
g (bool c, bool d, float[N] x) => (float[N] y) {
    h = Neg(x)
    [pick] y = If (c) <
        then_branch = left () => (float[N] l) { inside = Abs(h)  l = Exp(inside) },
        else_branch = right () => (float[N] r) {
            [nested] r = If (d) <
                then_branch = deep () => (float[N] p) { deeper = Sqrt(x)  p = Neg(deeper) },
                else_branch = flat () => (float[N] q) { q = Identity(x) }
            >
        }
    >
}
"""

LOOP = """
g (int64 n, bool c, float[2] x) => (float[2] y) {
    [turns] y = Loop (n, c, x) <
        body = inner (int64 i, bool go, float[2] s) => (bool on, float[2] t) {
            on = Identity(go)
            w = Add(s, s)
            t = Abs(w)
        }
    >
}
"""


def see(model: ir.Model, names: list[str], feed: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    seen = observed(model, names)
    assert not seen.refused
    values = Runner(seen.payload).run(feed)
    return {name: values[output] for name, output in seen.outputs.items()}


def test_values_of_intermediate_tensors() -> None:
    values = see(parse(CHAIN), ["b", "a", "y"], {"x": np.float32([1, -2])})
    assert list(values) == ["a", "b", "y"]
    assert (values["a"].tolist(), values["b"].tolist()) == ([-1, 2], [1, 2])
    np.testing.assert_allclose(values["y"], np.exp([1, 2]), rtol=1e-6)


def test_the_model_and_its_outputs_stay() -> None:
    model = parse(CHAIN)
    before = model.to_proto().SerializeToString(deterministic=True)
    proto = observed(model, ["a", "y"]).payload.proto()
    assert [info.name for info in proto.graph.output] == ["y", "a"]
    assert model.to_proto().SerializeToString(deterministic=True) == before


def test_inputs_stand_for_themselves() -> None:
    seen = observed(parse(CHAIN), ["x", "a"])
    assert dict(seen.outputs) == {"x": "x", "a": "a"}
    assert [info.name for info in seen.payload.proto().graph.output] == ["y", "a"]


@pytest.mark.parametrize("name", ["inside", "deeper", "q"])
@pytest.mark.parametrize(("c", "d"), [(True, True), (False, True), (False, False)])
def test_a_branch_gives_its_tensor_when_it_is_taken_and_nothing_otherwise(name: str, c: bool, d: bool) -> None:
    taken = {"inside": c, "deeper": not c and d, "q": not c and not d}[name]
    feed = {"c": np.array(c), "d": np.array(d), "x": np.float32([1, 4])}
    got = see(parse(BRANCHES), [name], feed)[name]
    wanted = {"inside": [1, 4], "deeper": [1, 2], "q": [1, 4]}[name]
    assert got.tolist() == (wanted if taken else [])
    assert got.dtype == np.float32


def test_all_branches_at_once() -> None:
    feed = {"c": np.array(False), "d": np.array(True), "x": np.float32([1, 4])}
    values = see(parse(BRANCHES), ["h", "inside", "deeper", "q", "p", "y"], feed)
    assert {name: array.tolist() for name, array in values.items()} == {
        "h": [-1, -4], "inside": [], "deeper": [1, 2], "p": [-1, -2], "q": [], "y": [-1, -2],
    }  # fmt: skip


def test_refusals_say_why() -> None:
    assert refusals(parse(LOOP), ["w", "y", "x"]) == {"w": "it is inside the body of Loop node 'turns'"}
    model = parse("g (float[2] x) => (float[2] y) { y = Add(x, k) }", {"k": np.float32([1, 2])})
    assert refusals(model, ["k", "ghost"]) == {"k": "it is a constant", "ghost": "the model has no such tensor"}
    assert observed(model, ["k", "ghost"]).refused == refusals(model, ["k", "ghost"])


def test_a_sequence_is_refused() -> None:
    model = parse("g (float[2] x) => (float[2] y) { s = SequenceConstruct(x, x)  y = ConcatFromSequence<axis = 0>(s) }")
    assert refusals(model, ["s"]) == {"s": "it is not a tensor"}


def test_order_is_topological_with_branches_in_place() -> None:
    assert observable(parse(BRANCHES), ["y", "q", "deeper", "inside", "h", "x"])[0] == (
        "x", "h", "inside", "deeper", "q", "y",
    )  # fmt: skip
    position = order(parse(BRANCHES))
    assert position["x"] < position["h"] < position["inside"] < position["deeper"] < position["y"]


def test_shapes_without_values() -> None:
    seen = observed(parse(BRANCHES), ["h", "inside", "y"], show="shape")
    feed = {"c": np.array(True), "d": np.array(True), "x": np.zeros(5, np.float32)}
    values = Runner(seen.payload, outputs=list(seen.outputs.values())).run(feed)
    assert {name: values[output].tolist() for name, output in seen.outputs.items()} == {
        "h": [5],
        "inside": [5],
        "y": [5],
    }


def test_witnesses_keep_the_numbers_whatever_is_looked_at() -> None:
    """ONNX Runtime makes one kernel of MatMul and Mul, which rounds differently, unless the product is kept."""
    model = parse(
        """
        g (float[40,50] x, float[50,40] z) => (float[40,40] y) {
            a = MatMul(x, z)
            b = Mul(a, k)
            c = MatMul(b, b)
            d = Mul(c, k)
            y = Softmax(d)
        }""",
        {"k": np.float32(0.3)},
    )
    names, feed = ["a", "b", "c", "d", "y"], feed_for(model)

    def look(group: list[str], witnesses: list[str]) -> dict[str, bytes]:
        seen = observed(model, group, witnesses=witnesses)
        values = Runner(seen.payload, outputs=list(seen.outputs.values())).run(feed)
        return {name: values[output].tobytes() for name, output in seen.outputs.items()}

    together = look(names, [])
    apart = {name: value for group in ("a", "bc", "dy") for name, value in look(list(group), names).items()}
    assert apart == together
    alone = {name: look([name], [])[name] for name in names}
    assert alone != together, "without witnesses this test would prove nothing"
