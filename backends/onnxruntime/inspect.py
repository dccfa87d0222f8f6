"""The conformance gate: what ONNX Runtime made of a model, read from the graph that it runs.

ONNX Runtime falls back without a word: a Conv whose Q or DQ does not fit its pattern is computed in float, weights
dequantized at every run. So the optimised graph is saved, and every node that the plan has in integers is looked up.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping
from pathlib import Path

import onnx
from onnx import GraphProto, NodeProto, TensorProto

from qcompiler import ir
from qcompiler.analysis.run import Runner, SessionConfig
from qcompiler.backends.conformance import Conformance, Fallback
from qcompiler.quant import NodePlan

INTEGER_OPS = frozenset(
    {
        "QLinearConv", "QLinearMatMul", "QGemm", "MatMulIntegerToFloat", "DynamicQuantizeMatMul", "MatMulInteger",
        "ConvInteger", "QLinearAdd", "QLinearMul", "QLinearConcat", "QLinearGlobalAveragePool", "QLinearSigmoid",
        "QLinearLeakyRelu", "QLinearAveragePool", "QLinearSoftmax", "QLinearWhere", "MatMulNBits", "NhwcMaxPool",
        "DynamicQuantizeLSTM", "QAttention",
    }
)  # fmt: skip
BOUNDARY_OPS = frozenset({"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear"})
COMPUTE_OPS = frozenset(
    {"Conv", "FusedConv", "NhwcFusedConv", "Gemm", "FusedGemm", "MatMul", "FusedMatMul", "ConvTranspose"}
)


def inspect(model: ir.Model, plan: Mapping[str, NodePlan]) -> Conformance:
    """What ONNX Runtime makes of `model`, whose nodes were planned by `plan`.

    Raises:
        ModelError: ONNX Runtime refuses the model; the message is its own.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "optimised.onnx"
        Runner(model, SessionConfig(save_optimized=path))
        graph = onnx.load(path, load_external_data=False).graph
    return conformance(graph, plan)


def conformance(graph: GraphProto, plan: Mapping[str, NodePlan]) -> Conformance:
    """Classifies the nodes of an optimised graph."""
    ops: dict[str, int] = {}
    integers = {t.name for t in graph.initializer if t.data_type in (TensorProto.INT8, TensorProto.UINT8)}
    dequantized: set[str] = set()
    counts = {"integer": 0, "float": 0, "boundary": 0}
    fallback: list[Fallback] = []
    planned = {name for name, decision in plan.items() if decision.precision != "float"}
    for node in graph.node:
        ops[node.op_type] = ops.get(node.op_type, 0) + 1
        if node.op_type in BOUNDARY_OPS:
            counts["boundary"] += 1
            (dequantized if node.op_type == "DequantizeLinear" else integers).add(node.output[0])
        elif node.op_type in INTEGER_OPS or (node.input and node.input[0] in integers):
            counts["integer"] += 1
            if not node.op_type.endswith("ToFloat") and node.op_type not in ("DynamicQuantizeMatMul", "MatMulNBits"):
                integers.update(node.output)
        else:
            counts["float"] += 1
            name = origin(node)
            if name in planned and any(value in dequantized for value in node.input):
                fallback.append(Fallback(name, node.op_type, trap(node, dequantized)))
    return Conformance(
        dict(sorted(ops.items())), counts["integer"], counts["float"], counts["boundary"], tuple(fallback)
    )


def origin(node: NodeProto) -> str:
    """The name of our node that became `node`: ONNX Runtime appends suffixes when it replaces or fuses."""
    return re.sub(r"(_token_\d+|/MatMulAddFusion|_nchwc|_nhwc|/duplicated)+$", "", node.name)


def trap(node: NodeProto, dequantized: set[str]) -> str:
    """Which known trap a float node behind DequantizeLinear fell into (ONNX Runtime fact sheet, section 8)."""
    if node.op_type in ("Gemm", "FusedGemm"):
        return "a float bias keeps Gemm in float (MatMul and Add with static shapes become such a Gemm)"
    if node.op_type in COMPUTE_OPS and sum(value in dequantized for value in node.input) >= 2:
        return "float kernel behind DequantizeLinear: its output is not quantized, or not by one Q alone"
    if node.op_type in COMPUTE_OPS:
        return "float kernel: an operand is not quantized"
    return "no integer kernel for these operands"
