"""Range(a[1], b, c) -> Range(a[], b, c): one-element vectors become the scalars that the operator takes.

ONNX Runtime computes a Range of one-element vectors as long as it does not see their shapes, and refuses the model once
other passes have made them visible. Source: ONNX operator standard, Range; ONNX Runtime, shape inference of Range.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from qcompiler import ir
from qcompiler.rewrite import NOTHING_TO_DO, Any, Match, Op, Rule


@dataclass(frozen=True)
class ScalarRange(Rule):
    """Makes the inputs of Range scalars."""

    name: ClassVar[str] = "scalar-range"
    pattern: ClassVar[Op] = Op("Range", Any("start"), Any("limit"), Any("delta"), bind="range")

    def check(self, edit: ir.Editor, found: Match) -> str | None:
        """Does nothing where no input is known to be a vector of one element."""
        return None if any(_is_vector(tensor) for tensor in found.node("range").inputs) else NOTHING_TO_DO

    def rewrite(self, edit: ir.Editor, found: Match) -> None:
        """Reshapes constants, and puts a Reshape before the others."""
        node = found.node("range")
        for port, tensor in enumerate(list(node.inputs)):
            if not _is_vector(tensor):
                continue
            if isinstance(tensor, ir.Constant):
                scalar = edit.constant(f"{tensor.name}_scalar", ir.array(tensor).reshape(()))
            else:
                shape = edit.constant(f"{tensor.name}_shape", np.zeros(0, np.int64))
                scalar = edit.add("Reshape", [tensor, shape], name=f"{node.name}_reshape", before=node).outputs[0]
                edit.retype(scalar, tensor.dtype, [])
            edit.set_input(node, port, scalar)


def _is_vector(tensor: ir.Tensor) -> bool:
    return tensor.shape is not None and list(tensor.shape) == [1]
