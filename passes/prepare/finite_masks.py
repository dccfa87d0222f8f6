"""Masks of Softmax: -infinity -> a finite number that is out of sight just the same.

    Softmax(s + m), m in {0, -inf}                  ->    the same with m in {0, -1e30}
    Softmax(s + m + n), m and n in {0, -3.4e38}     ->    the same, since both together are -infinity

s - 1e30 is -1e30 for every score s, and exp(-1e30 - max) is 0 as exp(-inf) is, so no row changes that has a score in
sight. A row of nothing but infinities, which is NaN, becomes uniform. No grid holds infinity: without this a value that
is seen to hold it could not be quantized at all. A constant is a mask where all that is computed from this use of it
ends, through arithmetic with other values and data movement, in Softmax alone, and nothing asks the result for NaN (the
decomposition of PyTorch that gives zeros for rows that are masked whole).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from qcompiler import ir
from qcompiler.pipeline import GraphPass, PassRecord

THROUGH = frozenset(
    {
        "Mul", "Div", "Add", "Sub", "Neg", "Where", "Expand", "Unsqueeze", "Squeeze", "Reshape", "Transpose", "Slice",
        "Concat", "Cast", "Identity", "Gather", "ScatterND", "Trilu", "Tile",
    }
)  # fmt: skip
ENDS = frozenset({"Softmax", "LogSoftmax"})
FAR, FAR_HALF = 1e30, 3e4
"""Far enough, with room for two of them to be added; in float16, and in wider types."""


@dataclass(frozen=True)
class FiniteMasks(GraphPass):
    """Replaces infinite masks in the main graph, also those that ConstantOfShape makes."""

    name: ClassVar[str] = "finite-masks"

    def apply(self, model: ir.Model, record: PassRecord) -> None:
        """Each use of a constant, or node, that gets finite numbers is a change."""
        edit = ir.Editor(model, model.graph)
        for node in [node for node in model.nodes if node.op == "ConstantOfShape" and not node.domain]:
            value = np.asarray(getattr(node.attrs.get("value"), "values", np.zeros(1, np.float32))).reshape(-1)
            if infinite(value) and reached(edit, edit.uses(node.outputs[0])) is not None:
                number = edit.constant(f"{node.outputs[0].name}_far", finite(value)[0].reshape(()))
                made = edit.add("Expand", [number, node.inputs[0]], name=node.name, before=node).outputs[0]
                edit.retype(made, value.dtype, node.outputs[0].shape)
                edit.replace_uses(node.outputs[0], made)
                edit.erase(node)
                record.changes += 1
        for constant in list(model.constants()):
            if constant.dtype is None or not _wide_enough(np.dtype(constant.dtype)) or not ir.nbytes(constant):
                continue
            uses = [use for use in edit.uses(constant) if reached(edit, [use]) is not None]
            if not uses or not infinite(values := ir.array(constant)):
                continue
            far = edit.constant(f"{constant.name}_far", finite(values))
            for node, port in uses:
                if node is not None:
                    edit.set_input(node, port, far)
                    record.changes += 1


def _wide_enough(dtype: np.dtype[Any]) -> bool:
    return dtype.kind == "f" or dtype.name == "bfloat16"


def infinite(values: npt.NDArray[Any]) -> bool:
    """Whether floats hold -infinity, or what is beyond its stand-in, and neither +infinity nor NaN."""
    if not _wide_enough(values.dtype) or not values.size:
        return False
    return bool(values.min() < _floor(values)) and bool(values.max() < np.inf)


def finite(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The same with far numbers in place of -infinity."""
    floor = _floor(values)
    return np.where(values < floor, floor, values)


def _floor(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return np.asarray(-FAR_HALF if values.dtype == np.float16 else -FAR, values.dtype)


def reached(edit: ir.Editor, uses: Iterable[ir.Use]) -> list[ir.Tensor] | None:
    """The values computed by some uses of a value up to Softmax; None where anything else reads one of them."""
    found: list[ir.Tensor] = []
    queue, seen, ends = list(uses), set[int](), False
    while queue:
        node = queue.pop().node
        if node is None or node.domain or not edit.holds(node) or node.op not in THROUGH | ENDS:
            return None
        if id(node) in seen:
            continue
        seen.add(id(node))
        if node.op in ENDS:
            if any(use.node is not None and use.node.op == "IsNaN" for use in edit.uses(node.outputs[0])):
                return None
            ends = True
            continue
        found += node.outputs
        queue += [use for tensor in node.outputs for use in edit.uses(tensor)]
    return found if ends else None
