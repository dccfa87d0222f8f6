"""Conv(Add(Mul(x, s), t), W, b) -> Conv(Add(x, t / s), W * s, b), and the same with Sub and Div.

For a shift that has to stay in front of a padded operator: W (s x + t) = (W s) (x + t / s), one operator on the whole
image less. Typical: an exported preprocessing 2 x - 1, or a BatchNormalization before a padded Conv. s and t are
scalars or one number per input channel. Source: W (c x) = (W c) x (see `linear`); padding zeros stay zeros under a
factor.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from qcompiler import ir
from qcompiler.passes.fusion.channelwise import Vector
from qcompiler.passes.fusion.fold_scale import copied
from qcompiler.passes.fusion.fold_scale_forward import input_affine, spreads
from qcompiler.passes.fusion.linear import LINEAR, Linear, linear
from qcompiler.rewrite import Any, Const, Match, Op, Rule


@dataclass(frozen=True)
class FoldScaleThroughShift(Rule):
    """Folds a constant factor into the linear operator behind it, past a constant term that cannot be folded.

    Args:
        copy_limit: a weight that other nodes use as well is copied up to this many bytes.
        spread: largest ratio between two factors, as for `FoldScaleForward`.
    """

    name: ClassVar[str] = "fold-scale-through-shift"
    pattern: ClassVar[Op] = linear(
        LINEAR,
        Op(
            "Add|Sub",
            Op("Mul|Div", Any("x"), Const("s"), commutative=True, bind="scale"),
            Const("t"),
            commutative=True,
            bind="shift",
        ),
    )
    copy_limit: int = 1 << 20
    spread: float = 16.0

    def check(self, edit: ir.Editor, found: Match) -> str | None:
        """Refuses what `FoldScaleForward` does, and a term that grows out of its type or rounds."""
        view, parts = Linear(found.node("linear")), _parts(found)
        if isinstance(parts, str):
            return parts
        scale, shift = parts
        if not scale.all():
            return f"{found.tensor('s').name!r} holds a zero, which {found.tensor('t').name!r} cannot be divided by"
        if reason := spreads(scale, self.spread, found.tensor("s").name):
            return reason
        if reason := view.unsafe(scale, of_input=True) or copied(edit, view, self.copy_limit):
            return reason
        if not (np.abs(shift) * np.finfo(view.dtype).eps < 0.25).all():
            return f"{found.tensor('t').name!r} / {found.tensor('s').name!r} is so large that adding it rounds"
        return None

    def rewrite(self, edit: ir.Editor, found: Match) -> None:
        """A new Add before the operator, and new weights in it."""
        parts, node = _parts(found), found.node("linear")
        assert not isinstance(parts, str)
        view, (scale, shift) = Linear(node), parts
        same = found.value("s").size == found.value("t").size == 1
        values = shift[0] if same else shift.reshape(-1, *[1] * (-view.input_axis - 1))
        constant = edit.constant(f"{found.tensor('t').name}_scaled", np.asarray(values, view.dtype))
        name, result = found.node("shift").name, found.node("shift").outputs[0]
        add = edit.add("Add", [found.tensor("x"), constant], name=f"{name}_scaled", like=result)
        view.absorb_input(edit, scale)
        edit.set_input(node, 0, add.outputs[0])


def _parts(found: Match) -> tuple[Vector, Vector] | str:
    """The factor s, sign included, and t / s; or the reason why there are none."""
    view, x = Linear(found.node("linear")), found.tensor("x")
    inner = input_affine(view, found.node("scale"), x, found.tensor("s"))
    outer = inner if isinstance(inner, str) else input_affine(view, found.node("shift"), x, found.tensor("t"))
    if isinstance(inner, str) or isinstance(outer, str):
        return str(outer)
    assert inner.scale is not None and outer.shift is not None
    scale = inner.scale if outer.scale is None else inner.scale * outer.scale
    with np.errstate(divide="ignore", invalid="ignore"):
        return scale, outer.shift / scale
