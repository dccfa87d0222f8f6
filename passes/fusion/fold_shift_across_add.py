"""Add(Conv(x, W, b), Add(z, t)) -> Add(Conv(x, W, b + t), z);  Sub, in either order: b - t.

t is a scalar or one number per output channel, as the shift of a BatchNormalization on a shortcut is. The same for
ConvTranspose and Gemm. Source: (y + b) + (z + t) = (y + b + t) + z.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from qcompiler import ir
from qcompiler.passes.fusion.channelwise import Vector, rounds
from qcompiler.passes.fusion.fold_scale import output_affine
from qcompiler.passes.fusion.linear import BIASED, Linear, linear
from qcompiler.rewrite import Any, Const, Match, Op, Rule


@dataclass(frozen=True)
class FoldShiftAcrossAdd(Rule):
    """Folds a constant term per channel into the bias of a linear operator that its result is added to."""

    name: ClassVar[str] = "fold-shift-across-add"
    pattern: ClassVar[Op] = Op(
        "Add|Sub",
        linear(BIASED),
        Op("Add", Any("z"), Const("c"), bind="op", shared=True),
        commutative=True,
        bind="sum",
    )

    def check(self, edit: ir.Editor, found: Match) -> str | None:
        """Refuses what is not per channel, does not fit the bias's type, or is large enough to round."""
        shift = _shift(found)
        if isinstance(shift, str):
            return shift
        return rounds(found.tensor("c")) or Linear(found.node("linear")).unsafe(None, shift)

    def rewrite(self, edit: ir.Editor, found: Match) -> None:
        """Writes a new bias; the sum reads what the term was added to."""
        shift, outer = _shift(found), found.node("sum")
        assert not isinstance(shift, str)
        Linear(found.node("linear")).absorb(edit, None, shift)
        inner = found.node("op").outputs[0]
        edit.set_input(outer, [tensor is inner for tensor in outer.inputs].index(True), found.tensor("z"))


def _shift(found: Match) -> Vector | str:
    """What the term adds to the linear operator's result, or why that is not one number per channel."""
    change = output_affine(found)
    if isinstance(change, str):
        return change
    assert change.shift is not None
    return -change.shift if found.node("sum").op == "Sub" else change.shift
