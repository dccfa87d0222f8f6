"""Add(Add(x, a), b) -> Add(x, a + b)  and  Mul(Mul(x, a), b) -> Mul(x, a * b), with Sub and Div in any place:

    k * x + c     Add(x, c): k = 1     Sub(x, c): k = 1, -c     Sub(c, x): k = -1      two in a row: k k', k' c + c'
    c * x**p      Mul(x, c): p = 1     Div(x, c): p = 1, 1 / c   Div(c, x): p = -1     two in a row: p p', c**p' c'

The result is Add(x, c) or Sub(c, x), and Mul(x, c) or Div(c, x). Source: associativity; constants are combined in
float64 and rounded once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from qcompiler import ir
from qcompiler.passes.fusion.channelwise import rounds
from qcompiler.rewrite import Any, Const, Match, Op, Rule


def _pair(ops: str) -> Op:
    inner = Op(ops, Any("x"), Const("a"), commutative=True, bind="inner")
    return Op(ops, inner, Const("b"), commutative=True, bind="outer")


def _normal(node: ir.Node, constant: ir.Constant) -> tuple[int, npt.NDArray[np.float64]]:
    """(k, c) or (p, c) of the module's table, for a node with that constant operand."""
    first, values = node.inputs[0] is constant, ir.array(constant).astype(np.float64)
    match node.op:
        case "Sub":
            return (-1, values) if first else (1, -values)
        case "Div":
            return (-1, values) if first else (1, 1.0 / values)
        case _:
            return 1, values


def _merged(found: Match) -> tuple[int, npt.NDArray[np.floating]]:
    """The two operators as one, with the constant in its own type."""
    dtype = found.value("a").dtype
    with np.errstate(all="ignore"):
        (first, a), (second, b) = (
            _normal(found.node(node), found.tensor(c)) for node, c in (("inner", "a"), ("outer", "b"))
        )
        c = second * a + b if found.root.op in ("Add", "Sub") else a**second * b
        return first * second, np.asarray(c.astype(dtype))


@dataclass(frozen=True)
class MergeConstants(Rule):
    """Makes one operator of two in a row that each add, or each multiply by, a constant."""

    name: ClassVar[str] = "merge-constants"
    pattern: ClassVar[tuple[Op, ...]] = (_pair("Add|Sub"), _pair("Mul|Div"))

    def check(self, edit: ir.Editor, found: Match) -> str | None:
        """Refuses integers, constants large enough to round, a constant larger than both, and lost range."""
        a, b = found.tensor("a"), found.tensor("b")
        for constant in (a, b):
            if np.dtype(constant.dtype).kind != "f":
                return f"constant {constant.name!r} is {constant.dtype}, not float"
        if found.root.op in ("Add", "Sub") and (reason := rounds(a) or rounds(b)):
            return reason
        size = int(np.prod(np.broadcast_shapes(tuple(a.shape), tuple(b.shape))))
        if size > max(int(np.prod(a.shape)), int(np.prod(b.shape))):
            return f"constants {a.name!r} and {b.name!r} together take {size} values"
        values = _merged(found)[1]
        tiny = np.abs(values) < np.finfo(values.dtype).tiny
        if not np.isfinite(values).all() or (found.root.op in ("Mul", "Div") and tiny.any()):
            return f"constants {a.name!r} and {b.name!r} together leave the range of {values.dtype}"
        return None

    def rewrite(self, edit: ir.Editor, found: Match) -> None:
        """The outer node does the work of both."""
        node, x = found.node("outer"), found.tensor("x")
        sign, values = _merged(found)
        constant = edit.constant(f"{found.tensor('a').name}_merged", values)
        node.op = {("Add", 1): "Add", ("Add", -1): "Sub", ("Mul", 1): "Mul", ("Mul", -1): "Div"}[
            "Add" if node.op in ("Add", "Sub") else "Mul", sign
        ]
        edit.set_inputs(node, [x, constant] if sign == 1 else [constant, x])
