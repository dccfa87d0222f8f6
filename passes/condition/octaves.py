"""Constants times powers of two: no digit moves, so what is undone elsewhere leaves a function the same to the bit."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from qcompiler import ir

I64 = npt.NDArray[np.int64]


def scale(edit: ir.Editor, node: ir.Node, port: int, axis: int, octaves: I64) -> None:
    """Multiplies a constant operand by 2^octaves along an axis."""
    rank = len(node.inputs[port].shape)
    multiply(edit, node, port, octaves.reshape([-1 if i == axis % rank else 1 for i in range(rank)]))


def multiply(edit: ir.Editor, node: ir.Node, port: int, octaves: I64) -> None:
    """Multiplies a constant operand by 2^octaves, which broadcast to its shape; other readers keep the old one."""
    scaled = np.ldexp(ir.array(node.inputs[port]), octaves.astype(np.int32)).astype(np.float32)
    edit.set_input(node, port, edit.constant(f"{node.inputs[port].name}_equalized", scaled))
