"""Conv(Mul(x, c), W, b) -> Conv(x, W * c, b);  Conv(Div(x, c), W, b) -> Conv(x, W / c, b).

c is a scalar or one number per input channel. A factor commutes with padding by zeros, so padded operators are
included. The same for ConvTranspose, Gemm, and MatMul with a constant right operand.
Source: W (c x) = (W c) x (see `linear`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from qcompiler import ir
from qcompiler.passes.fusion.channelwise import Affine, affine, constant_first, per_channel, same_channels
from qcompiler.passes.fusion.fold_scale import copied
from qcompiler.passes.fusion.linear import LINEAR, Linear, linear
from qcompiler.rewrite import Any, Const, Match, Op, Rule


def input_affine(found: Match) -> Affine | str:
    """What the operator bound to "op" does to the input channels of the linear one, or why it is no such thing."""
    view, op, x, c = Linear(found.node("linear")), found.node("op"), found.tensor("x"), found.tensor("c")
    if reason := view.refusal():
        return reason
    axis, channels = view.input_axis, view.input_channels
    if isinstance(x, ir.Constant):
        return f"both operands of {op.op} {op.name!r} are constant"
    # the other operand alone must have the shape of the result
    if c.shape and (x.shape is None or len(x.shape) < len(c.shape)):
        return f"constant {c.name!r} of shape {list(c.shape)} may enlarge {x.name!r}, of shape {x.shape}"
    values = per_channel(c, axis, channels, None if x.shape is None else len(x.shape))
    if isinstance(values, str):
        return values
    if int(np.prod(c.shape)) > 1 and not same_channels(x, axis, channels):
        return f"constant {c.name!r} of shape {list(c.shape)} may enlarge {x.name!r}, of shape {x.shape}"
    return affine(op.op, values, constant_first(found))


@dataclass(frozen=True)
class FoldScaleForward(Rule):
    """Folds a constant factor per input channel into the linear operator behind it.

    Args:
        copy_limit: a weight that other nodes use as well is copied up to this many bytes.
        spread: largest ratio between two factors. Quantized weights have one scale per output channel, so factors that
            differ more would leave the small ones too few steps.
    """

    name: ClassVar[str] = "fold-scale-forward"
    pattern: ClassVar[Op] = linear(LINEAR, Op("Mul|Div", Any("x"), Const("c"), commutative=True, bind="op"))
    copy_limit: int = 1 << 20
    spread: float = 16.0

    def check(self, edit: ir.Editor, found: Match) -> str | None:
        """Refuses what is not per channel, spreads too far, does not fit the weight's type, or copies a large one."""
        view, change = Linear(found.node("linear")), input_affine(found)
        if isinstance(change, str):
            return change
        if reason := view.unsafe(change.scale, change.shift, of_input=True) or copied(view, self.copy_limit):
            return reason
        sizes = np.abs(change.scale) if change.scale is not None else np.ones(1)
        if sizes.max() > self.spread * sizes.min():
            return f"factors in {found.tensor('c').name!r} differ by more than {self.spread:g} between channels"
        return None

    def rewrite(self, edit: ir.Editor, found: Match) -> None:
        """Writes new weights; the linear operator reads x itself."""
        change = input_affine(found)
        assert isinstance(change, Affine)
        Linear(found.node("linear")).absorb_input(edit, change.scale, change.shift)
        edit.set_input(found.node("linear"), 0, found.tensor("x"))
