"""What the plan leaves in float stays in float: y = f(x) -> y = hold(f(x)), hold(v) = LeakyRelu(v; alpha = 1) = v.

ONNX Runtime decides by pattern, not by plan. Between DequantizeLinear and QuantizeLinear it computes in integers, or
quantizes weights per tensor, what should stay float; and it computes in float what the plan has in integers where a
QuantizeLinear or Relu stands in an unexpected place. A float operator that it knows nothing about breaks the pattern:

| trap                                                       | without hold               | hold                   |
|------------------------------------------------------------|----------------------------|------------------------|
| float Conv, Gemm: DQ > Conv > Q (rule 7)                   | int8 weights, per tensor   | behind it; free (fused)|
| float ConvTranspose: same                                  | int8 weights, dequantized  | bias out of a DQ       |
|                                                            | at every run               |                        |
| float AveragePool, Softmax (rule 10), whatever the user    | QLinear kernel             | behind it              |
| keeps float: DQ > op > Q                                   |                            |                        |
| MaxPool of a float value > Q (rule 12)                     | NCHW uint8, 16 times slower| behind it              |
| integer MatMul, Gemm > Relu > no Q                         | float kernel               | behind it              |
| integer MatMul, Gemm > Q and others                        | float kernel               | before the Q           |

docs: ONNX Runtime fact sheet, rules 7, 10, 12; the last two rows were found in the optimised graphs of ONNX Runtime
1.31. Holding a Slice with steps or a 5-D Transpose in the same way was tried: it costs more than the slow kernel.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from qcompiler import ir
from qcompiler.backends.onnxruntime.flow import dequantizer, folded, only_reader, quantizer, readers
from qcompiler.passes.plan.bounds import bounds
from qcompiler.pipeline import GraphPass, PassRecord
from qcompiler.quant import NodePlan

WEIGHTED = frozenset({"Conv", "Gemm"})
QLINEAR = frozenset({"AveragePool", "GlobalAveragePool", "Softmax", "Sigmoid", "LeakyRelu", "Add", "Mul", "Concat"})
MATRIX = frozenset({"MatMul", "Gemm"})


@dataclass(frozen=True)
class HoldFloat(GraphPass):
    """Breaks the patterns that ONNX Runtime would rewrite against the plan. Runs on the graph with Q and DQ.

    Attributes:
        plan: how each node was planned; nodes that it does not name are float.
    """

    name: ClassVar[str] = "hold-float"
    plan: Mapping[str, NodePlan]

    def apply(self, model: ir.Model, record: PassRecord) -> None:
        """Each node that is held is a change, with a note of which and why."""
        edit = ir.Editor(model, model.graph)
        for node in model.nodes:
            if node.domain or not node.outputs:
                continue
            planned = self.plan.get(node.name)
            integer = planned is not None and planned.precision != "float"
            why = _integer(edit, node) if integer else _float(edit, node)
            if why is not None:
                record.changes += 1
                record.notes.append(f"{node.op} {node.name!r} held: {why}")


def _float(edit: ir.Editor, node: ir.Node) -> str | None:
    """Holds a node that is planned in float, where it needs that; gives the reason."""
    if node.op not in WEIGHTED | QLINEAR | {"ConvTranspose", "MaxPool"}:
        return None
    y = folded(edit, node) if node.op == "Conv" else node.outputs[0]
    weighted = node.op in WEIGHTED | {"ConvTranspose"}
    before, behind = dequantizer(node.inputs[0]), quantizer(edit, y, besides_output=weighted)
    if behind is None or (before is None) != (node.op == "MaxPool"):
        return None
    if node.op == "ConvTranspose":
        why = "ONNX Runtime would quantize its weights per tensor, and dequantize them at every run"
        return why if isinstance(node.inputs[1], ir.Constant) and pin_bias(edit, node) else None
    if node.op in WEIGHTED:
        if not isinstance(node.inputs[1], ir.Constant):
            return None
        hold_behind(edit, y)
        return "ONNX Runtime would quantize its weights per tensor"
    if node.op == "MaxPool":
        hold_behind(edit, y)
        return "ONNX Runtime would run the slow uint8 kernel"
    if node.op not in QLINEAR or any(dequantizer(tensor) is None for tensor in node.inputs):
        return None
    hold_behind(edit, y)
    return "ONNX Runtime would compute it in integers"


def _integer(edit: ir.Editor, node: ir.Node) -> str | None:
    """Holds a float result of a node that is planned in integers, where that needs it; gives the reason."""
    if node.op not in MATRIX:
        return None
    y = node.outputs[0]
    reader = only_reader(edit, y)
    if reader is not None and bounds(reader) is not None:
        behind = readers(edit, reader.outputs[0])
        if behind is not None and len(behind) == 1 and behind[0].op != "QuantizeLinear":
            hold_behind(edit, y)
            return f"{reader.op} {reader.name!r} behind it would keep it in float"
        return None
    uses = edit.uses(y)
    quantizers = [use for use in uses if use.node is not None and use.node.op == "QuantizeLinear"]
    if quantizers and len(uses) > len(quantizers):
        for use in quantizers:
            assert use.node is not None
            hold_before(edit, use.node, use.port)
        return "its result is quantized for some of its readers only"
    return None


# ---- how
def hold_behind(edit: ir.Editor, tensor: ir.Tensor) -> None:
    """A LeakyRelu with alpha = 1 between a value and all its readers. Conv takes it in as activation."""
    node = edit.add("LeakyRelu", [tensor], name=f"{tensor.name}_hold", attrs={"alpha": 1.0}, like=tensor)
    edit.replace_uses(tensor, node.outputs[0], keep=[node])


def hold_before(edit: ir.Editor, reader: ir.Node, port: int) -> None:
    """The same, for one reader."""
    tensor = reader.inputs[port]
    node = edit.add("LeakyRelu", [tensor], name=f"{tensor.name}_hold", attrs={"alpha": 1.0}, like=tensor)
    edit.set_input(reader, port, node.outputs[0])


def pin_bias(edit: ir.Editor, node: ir.Node) -> bool:
    """Gives a ConvTranspose its bias as sign * |bias| out of a DequantizeLinear: exact, and no constant any more.

    Returns:
        False where the bias is computed, so that nothing needs doing.
    """
    if len(node.inputs) > 2 and node.inputs[2].name:
        if not isinstance(node.inputs[2], ir.Constant):
            return False
        bias = ir.array(node.inputs[2])
    else:
        bias = np.zeros(node.inputs[1].shape[1] * int(node.attrs.get("group", 1)), np.float32)
    codes = edit.constant(f"{node.name}_bias_sign", np.sign(bias).astype(np.int32))
    scale = edit.constant(f"{node.name}_bias_scale", np.where(bias == 0, 1, np.abs(bias)).astype(np.float32))
    value = edit.variable(f"{node.name}_bias", np.dtype(np.float32), list(bias.shape))
    edit.add("DequantizeLinear", [codes, scale], name=f"{node.name}_bias_dq", attrs={"axis": 0}, outputs=[value])
    edit.set_input(node, 2, value)
    return True
