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
from qcompiler.passes.fusion.channelwise import Affine, Vector, affine, per_channel, same_channels
from qcompiler.passes.fusion.fold_scale import copied
from qcompiler.passes.fusion.linear import LINEAR, Linear, linear
from qcompiler.rewrite import Any, Const, Match, Op, Rule


def input_affine(view: Linear, op: ir.Node, x: ir.Tensor, c: ir.Tensor) -> Affine | str:
    """What `op` does to the input channels of the linear operator with its constant operand `c`, or why it is no such
    thing. `x` is what would be read in place of its result, and so must have the shape of it."""
    if reason := view.refusal():
        return reason
    axis, channels = view.input_axis, view.input_channels
    if isinstance(x, ir.Constant):
        return f"both operands of {op.op} {op.name!r} are constant"
    enlarges = f"constant {c.name!r} of shape {list(c.shape)} may enlarge {x.name!r}, of shape {x.shape}"
    if c.shape and (x.shape is None or len(x.shape) < len(c.shape)):
        return enlarges
    values = per_channel(c, axis, channels, None if x.shape is None else len(x.shape))
    if isinstance(values, str):
        return values
    if int(np.prod(c.shape)) > 1 and not same_channels(x, axis, channels):
        return enlarges
    return affine(op.op, values, op.inputs[0] is c)


def spreads(scale: Vector | None, limit: float, name: str) -> str | None:
    """Why factors differ too much for weights that have one quantization scale per output channel."""
    sizes = np.abs(scale) if scale is not None else np.ones(1)
    if sizes.max() > limit * sizes.min():
        return f"factors in {name!r} differ by more than {limit:g} between channels"
    return None


def _input_affine(found: Match) -> Affine | str:
    return input_affine(Linear(found.node("linear")), found.node("op"), found.tensor("x"), found.tensor("c"))


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
        view, change = Linear(found.node("linear")), _input_affine(found)
        if isinstance(change, str):
            return change
        if reason := view.unsafe(change.scale, change.shift, of_input=True) or copied(edit, view, self.copy_limit):
            return reason
        return spreads(change.scale, self.spread, found.tensor("c").name)

    def rewrite(self, edit: ir.Editor, found: Match) -> None:
        """Writes new weights; the linear operator reads x itself."""
        change = _input_affine(found)
        assert isinstance(change, Affine)
        Linear(found.node("linear")).absorb_input(edit, change.scale, change.shift)
        edit.set_input(found.node("linear"), 0, found.tensor("x"))
