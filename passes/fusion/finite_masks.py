"""Constants that mask scores before Softmax become finite: m -> max(m, -1e30).

    Softmax(s + m)    m = -infinity and m = -1e30 both give exp(m - largest) = 0, in every row with something in sight

No grid holds infinity, no range can be taken of it, and two masks of -3.4e38 make it where they overlap; sums of
-1e30 stay finite. A constant is rewritten where everything that reads it ends in Softmax, by way of sums, choices,
bounds and moves. It stays where its infinity could be seen: in an output of the model, in LogSoftmax, or where IsNaN
looks for rows without anything in sight, which are NaN before and uniform after. float16 ends at 65504: there it is
-3e4.

Source: ONNX operator standard, Softmax; IEEE 754, sums with infinity.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from qcompiler import ir
from qcompiler.pipeline import GraphPass, PassRecord

LOWEST, LOWEST_OF_HALF = -1e30, -3e4
SUMS = frozenset({"Add", "Max", "Min", "Concat"})
MOVES = frozenset(
    {
        "Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Slice", "Gather", "Expand", "Tile",
        "Split", "Clip",
    }
)  # fmt: skip


@dataclass(frozen=True)
class FiniteMasks(GraphPass):
    """Rewrites the constants of the main graph."""

    name: ClassVar[str] = "finite-masks"

    def apply(self, model: ir.Model, record: PassRecord) -> None:
        """Each constant is a change."""
        edit = ir.Editor(model, model.graph)
        if all(node.op != "Softmax" for node in model.nodes):
            return
        hidden = ends_in_softmax(edit)
        for constant in list(model.constants()):
            uses = edit.uses(constant)
            if not uses or not all(node is not None and (id(node), port) in hidden for node, port in uses):
                continue
            if constant.dtype is None or np.dtype(constant.dtype).kind != "f":
                continue
            values = ir.array(constant)
            lowest = LOWEST_OF_HALF if values.dtype == np.float16 else LOWEST
            if (values < lowest).any():
                finite = edit.constant(f"{constant.name}_finite", np.maximum(values, values.dtype.type(lowest)))
                for node, port in uses:
                    assert node is not None
                    edit.set_input(node, port, finite)
                record.changes += 1
        edit.drop_unused_constants()


def ends_in_softmax(edit: ir.Editor) -> set[tuple[int, int]]:
    """The node (its id) and input of each operand in the main graph that nothing but Softmax ever sees."""
    found: set[tuple[int, int]] = set()
    for node in reversed(edit.model.nodes):
        if node.domain:
            continue
        uses = [use for tensor in node.outputs for use in edit.uses(tensor)]
        if node.op == "Softmax":
            through = all(reader is None or reader.op != "IsNaN" for reader, _ in uses)
        else:
            through = all(reader is not None and (id(reader), port) in found for reader, port in uses)
        if through:
            found |= {(id(node), port) for port in range(len(node.inputs)) if carries(node, port)}
    return found


def carries(node: ir.Node, port: int) -> bool:
    """Whether an operand's values go into the result as they are, or in a sum."""
    if node.op == "Where":
        return port > 0
    return node.op in SUMS or (port == 0 and (node.op in MOVES or node.op == "Softmax"))
