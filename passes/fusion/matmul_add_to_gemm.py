"""Add(MatMul(x, W), b) -> Gemm(x, W, b), for matrices: x of rank 2, W constant of shape (K, N), b of shape (N,).

A Gemm keeps its bias through quantization as int32, where an Add would be an operator of its own with a rounding of its
own. Source: ONNX operator standard, Gemm; docs: ONNX Runtime fact sheet, what fuses.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from qcompiler import ir
from qcompiler.passes.fusion.channelwise import per_channel
from qcompiler.passes.fusion.linear import Linear, linear
from qcompiler.rewrite import Const, Match, Op, Rule


@dataclass(frozen=True)
class MatmulAddToGemm(Rule):
    """Makes a Gemm of a matrix product and a bias."""

    name: ClassVar[str] = "matmul-add-to-gemm"
    pattern: ClassVar[Op] = Op("Add", linear("MatMul"), Const("c"), bind="op")

    def check(self, edit: ir.Editor, found: Match) -> str | None:
        """Refuses a weight that is not constant, tensors of rank 3 and more, and a bias that is no row."""
        view, x = Linear(found.node("linear")), found.tensor("x")
        what = f"MatMul {view.node.name!r}"
        if reason := view.refusal():
            return reason
        for tensor in (view.weight, x):
            if tensor.shape is None:
                return f"rank of {tensor.name!r}, input of {what}, is not known"
            if len(tensor.shape) != 2:
                return f"{tensor.name!r}, input of {what}, has rank {len(tensor.shape)}; Gemm takes matrices"
        values = per_channel(found.tensor("c"), -1, view.channels, 2)
        return values if isinstance(values, str) else None

    def rewrite(self, edit: ir.Editor, found: Match) -> None:
        """The MatMul becomes a Gemm and takes over the output."""
        node, bias = found.node("linear"), found.tensor("c")
        channels = Linear(node).channels
        if list(bias.shape) != [channels]:
            row = np.broadcast_to(ir.array(bias).reshape(-1), (channels,))
            bias = edit.constant(f"{bias.name}_row", row)
        node.op = "Gemm"
        edit.set_inputs(node, [found.tensor("x"), found.tensor("w"), bias])
        edit.replace_uses(found.output, node.outputs[0])
