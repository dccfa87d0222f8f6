"""The conformance gate: what ONNX Runtime made of a model, read from the graph that it runs.

ONNX Runtime falls back without a word: a Conv whose Q or DQ does not fit its pattern is computed in float, weights
dequantized at every run; and it quantizes without a word what it finds between DQ and Q. So the optimised graph is
saved, and every node is compared with what was planned.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from onnx import GraphProto, NodeProto, TensorProto

from qcompiler.backends.conformance import Conformance, Fallback
from qcompiler.quant import NodePlan

BOUNDARY_OPS = frozenset({"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear"})
INTEGER_OPS = frozenset(
    {
        "QLinearConv", "QLinearMatMul", "QGemm", "MatMulIntegerToFloat", "DynamicQuantizeMatMul", "MatMulInteger",
        "ConvInteger", "QLinearAdd", "QLinearMul", "QLinearConcat", "QLinearGlobalAveragePool", "QLinearSigmoid",
        "QLinearLeakyRelu", "QLinearAveragePool", "QLinearSoftmax", "QLinearWhere", "MatMulNBits", "NhwcMaxPool",
        "DynamicQuantizeLSTM", "QAttention", "GatherBlockQuantized",
    }
)  # fmt: skip
TO_FLOAT = frozenset(
    {"MatMulIntegerToFloat", "DynamicQuantizeMatMul", "MatMulInteger", "ConvInteger", "MatMulNBits", "QAttention",
     "DynamicQuantizeLSTM", "GatherBlockQuantized"}
)  # fmt: skip
COMPUTE_OPS = frozenset(
    {"Conv", "FusedConv", "NhwcFusedConv", "Gemm", "FusedGemm", "MatMul", "FusedMatMul", "ConvTranspose"}
)
SLOW_OPS = {
    "QLinearSoftmax": "6 times slower than float Softmax",
    "QLinearAveragePool": "12 to 20 times slower than float AveragePool",
}
QGEMM_OUTPUT_SCALE = 7
WEIGHTS_APART = (
    ("session.optimized_model_external_initializers_file_name", "weights.bin"),
    ("session.optimized_model_external_initializers_min_size_in_bytes", "4096"),
)
"""Models over 2 GB can be saved in no other way, and only the graph is read."""
EIGHT_BIT = (TensorProto.INT8, TensorProto.UINT8)
MOVES_DATA = frozenset({"Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Slice", "Gather", "Split", "Expand",
                        "Tile", "MaxPool", "NhwcMaxPool", "Resize", "DepthToSpace"})  # fmt: skip


def conformance(graph: GraphProto, plan: Mapping[str, NodePlan]) -> Conformance:
    """Classifies the nodes of an optimised graph, those of its subgraphs too."""
    survey = Survey(plan)
    survey.add(graph)
    return Conformance(
        dict(sorted(survey.ops.items())),
        survey.counts["integer"],
        survey.counts["float"],
        survey.counts["boundary"],
        tuple(survey.fallback),
        tuple(survey.surprises),
    )


@dataclass(eq=False)
class Survey:
    """What is known of an optimised graph so far.

    Attributes:
        eight_bit: names of 8-bit tensors.
        dequantized: names of tensors out of DequantizeLinear.
    """

    plan: Mapping[str, NodePlan]
    ops: Counter[str] = field(default_factory=Counter)
    counts: Counter[str] = field(default_factory=Counter)
    fallback: list[Fallback] = field(default_factory=list)
    surprises: list[Fallback] = field(default_factory=list)
    eight_bit: set[str] = field(default_factory=set)
    dequantized: set[str] = field(default_factory=set)

    def add(self, graph: GraphProto) -> None:
        """Looks at every node, in order."""
        self.eight_bit.update(t.name for t in graph.initializer if t.data_type in EIGHT_BIT)
        types = {v.name: v.type.tensor_type.elem_type for v in [*graph.input, *graph.value_info, *graph.output]}
        self.eight_bit.update(name for name, kind in types.items() if kind in EIGHT_BIT)
        for node in graph.node:
            self.ops[node.op_type] += 1
            self._node(node)
            self.eight_bit.update(self._eight_bit_outputs(node, types))
            if node.op_type == "DequantizeLinear":
                self.dequantized.update(node.output)
            for attribute in node.attribute:
                for subgraph in ([attribute.g] if attribute.HasField("g") else []) + list(attribute.graphs):
                    self.add(subgraph)

    def _node(self, node: NodeProto) -> None:
        name, kind = origin(node), node.op_type
        planned = self.plan.get(name)
        integer = planned is not None and planned.precision != "float"
        if kind in BOUNDARY_OPS:
            self.counts["boundary"] += 1
        elif kind in INTEGER_OPS or (node.input and node.input[0] in self.eight_bit):
            self.counts["integer"] += 1
            if kind in SLOW_OPS:
                self.surprises.append(Fallback(name, kind, SLOW_OPS[kind]))
            elif kind == "MaxPool":
                self.surprises.append(Fallback(name, kind, "uint8 in NCHW layout: 16 times slower than float"))
            elif planned is not None and not integer and kind not in MOVES_DATA:
                weights = ", its weights per tensor" if kind in ("QLinearConv", "QGemm") else ""
                self.surprises.append(Fallback(name, kind, f"planned in float; ONNX Runtime quantized it{weights}"))
        else:
            self.counts["float"] += 1
            if integer and any(value in self.dequantized for value in node.input):
                self.fallback.append(Fallback(name, kind, trap(node, self.dequantized)))
            elif kind in ("Conv", "ConvTranspose", "Gemm") and any(v in self.dequantized for v in node.input[1:2]):
                rule = "planned in float; ONNX Runtime quantized its weights and dequantizes them at every run"
                self.surprises.append(Fallback(name, kind, rule))

    def _eight_bit_outputs(self, node: NodeProto, types: Mapping[str, int]) -> list[str]:
        """The outputs that hold 8-bit values, by their stated types, else by what the operator is known to give."""
        kind, outputs = node.op_type, list(node.output)
        if kind == "DynamicQuantizeLinear":
            return [outputs[0], *outputs[2:]]
        if kind == "QGemm":
            eight_bit = len(node.input) > QGEMM_OUTPUT_SCALE and bool(node.input[QGEMM_OUTPUT_SCALE])
        elif kind in TO_FLOAT or kind in ("DequantizeLinear", "Cast"):
            eight_bit = False
        elif kind == "QuantizeLinear" or kind.startswith("QLinear"):
            eight_bit = True
        else:
            eight_bit = bool(node.input) and node.input[0] in self.eight_bit
        return [name for name in outputs if types.get(name, 0) in EIGHT_BIT or (eight_bit and name not in types)]


def origin(node: NodeProto) -> str:
    """The name of our node that became `node`."""
    return origin_of(node.name)


def origin_of(name: str) -> str:
    """A name of ours behind a name in the optimised graph: ONNX Runtime adds words when it replaces or fuses."""
    return re.sub(r"^fused |(_token_\d+|/MatMulAddFusion|_nchwc|_nhwc|/duplicated)+$", "", name)


def trap(node: NodeProto, dequantized: set[str]) -> str:
    """Which known trap a float node behind DequantizeLinear fell into (ONNX Runtime fact sheet, section 8)."""
    if node.op_type not in COMPUTE_OPS:
        return "no integer kernel for these operands"
    if node.op_type.endswith("Gemm") and any(value and value not in dequantized for value in node.input[2:]):
        return "a float bias keeps Gemm in float (MatMul and Add with static shapes become such a Gemm)"
    if sum(value in dequantized for value in node.input) >= 2:
        return "float kernel behind DequantizeLinear: its output is not quantized, or not by one Q alone"
    return "float kernel: an operand is not quantized"
