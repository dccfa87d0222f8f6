"""Add(MatMul(x, W), b) with integer x and W -> the same with b of the rank of the result: (N,) -> (1, ..., 1, N).

ONNX Runtime's MatMulAddFusion makes a Gemm of MatMul and Add before it looks at Q and DQ, and a Gemm with a float bias
stays float: 5 times slower than MatMulIntegerToFloat (fact sheet, rule 8). For x of rank 3 and more the fusion takes a
bias of rank 1 alone. For matrices it takes whatever Gemm takes, so there the MatMul becomes a Gemm without bias, which
is left alone. Measured for x of (128, 384) and W of (384, 1536), with quantization of x: this form 395 us, Gemm with an
int32 bias 406 us, Add of an int32 bias 399 to 406 us, float Gemm 2500 us.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from qcompiler import ir
from qcompiler.backends.onnxruntime.flow import only_reader
from qcompiler.backends.onnxruntime.hold_float import hold_behind
from qcompiler.pipeline import GraphPass, PassRecord
from qcompiler.quant import NodePlan

MATRIX_RANK = 2


@dataclass(frozen=True)
class SpreadBias(GraphPass):
    """Keeps MatMulAddFusion away from integer products. Runs on the graph with Q and DQ.

    Attributes:
        plan: how each node was planned.
    """

    name: ClassVar[str] = "spread-bias"
    plan: Mapping[str, NodePlan]

    def apply(self, model: ir.Model, record: PassRecord) -> None:
        """Each product is a change."""
        edit = ir.Editor(model, model.graph)
        for node in model.nodes:
            planned = self.plan.get(node.name)
            if node.op != "MatMul" or node.domain or planned is None or planned.precision == "float":
                continue
            add = only_reader(edit, node.outputs[0])
            if add is None or add.op != "Add" or add.domain:
                continue
            record.changes += _spread(edit, node, add)


def _spread(edit: ir.Editor, node: ir.Node, add: ir.Node) -> int:
    x, y = node.inputs[0], node.outputs[0]
    rank = None if x.shape is None else len(x.shape)
    if rank == MATRIX_RANK:
        node.op = "Gemm"
        return 1
    port = 1 if add.inputs[0] is y else 0
    bias = add.inputs[port]
    if rank is None or bias.shape is None or len(bias.shape) != 1:
        return 0
    form = [1] * (rank - 1) + [-1]
    if rank == 1:
        hold_behind(edit, y)
    elif isinstance(bias, ir.Constant):
        edit.set_input(add, port, edit.constant(f"{bias.name}_wide", ir.array(bias).reshape(form)))
    else:
        shape = edit.constant(f"{bias.name}_wide_shape", np.asarray(form, np.int64))
        wide = edit.variable(f"{bias.name}_wide", bias.dtype, [1] * (rank - 1) + list(bias.shape))
        edit.add("Reshape", [bias, shape], name=f"{bias.name}_widen", outputs=[wide])
        edit.set_input(add, port, wide)
    return 1
