"""Clip(Clip(x, a, b), c, d) -> Clip(x, clip(a, c, d), clip(b, c, d));  a Relu counts as Clip(x, 0, ).

Both are min(max(x, low), high), which is monotone, so that the images of the inner bounds are the bounds of the whole.
Source: ONNX operator standard, Clip.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from qcompiler import ir
from qcompiler.passes.fusion.forms import refusal, replace, scalar
from qcompiler.rewrite import Any, Match, Op, Rule


def bounds(node: ir.Node) -> tuple[float, float] | None:
    """Lower and upper bound of a Clip or Relu, infinite where there is none; None where one is not constant."""
    if node.op == "Relu":
        return 0.0, math.inf
    given = [-math.inf, math.inf]
    for port, tensor in enumerate(node.inputs[1:3]):
        if tensor.name:
            value = scalar(tensor)
            if value is None:
                return None
            given[port] = value
    return given[0], given[1]


@dataclass(frozen=True)
class MergeClips(Rule):
    """Joins two bounds in a row into one Clip or Relu."""

    name: ClassVar[str] = "merge-clips"
    pattern: ClassVar[Op] = Op(
        "Clip|Relu",
        Op("Clip|Relu", Any("x"), Any("a", optional=True), Any("b", optional=True), bind="first"),
        *(Any("c", optional=True), Any("d", optional=True)),
    )

    def check(self, edit: ir.Editor, found: Match) -> str | None:
        """Refuses bounds that are computed."""
        for node in (found.node("first"), found.root):
            if bounds(node) is None:
                return f"a bound of Clip {node.name!r} is not constant"
        return refusal(edit, found, "Clip", 11, found.tensor("x"))

    def rewrite(self, edit: ir.Editor, found: Match) -> None:
        """One Clip with the joint bounds; a Relu where both are Relu."""
        x, first, second = found.tensor("x"), bounds(found.node("first")), bounds(found.root)
        assert first is not None and second is not None
        low, high = (min(max(value, second[0]), second[1]) for value in first)
        if (low, high) == (0.0, math.inf):
            replace(edit, found, "Relu", [x])
            return
        inputs: list[ir.Tensor | None] = [x]
        for value, end in ((low, "low"), (high, "high")):
            given = np.array(value, np.dtype(x.dtype))
            inputs.append(edit.constant(f"{found.root.name}_{end}", given) if math.isfinite(value) else None)
        replace(edit, found, "Clip", inputs if inputs[2] is not None else inputs[:2])
