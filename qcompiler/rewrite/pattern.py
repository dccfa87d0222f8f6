"""Patterns as values: what a rewrite looks for, written like the expression.

    Op("BatchNormalization",
       Op("Conv", Any("x"), Const("w"), Const("b", optional=True), bind="conv"),
       Const("gamma"), Const("beta"), Const("mean"), Const("var"), bind="bn")

A name that occurs twice must be the same tensor (or node) both times. Every way to order the inputs of commutative
operators is tried until all names agree.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from qcompiler import ir


@dataclass(frozen=True)
class Any:
    """Any tensor; an omitted input only where `optional`."""

    name: str
    optional: bool = False


@dataclass(frozen=True)
class Const:
    """A constant. Where `value` is given, all its elements must be within `rtol` of it."""

    name: str = ""
    optional: bool = False
    value: float | None = None
    rtol: float = 1e-3


class Op:
    """The output of an operator.

    Args:
        ops: operator types, any of which fits, separated by "|".
        inputs: patterns of the inputs; inputs beyond these are not looked at if `open`, else must be absent.
        bind: name under which the match holds the node.
        shared: the output may have other uses. By default an inner node must be used by this match alone.
        commutative: the first two inputs may come in either order; default for Add and Mul.
        attrs: attribute values required; an absent attribute never fits, except when the value is None.
        output: index of the output that the enclosing pattern uses.
    """

    def __init__(
        self,
        ops: str,
        *inputs: Pattern,
        bind: str = "",
        shared: bool = False,
        commutative: bool | None = None,
        attrs: Mapping[str, object] | None = None,
        domain: str = "",
        open: bool = False,
        output: int = 0,
    ) -> None:
        self.ops = tuple(ops.split("|"))
        self.inputs = inputs
        self.bind, self.shared, self.open, self.domain, self.output = bind, shared, open, domain, output
        self.commutative = commutative if commutative is not None else set(self.ops) <= {"Add", "Mul"}
        self.attrs = dict(attrs or {})


Pattern = Any | Const | Op


@dataclass
class Match:
    """What a pattern found.

    Attributes:
        root: the node that produces the matched value.
        bound: tensors and nodes by name.
        inner: matched nodes besides the root, which die with the match, each with whether it may have other uses.
    """

    root: ir.Node
    bound: dict[str, ir.Tensor | ir.Node] = field(default_factory=dict)
    inner: list[tuple[ir.Node, bool]] = field(default_factory=list)

    def node(self, name: str) -> ir.Node:
        """The node bound to `name`."""
        return self.bound[name]

    def tensor(self, name: str) -> ir.Tensor:
        """The tensor bound to `name`."""
        return self.bound[name]

    def get(self, name: str) -> ir.Tensor | None:
        """The tensor bound to `name`, None where the optional input was omitted."""
        return self.bound.get(name)

    def value(self, name: str) -> npt.NDArray[np.generic]:
        """The array of the constant bound to `name`."""
        return ir.array(self.bound[name])

    @property
    def output(self) -> ir.Tensor:
        """The value that the pattern computes."""
        return self.root.outputs[0]


def match(pattern: Op, node: ir.Node) -> Match | None:
    """The first way in which `pattern` fits with `node` as its root, or None."""
    return next(matches(pattern, node), None)


def matches(pattern: Op, node: ir.Node) -> Iterator[Match]:
    """Every way in which `pattern` fits with `node` as its root; the inputs as written come before those swapped."""
    for bound, inner in _node_ways(pattern, node, {}, (), is_root=True):
        yield Match(node, bound, list(inner))


Bound = dict[str, "ir.Tensor | ir.Node"]
Inner = tuple[tuple["ir.Node", bool], ...]


def _node_ways(
    pattern: Op, node: ir.Node, bound: Bound, inner: Inner, *, is_root: bool = False
) -> Iterator[tuple[Bound, Inner]]:
    """What is bound when `pattern` fits `node`, given what is bound already; `bound` is never changed."""
    if node.op not in pattern.ops or (node.domain or "") != pattern.domain:
        return
    if any(node.attrs.get(name) != value for name, value in pattern.attrs.items()):
        return
    inputs: list[ir.Tensor] = list(node.inputs)
    while inputs and not inputs[-1].name:
        inputs.pop()
    if not pattern.open and len(inputs) > len(pattern.inputs):
        return
    inputs += [None] * (len(pattern.inputs) - len(inputs))
    if pattern.bind:
        if bound.get(pattern.bind, node) is not node:
            return
        bound = {**bound, pattern.bind: node}
    if not is_root:
        inner = (*inner, (node, pattern.shared))
    yield from _all_ways(pattern.inputs, inputs, bound, inner)
    if pattern.commutative and len(inputs) >= 2 and inputs[0] is not inputs[1]:
        yield from _all_ways(pattern.inputs, [inputs[1], inputs[0], *inputs[2:]], bound, inner)


def _all_ways(
    patterns: Sequence[Pattern], tensors: Sequence[ir.Tensor | None], bound: Bound, inner: Inner
) -> Iterator[tuple[Bound, Inner]]:
    if not patterns:
        yield bound, inner
        return
    for bound_here, inner_here in _ways(patterns[0], tensors[0], bound, inner):
        yield from _all_ways(patterns[1:], tensors[1:], bound_here, inner_here)


def _ways(pattern: Pattern, tensor: ir.Tensor | None, bound: Bound, inner: Inner) -> Iterator[tuple[Bound, Inner]]:
    if tensor is None or not tensor.name:
        if not isinstance(pattern, Op) and pattern.optional:
            yield bound, inner
        return
    if isinstance(pattern, Op):
        if len(tensor.inputs) == 1:
            producer = tensor.inputs[0]
            if len(producer.outputs) > pattern.output and producer.outputs[pattern.output] is tensor:
                yield from _node_ways(pattern, producer, bound, inner)
        return
    if pattern.name:
        if bound.get(pattern.name, tensor) is not tensor:
            return
        if isinstance(pattern, Any) or _is_constant(pattern, tensor):
            yield {**bound, pattern.name: tensor}, inner
    elif isinstance(pattern, Any) or _is_constant(pattern, tensor):
        yield bound, inner


def _is_constant(pattern: Const, tensor: ir.Tensor) -> bool:
    if not isinstance(tensor, ir.Constant):
        return False
    if pattern.value is None:
        return True
    values = ir.array(tensor)
    if values.dtype.kind not in "fiu" or values.size == 0:
        return False
    # one element decides almost every time, and a large weight need not be read from disk
    return all(
        np.allclose(part.astype(np.float64), pattern.value, rtol=pattern.rtol, atol=1e-12)
        for part in (values.reshape(-1)[:1], values)
    )
