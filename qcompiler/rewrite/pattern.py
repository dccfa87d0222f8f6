"""Patterns as values: what a rewrite looks for, written like the expression.

    Op("BatchNormalization",
       Op("Conv", Any("x"), Const("w"), Const("b", optional=True), bind="conv"),
       Const("gamma"), Const("beta"), Const("mean"), Const("var"), bind="bn")

A name that occurs twice must be the same tensor both times.
"""

from __future__ import annotations

from collections.abc import Mapping
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
    found = Match(node)
    return found if _fits_node(pattern, node, found, is_root=True) else None


def _fits_node(pattern: Op, node: ir.Node, found: Match, *, is_root: bool = False) -> bool:
    if node.op not in pattern.ops or (node.domain or "") != pattern.domain:
        return False
    if any(node.attrs.get(name) != value for name, value in pattern.attrs.items()):
        return False
    inputs = list(node.inputs)
    while inputs and not inputs[-1].name:
        inputs.pop()
    if not pattern.open and len(inputs) > len(pattern.inputs):
        return False
    inputs += [None] * (len(pattern.inputs) - len(inputs))
    orders = [inputs]
    if pattern.commutative and len(inputs) >= 2:
        orders.append([inputs[1], inputs[0], *inputs[2:]])
    for order in orders:
        saved_bound, saved_inner = dict(found.bound), list(found.inner)
        if all(_fits(p, t, found) for p, t in zip(pattern.inputs, order, strict=False)):
            if pattern.bind:
                found.bound[pattern.bind] = node
            if not is_root:
                found.inner.append((node, pattern.shared))
            return True
        found.bound, found.inner = saved_bound, saved_inner
    return False


def _fits(pattern: Pattern, tensor: ir.Tensor | None, found: Match) -> bool:
    if tensor is None or not tensor.name:
        return not isinstance(pattern, Op) and pattern.optional
    if isinstance(pattern, Op):
        if len(tensor.inputs) != 1 or len(tensor.inputs[0].outputs) <= pattern.output:
            return False
        producer = tensor.inputs[0]
        return producer.outputs[pattern.output] is tensor and _fits_node(pattern, producer, found)
    if isinstance(pattern, Const):
        if not isinstance(tensor, ir.Constant):
            return False
        if pattern.value is not None:
            values = ir.array(tensor)
            if values.dtype.kind not in "fiu" or values.size == 0:
                return False
            if not np.allclose(values.astype(np.float64), pattern.value, rtol=pattern.rtol, atol=1e-12):
                return False
    if not pattern.name:
        return True
    return found.bound.setdefault(pattern.name, tensor) is tensor
