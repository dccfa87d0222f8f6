"""DequantizeLinear(FP8 constant, scales of blocks) -> Mul(Cast(FP8), Gather(scales, block of each row or column)).

ONNX Runtime has no kernel that multiplies with FP8 on a CPU. It does not fold DequantizeLinear, and would compute it
anew in each run, 10 times slower than the float model; Cast, Gather and Mul it folds when it loads the model. The file
is small, memory and speed are those of float.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from onnx import helper

from qcompiler import ir
from qcompiler.pipeline import GraphPass, PassRecord


@dataclass(frozen=True)
class FoldFloat8(GraphPass):
    """Replaces the nodes."""

    name: ClassVar[str] = "fold-float8"

    def apply(self, model: ir.Model, record: PassRecord) -> None:
        """Each node replaced is a change."""
        edit = ir.Editor(model, model.graph)
        for node in [node for node in model.nodes if _fits(node)]:
            (codes, scale), (output,) = node.inputs[:2], list(node.outputs)
            axis, size, name = int(node.attrs.get("axis", 1)), int(node.attrs["block_size"]), node.name
            dtype = np.dtype(output.dtype)
            floats, wide = (edit.variable(f"{name}_{part}", dtype, codes.shape) for part in ("cast", "scales"))
            to = {"to": helper.np_dtype_to_tensor_dtype(dtype)}
            edit.add("Cast", [codes], name=f"{name}_cast", attrs=to, outputs=[floats], before=node)
            block = edit.constant(f"{name}_block", np.arange(codes.shape[axis], dtype=np.int64) // size)
            attrs = {"axis": axis}
            edit.add("Gather", [scale, block], name=f"{name}_spread", attrs=attrs, outputs=[wide], before=node)
            edit.set_outputs(node, [])
            edit.add("Mul", [floats, wide], name=name, outputs=[output], before=node)
            edit.erase(node)
            record.changes += 1


def _fits(node: ir.Node) -> bool:
    """A constant of FP8 in blocks."""
    if node.op != "DequantizeLinear" or not node.attrs.get("block_size", 0):
        return False
    codes = node.inputs[0]
    return isinstance(codes, ir.Constant) and str(np.dtype(codes.dtype)).startswith("float8")
