"""Sum(a, b, c, ...) -> Add(Add(a, b), c) ...

ONNX Runtime has an integer kernel for Add and none for Sum. Both add from left to right, so numbers stay the same.
Source: docs: ONNX Runtime fact sheet; ONNX operator standard, Sum.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from qcompiler import ir
from qcompiler.rewrite import Any, Match, Op, Rule


@dataclass(frozen=True)
class SumToAdd(Rule):
    """Writes a Sum of two or more tensors as a chain of Add."""

    name: ClassVar[str] = "sum-to-add"
    pattern: ClassVar[Op] = Op("Sum", Any("a"), Any("b"), bind="sum", open=True)

    def rewrite(self, edit: ir.Editor, found: Match) -> None:
        """The last Add takes over the output."""
        node = found.node("sum")
        terms = list(node.inputs)
        total = terms[0]
        for term in terms[1:]:
            added = edit.add("Add", [total, term], name=f"{node.name}_add", before=node)
            edit.retype(added.outputs[0], node.outputs[0].dtype, None)
            total = added.outputs[0]
        edit.retype(total, node.outputs[0].dtype, node.outputs[0].shape)
        edit.replace_uses(node.outputs[0], total)
