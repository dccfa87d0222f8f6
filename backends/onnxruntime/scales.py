"""Scales of blocks as nodes make them of constants, and as nodes that ONNX Runtime folds when it loads a model.

s                             s
Cast(E8M0)                    the same
DequantizeLinear(E4M3, f)     Mul(Cast(E4M3), f): a DequantizeLinear is not folded
Cast of either                the same, to float16
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import helper

from qcompiler import ir


@dataclass(frozen=True, eq=False)
class Scales:
    """Scales as they are stored.

    Attributes:
        stored: numbers of any type of float.
        dtype: what a kernel reads.
        factor: of all of them, of rank 0; None for 1.
    """

    stored: npt.NDArray[Any]
    dtype: np.dtype[Any]
    factor: npt.NDArray[np.float32] | None = None

    @staticmethod
    def read(tensor: ir.Tensor) -> Scales | None:
        """The scales that a tensor holds; None where they are not known."""
        dtype, factor = np.dtype(tensor.dtype), None
        if tensor.inputs and tensor.inputs[0].op == "Cast":
            tensor = tensor.inputs[0].inputs[0]
        if tensor.inputs and tensor.inputs[0].op == "DequantizeLinear" and len(tensor.inputs[0].inputs) == 2:
            tensor, given = tensor.inputs[0].inputs
            if not isinstance(given, ir.Constant) or len(given.shape):
                return None
            factor = np.asarray(ir.array(given), np.float32)
        return Scales(ir.array(tensor), dtype, factor) if isinstance(tensor, ir.Constant) else None

    def tensor(self, edit: ir.Editor, hint: str, before: ir.Node) -> ir.Tensor:
        """They, for `before` to read."""
        found: ir.Tensor = edit.constant(hint, self.stored)
        if self.factor is not None:
            found = self._cast(edit, hint, found, np.dtype(np.float32), before)
            output = edit.variable(f"{hint}_mul", np.dtype(np.float32), found.shape)
            inputs = [found, edit.constant(f"{hint}_factor", self.factor)]
            edit.add("Mul", inputs, name=f"{hint}_mul", outputs=[output], before=before)
            found = output
        return found if found.dtype == self.dtype else self._cast(edit, hint, found, self.dtype, before)

    @staticmethod
    def _cast(edit: ir.Editor, hint: str, value: ir.Tensor, dtype: np.dtype[Any], before: ir.Node) -> ir.Tensor:
        output, to = edit.variable(f"{hint}_cast", dtype, value.shape), helper.np_dtype_to_tensor_dtype(dtype)
        edit.add("Cast", [value], name=f"{hint}_cast", attrs={"to": to}, outputs=[output], before=before)
        return output
