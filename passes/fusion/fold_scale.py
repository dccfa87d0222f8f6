"""Mul(Conv(x, W, b), c) -> Conv(x, W * c, b * c);  Div(Conv(x, W, b), c) -> Conv(x, W / c, b / c).

c is a scalar or one number per output channel. The same for ConvTranspose, Gemm, and MatMul with a constant right
operand. Source: y = W x + b is linear in (W, b) (see `linear`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from qcompiler import ir
from qcompiler.passes.fusion.channelwise import Affine, affine, constant_first, per_channel
from qcompiler.passes.fusion.linear import LINEAR, Linear, linear
from qcompiler.passes.fusion.ties import tied
from qcompiler.rewrite import Const, Match, Op, Rule


def output_affine(found: Match) -> Affine | str:
    """What the operator bound to "op" does to the output channels of the linear one, or why it is no such thing."""
    view, op = Linear(found.node("linear")), found.node("op")
    if reason := view.refusal():
        return reason
    values = per_channel(found.tensor("c"), view.output_axis, view.channels, view.rank)
    return values if isinstance(values, str) else affine(op.op, values, constant_first(found))


def copied(edit: ir.Editor, view: Linear, limit: int) -> str | None:
    """Why scaling the weight costs more than it saves: another node keeps the old one, of more than `limit` bytes, or
    it is a table, too, which targets store once."""
    users = {id(user) for user in view.weight.outputs}
    if len(users) > 1 and (size := ir.nbytes(view.weight)) > limit:
        return f"weight {view.weight.name!r} has {len(users)} users, and a copy takes {size} bytes"
    matrix = view.node.op in ("MatMul", "Gemm")
    if matrix and (table := tied(edit.model).get(view.node.name)) is not None:
        return f"weight {view.weight.name!r} is the table {table!r}, too, and would be stored a second time"
    return None


@dataclass(frozen=True)
class FoldScale(Rule):
    """Folds a constant factor per output channel into the linear operator before it.

    Args:
        copy_limit: a weight that other nodes use as well is copied up to this many bytes.
    """

    name: ClassVar[str] = "fold-scale"
    pattern: ClassVar[Op] = Op("Mul|Div", linear(LINEAR), Const("c"), commutative=True, bind="op")
    copy_limit: int = 1 << 20

    def check(self, edit: ir.Editor, found: Match) -> str | None:
        """Refuses what is not per channel, does not fit the weight's type, or would copy a large shared weight."""
        view, change = Linear(found.node("linear")), output_affine(found)
        if isinstance(change, str):
            return change
        return view.unsafe(change.scale, change.shift) or copied(edit, view, self.copy_limit)

    def rewrite(self, edit: ir.Editor, found: Match) -> None:
        """Writes new weights and bias; the linear operator takes over the output."""
        change = output_affine(found)
        assert isinstance(change, Affine)
        Linear(found.node("linear")).absorb(edit, change.scale, change.shift)
        edit.replace_uses(found.output, found.node("linear").outputs[0])
