"""GatherND(x, indices (..., 1)) -> Gather(x, indices (...)): what is looked up by one number is looked up on an axis.

PyTorch exports `weights[experts]` so. A table that Gather reads can be stored in few bits; GatherND has no such kernel.
Source: ONNX operator standard, GatherND and Gather.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from qcompiler import ir
from qcompiler.rewrite import NOTHING_TO_DO, Any, Match, Op, Rule


@dataclass(frozen=True)
class GatherNDToGather(Rule):
    """Rewrites GatherND without batch dimensions whose indices are single numbers."""

    name: ClassVar[str] = "gather-nd-to-gather"
    pattern: ClassVar[Op] = Op("GatherND", Any("x"), Any("indices"), bind="gather")

    def check(self, edit: ir.Editor, found: Match) -> str | None:
        """The last axis of the indices has one number."""
        node = found.node("gather")
        shape = node.inputs[1].shape
        single = bool(shape) and shape[-1] == 1 and not int(node.attrs.get("batch_dims", 0))
        return None if single else NOTHING_TO_DO

    def rewrite(self, edit: ir.Editor, found: Match) -> None:
        """An Unsqueeze that made that axis is not needed; the new node has the name of the old one."""
        node, output = found.node("gather"), found.node("gather").outputs[0]
        x, indices = node.inputs
        rank = len(indices.shape or ())
        maker = indices.inputs[0] if indices.inputs else None
        axes = maker.inputs[1] if maker is not None and maker.op == "Unsqueeze" and len(maker.inputs) > 1 else None
        if maker is not None and isinstance(axes, ir.Constant) and ir.array(axes).tolist() in ([rank - 1], [-1]):
            numbers = maker.inputs[0]
        else:
            last = edit.constant(f"{node.name}_last", np.array([-1], np.int64))
            numbers = edit.add("Squeeze", [indices, last], name=f"{node.name}_squeeze", before=node).outputs[0]
            edit.retype(numbers, indices.dtype, list(indices.shape or ())[:-1])
        edit.set_outputs(node, [])
        edit.erase(node)
        edit.add("Gather", [x, numbers], name=node.name, attrs={"axis": 0}, outputs=[output])
