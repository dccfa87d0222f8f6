"""Add(Conv(x, W, b), c) -> Conv(x, W, b + c);  Sub(y, c): b - c;  Sub(c, Conv(x, W, b)) -> Conv(x, -W, c - b).

c is a scalar or one number per output channel. The same for ConvTranspose and Gemm; a MatMul has no bias (see
`matmul_add_to_gemm`). Source: y = W x + b is linear in (W, b) (see `linear`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from qcompiler import ir
from qcompiler.passes.fusion.channelwise import Affine, rounds
from qcompiler.passes.fusion.fold_scale import output_affine
from qcompiler.passes.fusion.linear import BIASED, Linear, linear
from qcompiler.rewrite import Const, Match, Op, Rule


@dataclass(frozen=True)
class FoldShift(Rule):
    """Folds a constant term per output channel into the bias of the linear operator before it."""

    name: ClassVar[str] = "fold-shift"
    pattern: ClassVar[Op] = Op("Add|Sub", linear(BIASED), Const("c"), commutative=True, bind="op")

    def check(self, edit: ir.Editor, found: Match) -> str | None:
        """Refuses what is not per channel, does not fit the bias's type, or is large enough to round."""
        view, change = Linear(found.node("linear")), output_affine(found)
        if isinstance(change, str):
            return change
        return rounds(found.tensor("c")) or view.unsafe(change.scale, change.shift)

    def rewrite(self, edit: ir.Editor, found: Match) -> None:
        """Writes a new bias; the linear operator takes over the output."""
        change = output_affine(found)
        assert isinstance(change, Affine)
        Linear(found.node("linear")).absorb(edit, change.scale, change.shift)
        edit.replace_uses(found.output, found.node("linear").outputs[0])
