"""second(first(x)) -> Reshape(x, shape of the result), for Reshape, Flatten, Squeeze and Unsqueeze in a row.

None of them moves data, so that the last shape alone decides. Chains of Unsqueeze and Squeeze with known axes become
one Unsqueeze or one Squeeze, also where dimensions are unknown; whatever gives back the shape of x disappears.
A Reshape needs the shape of the result: static, with one unknown dimension at most, or the constant that the second
Reshape has, if it copies no dimension (0). Source: ONNX operator standard, Reshape.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from qcompiler import ir
from qcompiler.passes.fusion.forms import replace
from qcompiler.rewrite import Any, Match, Op, Rule

SHAPE_OPS = "Reshape|Flatten|Squeeze|Unsqueeze"
# how the result comes from x: the operator (none: it is x) and its axes or shape
Plan = tuple[str, list[int]]


def given_axes(node: ir.Node) -> list[int] | None:
    """The constant axes of a Squeeze or Unsqueeze, from the attribute or the input."""
    if "axes" in node.attrs:
        return list(node.attrs["axes"])
    constant = len(node.inputs) > 1 and isinstance(node.inputs[1], ir.Constant)
    return ir.array(node.inputs[1]).reshape(-1).tolist() if constant else None


def axes_plan(x: ir.Tensor, nodes: Sequence[ir.Node]) -> Plan | None:
    """One Squeeze or Unsqueeze that does what the chain does; None where it is neither."""
    if x.shape is None:
        return None
    dims: list[int | None] = list(range(len(x.shape)))  # of x; None is an inserted 1
    for node in nodes:
        axes = given_axes(node) if node.op in ("Squeeze", "Unsqueeze") else None
        if axes is None:
            return None
        rank = len(dims) + (len(axes) if node.op == "Unsqueeze" else 0)
        places = {axis % rank for axis in axes}
        if node.op == "Unsqueeze":
            rest = iter(dims)
            dims = [None if place in places else next(rest) for place in range(rank)]
        else:
            dims = [dim for place, dim in enumerate(dims) if place not in places]
    inserted = [place for place, dim in enumerate(dims) if dim is None]
    removed = [dim for dim in range(len(x.shape)) if dim not in dims]
    if inserted and removed:
        return None
    return ("Unsqueeze", inserted) if inserted else ("Squeeze" if removed else "", removed)


def target_shape(result: ir.Tensor, last: ir.Node) -> list[int] | None:
    """What a Reshape is given to make the result that `last` makes, whatever it reads; None where that is not known."""
    if result.shape is not None and 0 not in result.shape:
        target = [dim if isinstance(dim, int) else -1 for dim in result.shape]
        if target.count(-1) <= 1:
            return target
    if last.op == "Reshape" and isinstance(last.inputs[1], ir.Constant):
        shape: list[int] = ir.array(last.inputs[1]).tolist()
        return None if 0 in shape else shape
    return None


def shape_plan(x: ir.Tensor, result: ir.Tensor, second: ir.Node) -> Plan | None:
    """The Reshape of x to the shape of the result; None where that shape is not known."""
    target = target_shape(result, second)
    if target is None:
        return None
    same = x.shape is not None and [dim if isinstance(dim, int) else -1 for dim in x.shape] == target
    return ("", []) if same and result.shape is not None else ("Reshape", target)


@dataclass(frozen=True)
class MergeReshapes(Rule):
    """Joins two changes of shape in a row into one, or removes both."""

    name: ClassVar[str] = "merge-reshapes"
    pattern: ClassVar[Op] = Op(
        SHAPE_OPS,
        Op(SHAPE_OPS, Any("x"), Any("how", optional=True), bind="first", shared=True),
        Any("how_again", optional=True),
    )

    def check(self, edit: ir.Editor, found: Match) -> str | None:
        """Refuses unknown shapes, and a first node that stays for others where nothing would be saved."""
        plan, first = self._plan(found), found.node("first")
        if plan is None:
            return f"the shape of {found.output.name!r} is not known well enough"
        if plan[0] and len(edit.uses(first.outputs[0])) > 1:
            return f"{first.op} {first.name!r} has other users and stays"
        return None

    def rewrite(self, edit: ir.Editor, found: Match) -> None:
        """One node of x, or x itself."""
        x, plan = found.tensor("x"), self._plan(found)
        assert plan is not None
        op, numbers = plan
        if not op:
            edit.replace_uses(found.output, x)
        elif op != "Reshape" and edit.model.opset < 13:
            replace(edit, found, op, [x], {"axes": numbers})
        else:
            given = edit.constant(f"{found.root.name}_{op.lower()}", np.array(numbers, np.int64))
            replace(edit, found, op, [x, given])

    def _plan(self, found: Match) -> Plan | None:
        x, chain = found.tensor("x"), (found.node("first"), found.root)
        return axes_plan(x, chain) or shape_plan(x, found.output, found.root)
