"""Add(Conv(x, W, b), Add(z, t)) -> Add(Conv(x, W, b + t), z);  Sub, in either order: b - t.

t is a scalar or one number per output channel, as the shift of a BatchNormalization on a shortcut is. The same for
ConvTranspose and Gemm. Source: (y + b) + (z + t) = (y + b + t) + z.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from qcompiler import ir
from qcompiler.passes.fusion.channelwise import Vector, per_channel, rounds
from qcompiler.passes.fusion.linear import BIASED, Linear, linear
from qcompiler.rewrite import Any, Const, Match, Op, Rule


@dataclass(frozen=True)
class FoldShiftAcrossAdd(Rule):
    """Folds a constant term per channel into the bias of a linear operator that its result is added to."""

    name: ClassVar[str] = "fold-shift-across-add"
    pattern: ClassVar[Op] = Op(
        "Add|Sub",
        linear(BIASED),
        Op("Add", Any("z"), Const("t"), bind="shift", shared=True),
        commutative=True,
        bind="op",
    )

    def check(self, edit: ir.Editor, found: Match) -> str | None:
        """Refuses what is not per channel, does not fit the bias's type, or is large enough to round."""
        view, shift = Linear(found.node("linear")), _shift(found)
        if reason := view.refusal():
            return reason
        if isinstance(shift, str):
            return shift
        return rounds(found.tensor("t")) or view.unsafe(None, shift)

    def rewrite(self, edit: ir.Editor, found: Match) -> None:
        """Writes a new bias; the sum reads what the term was added to."""
        shift, op = _shift(found), found.node("op")
        assert not isinstance(shift, str)
        Linear(found.node("linear")).absorb(edit, None, shift)
        inner = found.node("shift").outputs[0]
        edit.set_input(op, [tensor is inner for tensor in op.inputs].index(True), found.tensor("z"))


def _shift(found: Match) -> Vector | str:
    """What the term adds to the linear operator's result, or why that is not one number per channel."""
    view = Linear(found.node("linear"))
    values = per_channel(found.tensor("t"), view.output_axis, view.channels, view.rank)
    return -values if found.node("op").op == "Sub" and not isinstance(values, str) else values
