"""Conv(Add(x, c), W, b) -> Conv(x, W, b + W c);  Sub(x, c): b - W c;  Conv(Sub(c, x), W, b) -> Conv(x, -W, b + W c).

c is a scalar or one number per input channel. Exact only where the operator sees nothing but its input: a Conv without
padding, or a Gemm. A ConvTranspose sees fewer taps at its borders, and a MatMul has no bias.
Source: W (x + c) = W x + W c (see `linear`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from qcompiler import ir
from qcompiler.passes.fusion.channelwise import Affine, rounds
from qcompiler.passes.fusion.fold_scale_forward import input_affine
from qcompiler.passes.fusion.linear import Linear, linear
from qcompiler.rewrite import Any, Const, Match, Op, Rule


def _input_affine(found: Match) -> Affine | str:
    return input_affine(Linear(found.node("linear")), found.node("op"), found.tensor("x"), found.tensor("c"))


@dataclass(frozen=True)
class FoldShiftForward(Rule):
    """Folds a constant term per input channel into the bias of the Conv or Gemm behind it."""

    name: ClassVar[str] = "fold-shift-forward"
    pattern: ClassVar[Op] = linear("Conv|Gemm", Op("Add|Sub", Any("x"), Const("c"), commutative=True, bind="op"))

    def check(self, edit: ir.Editor, found: Match) -> str | None:
        """Refuses padding, what is not per channel, and what does not fit the bias's type."""
        view, change = Linear(found.node("linear")), _input_affine(found)
        if isinstance(change, str):
            return change
        if view.node.op == "Conv" and view.pads:
            return f"Conv {view.node.name!r} pads with zeros, which {found.tensor('c').name!r} is not added to"
        return rounds(found.tensor("c")) or view.unsafe(change.scale, change.shift, of_input=True)

    def rewrite(self, edit: ir.Editor, found: Match) -> None:
        """Writes a new bias; the operator reads x itself."""
        change = _input_affine(found)
        assert isinstance(change, Affine)
        Linear(found.node("linear")).absorb_input(edit, change.scale, change.shift)
        edit.set_input(found.node("linear"), 0, found.tensor("x"))
