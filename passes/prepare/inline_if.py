"""If(constant condition) -> the nodes of the branch it takes.

Names are unique in all scopes, so they stay. Source: ONNX operator standard, If.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from qcompiler import ir
from qcompiler.pipeline import GraphPass, PassRecord


@dataclass(frozen=True)
class InlineIf(GraphPass):
    """Inlines the branch of every If whose condition is constant."""

    name: ClassVar[str] = "inline-if"

    def apply(self, model: ir.Model, record: PassRecord) -> None:
        """Each If that goes is a change; an If that comes out of an inlined branch is looked at too."""
        found = True
        while found:
            found = False
            for edit in ir.editors(model):
                node = next((node for node in edit.graph.nodes if _is_decided(node)), None)
                if node is None:
                    continue
                taken = "then_branch" if bool(ir.array(node.inputs[0]).reshape(-1)[0]) else "else_branch"
                ir.inline(edit, node, node.attrs[taken])
                record.changes += 1
                found = True
                break


def _is_decided(node: ir.Node) -> bool:
    condition = node.inputs[0] if node.op == "If" and not node.domain else None
    return isinstance(condition, ir.Constant) and condition.shape in ([], (), [1], (1,))
