"""Patterns: order of inputs, omitted inputs, repeated names, attributes, constants by value."""

from __future__ import annotations

import numpy as np
import pytest

from qcompiler import ir
from qcompiler.rewrite import Any, Const, Match, Op, match, matches
from tests.graphs import parse

TWO = {"two": np.float32(2), "ones": np.ones(3, np.float32), "mixed": np.float32([1, 2, 1])}


def last(text: str, **constants: np.ndarray) -> ir.Node:
    body = f"g (float[N, 3] x, float[N, 3] p, float[N, 3] q) => (float[N, 3] y) {{ {text} }}"
    return parse(body, {**TWO, **constants}).nodes[-1]


def names(found: Match | None) -> dict[str, str]:
    assert found is not None
    return {key: item.name for key, item in found.bound.items()}


@pytest.mark.parametrize("text", ["y = Add(x, two)", "y = Add(two, x)"])
def test_commutative_by_default_for_add_and_mul(text: str) -> None:
    assert names(match(Op("Add", Any("a"), Const("c")), last(text))) == {"a": "x", "c": "two"}


def test_order_counts_for_other_operators() -> None:
    pattern = Op("Sub", Any("a"), Const("c"))
    assert match(pattern, last("y = Sub(x, two)")) is not None
    assert match(pattern, last("y = Sub(two, x)")) is None
    assert match(Op("Sub", Any("a"), Const("c"), commutative=True), last("y = Sub(two, x)")) is not None
    assert match(Op("Add", Any("a"), Const("c"), commutative=False), last("y = Add(two, x)")) is None
    # mixed with an operator that is not commutative, Add is not either
    assert match(Op("Add|Sub", Any("a"), Const("c")), last("y = Add(two, x)")) is None


def test_several_operator_types_and_domains() -> None:
    pattern = Op("Relu|Tanh", Any("a"))
    assert match(pattern, last("y = Tanh(x)")) is not None
    assert match(pattern, last("y = Sigmoid(x)")) is None
    assert match(Op("Gelu", Any("a")), last("y = com.microsoft.Gelu(x)")) is None
    assert match(Op("Gelu", Any("a"), domain="com.microsoft"), last("y = com.microsoft.Gelu(x)")) is not None


def test_optional_inputs_omitted_at_the_end_and_in_the_middle() -> None:
    pattern = Op("Clip", Any("a"), Const("low", optional=True), Const("high", optional=True))
    assert names(match(pattern, last("y = Clip(x)"))) == {"a": "x"}
    found = match(pattern, last("y = Clip(x, , two)"))
    assert names(found) == {"a": "x", "high": "two"}
    assert found is not None and found.get("low") is None and found.get("high") is found.tensor("high")
    assert match(Op("Clip", Any("a"), Const("low"), Const("high")), last("y = Clip(x, , two)")) is None


def test_inputs_beyond_the_pattern_only_where_open() -> None:
    node = last("y = Clip(x, two)")
    assert match(Op("Clip", Any("a")), node) is None
    assert match(Op("Clip", Any("a"), open=True), node) is not None


def test_a_repeated_name_is_one_tensor() -> None:
    square = Op("Mul", Any("a"), Any("a"))
    assert match(square, last("y = Mul(x, x)")) is not None
    assert match(square, last("y = Mul(x, p)")) is None


@pytest.mark.parametrize("again", ["p", "q"])
@pytest.mark.parametrize("order", ["t, {}", "{}, t"])
def test_inner_order_is_tried_again_when_a_later_name_disagrees(again: str, order: str) -> None:
    """Whichever factor comes back, a is it; the first order of the inner Mul is wrong for one of them."""
    pattern = Op("Add", Op("Mul", Any("a"), Any("b")), Any("a"))
    found = match(pattern, last(f"t = Mul(p, q) y = Add({order.format(again)})"))
    assert names(found) == {"a": again, "b": "q" if again == "p" else "p"}


def test_a_repeated_node_name_is_one_node() -> None:
    pattern = Op("Add", Op("Relu", Any("a"), bind="n"), Op("Relu", Any("a"), bind="n"))
    assert match(pattern, last("t = Relu(x) y = Add(t, t)")) is not None
    assert match(pattern, last("t = Relu(x) u = Relu(x) y = Add(t, u)")) is None


def test_every_way_comes_once_and_as_written_first() -> None:
    pattern = Op("Add", Op("Relu", Any("a")), Any("b"))
    node = last("t = Relu(p) u = Relu(q) y = Add(t, u)")
    assert [names(way) for way in matches(pattern, node)] == [{"a": "p", "b": "u"}, {"a": "q", "b": "t"}]
    assert len(list(matches(Op("Mul", Any("a"), Any("b")), last("y = Mul(x, x)")))) == 1


def test_attributes() -> None:
    node = last("y = Softmax <axis = -1> (x)")
    assert match(Op("Softmax", Any("a"), attrs={"axis": -1}), node) is not None
    assert match(Op("Softmax", Any("a"), attrs={"axis": 1}), node) is None
    assert match(Op("Softmax", Any("a"), attrs={"axis": -1}), last("y = Softmax(x)")) is None
    assert match(Op("Softmax", Any("a"), attrs={"axis": None}), last("y = Softmax(x)")) is not None
    assert match(Op("Softmax", Any("a"), attrs={"axis": None}), node) is None


def test_constants_by_value() -> None:
    def fits(value: float, name: str, rtol: float = 1e-3) -> bool:
        return match(Op("Mul", Any("a"), Const(value=value, rtol=rtol)), last(f"y = Mul(x, {name})")) is not None

    assert fits(2, "two") and not fits(2.1, "two") and fits(2.1, "two", rtol=0.1)
    assert fits(1, "ones") and not fits(1, "mixed")
    assert match(Op("Mul", Any("a"), Const(value=2)), last("y = Mul(x, e)", e=np.zeros((0, 3), np.float32))) is None
    assert match(Op("Mul", Any("a"), Const(value=2)), last("y = Mul(x, p)")) is None


def test_an_output_by_number() -> None:
    first = last("t, u = Split <num_outputs = 2, axis = 1> (x) y = Relu(t)")
    second = last("t, u = Split <num_outputs = 2, axis = 1> (x) y = Relu(u)")
    pattern = Op("Relu", Op("Split", Any("a"), output=1, open=True))
    assert match(pattern, second) is not None
    assert match(pattern, first) is None


def test_inner_nodes_and_value() -> None:
    found = match(
        Op("Mul", Op("Relu", Any("a"), bind="relu", shared=True), Const("c"), bind="mul"),
        last("t = Relu(x) y = Mul(t, mixed)"),
    )
    assert found is not None
    assert [(node.op, shared) for node, shared in found.inner] == [("Relu", True)]
    assert found.node("mul") is found.root and found.output.name == "y"
    assert found.value("c").tolist() == [1, 2, 1]
