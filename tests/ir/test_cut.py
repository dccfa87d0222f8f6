"""Cutting a model: the part that depends on some nodes computes what the whole one computes."""

from __future__ import annotations

import numpy as np
import pytest

from qcompiler import ir
from qcompiler.analysis import Runner, SessionConfig
from qcompiler.errors import PassError
from tests.graphs import parse

TEXT = """g (float[2, 4] x, bool c) => (float[2, 4] y, float[2, 4] z) {
    a = Relu (x)
    b = Mul (a, w)
    d = Tanh (b)
    e = Add (a, d)
    y = If (c) <
        then_branch = t () => (float[2, 4] p) { p = Add (e, b) },
        else_branch = f () => (float[2, 4] q) { q = Neg (e) }
    >
    z = Abs (a)
}"""
OFF = SessionConfig("off")


def model() -> ir.Model:
    found = parse(TEXT, {"w": np.float32([[1, 2, 3, 4]])})
    for number, node in enumerate(found.all_nodes()):
        node.name = f"n{number}"
    for node, name in zip(found.nodes, ("relu", "mul", "tanh", "add", "if", "abs"), strict=True):
        node.name = name
    return found


def test_the_part_needs_what_crosses_the_border_and_gives_what_depends_on_it() -> None:
    part, inputs = ir.Cutter(model()).downstream({"tanh"}, also={"d", "b"})
    assert [node.name for node in part.nodes] == ["tanh", "add", "if"]
    assert set(inputs) == {"a", "b", "c"} == {tensor.name for tensor in part.inputs}
    assert [tensor.name for tensor in part.outputs] == ["y", "d"]  # z does not depend on it, b is not computed in it
    assert not list(part.constants())
    ir.verify(part)


@pytest.mark.parametrize("branch", [True, False])
def test_the_part_computes_the_same_numbers(branch: bool) -> None:
    whole = model()
    feed = {"x": np.random.default_rng(0).normal(size=(2, 4)).astype(np.float32), "c": np.array(branch)}
    seen = parse("g (float[2, 4] x) => (float[2, 4] a, float[2, 4] b) { a = Relu (x) b = Mul (a, w) }",
                 {"w": np.float32([[1, 2, 3, 4]])})  # fmt: skip
    values = Runner(seen, OFF).run({"x": feed["x"]})
    part, inputs = ir.Cutter(whole).downstream({"add"})
    values["d"] = np.tanh(values["b"])
    given = {name: feed.get(name, values.get(name)) for name in inputs}
    np.testing.assert_allclose(Runner(part, OFF).run(given)["y"], Runner(whole, OFF).run(feed)["y"], rtol=1e-6)


def test_the_model_is_left_alone() -> None:
    whole = model()
    before = ir.to_text(whole)
    ir.Cutter(whole).downstream({"mul"})
    assert ir.to_text(whole) == before


def test_a_border_of_unknown_type_is_refused() -> None:
    whole = model()
    next(node for node in whole.nodes if node.name == "relu").outputs[0].dtype = None
    with pytest.raises(PassError, match="the type of 'a' is unknown"):
        ir.Cutter(whole).downstream({"mul"})
