"""Slow forms that ONNX Runtime makes of a graph with Q and DQ, by name, with what each of them costs in this model.

A trap is recognised in the optimised graph, not in ours, so that it is found whoever set it. The cost is that of the
node in a profile of a real run, with the DequantizeLinear of its weights where it has one.

docs: ONNX Runtime fact sheet, sections 0 (the rules), 2.3, 2.4 and 8; figures were measured with ONNX Runtime 1.31 on
AVX512-VNNI.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from onnx import GraphProto, NodeProto

from qcompiler import ir
from qcompiler.backends.conformance import Finding
from qcompiler.backends.onnxruntime import signs
from qcompiler.backends.onnxruntime.view import EIGHT_BIT, View


@dataclass(frozen=True)
class Trap:
    """One slow form.

    Attributes:
        name: for people and for `report.json`.
        rule: section or rule of the fact sheet.
        what: what happens, and how slow it is.
        remedy: what avoids it.
        seen: whether a node of the optimised graph is in the trap.
        optimizer: optimizer of ONNX Runtime without which it does not happen, "" if there is none.
    """

    name: str
    rule: str
    what: str
    remedy: str
    seen: signs.Seen
    optimizer: str = ""


TRAPS = (
    Trap(
        "int8 activations", "rule 2", "the int8 x int8 kernels have no VNNI: 0.1 to 1 times the speed of float",
        "store activations as uint8", signs.int8_activations,
    ),
    Trap(
        "16-bit activations", "rule 2", "no operator takes them: DequantizeLinear, float, QuantizeLinear",
        "store activations as uint8, or leave them float", signs.int16_activations,
    ),
    Trap(
        "MatMulAdd", "rule 8", "MatMul and Add became a float Gemm, weights dequantized at every run: 5 times slower",
        "a bias of the rank of the result, Gemm with an int32 bias, or no MatMulAddFusion", signs.matmul_add,
        "MatMulAddFusion",
    ),
    Trap(
        "float Gemm bias", "rules 5, 8", "a Gemm with a float bias and a float result stays float: 5 times slower",
        "an int32 bias, scale x times w", signs.gemm_float_bias,
    ),
    Trap(
        "ConvTranspose behind DQ", "section 2.1", "it has no integer kernel; its weights are dequantized at every run",
        "leave it float", signs.conv_transpose,
    ),
    Trap(
        "float kernel behind DQ", "rules 3, 4", "the result is not read by one Q alone: float, 4 times slower",
        "Q as the only reader of the result, behind one Relu or Clip at most", signs.float_behind_dq,
    ),
    Trap(
        "weights dequantized at run time", "section 4", "the value is float: weights are dequantized at every run",
        "quantize the value too, or leave the weights float", signs.weights_dequantized,
    ),
    Trap(
        "weights requantized per tensor", "rule 7", "a float island became integer, with one scale for all its weights",
        "a float operator between it and Q, or no WeightBiasQuantization", signs.weights_requantized,
        "WeightBiasQuantization",
    ),
    Trap(
        "NCHW uint8 MaxPool", "rule 12", "no QLinearConv is beside it: a kernel 16 to 45 times slower than float",
        "an integer Conv before it, or float around it, or no QDQPropagationTransformer",
        signs.operand_type("MaxPool", *EIGHT_BIT), "QDQPropagationTransformer",
    ),
    Trap(
        "QLinearSoftmax", "rule 10", "6 times slower than float Softmax", "leave Softmax float",
        signs.operator("QLinearSoftmax"),
    ),
    Trap(
        "QLinearAveragePool", "rule 10", "12 to 20 times slower than float AveragePool",
        "leave it float, or a depthwise Conv with weights 1/k^2", signs.operator("QLinearAveragePool"),
    ),
    Trap(
        "SkipLayerNormalization", "rule 18", "6 times slower than the Add and LayerNormalization that it replaces",
        "no SkipLayerNormFusion", signs.operator("SkipLayerNormalization"), "SkipLayerNormFusion",
    ),
    Trap(
        "5-D uint8 Transpose", "section 8", "a generic kernel, 25 times slower than Gather where it shuffles channels",
        "Gather by a constant order, or float around it", signs.transpose_5d,
    ),
    Trap(
        "uint8 Slice with steps", "section 8", "2.4 times slower than on float", "SpaceToDepth, or float around it",
        signs.slice_steps,
    ),
    Trap(
        "NHWC uint8 Resize", "section 2.4", "a generic kernel, 12 times slower than the float one",
        "float around it, or no NhwcTransformer", signs.nhwc_resize, "NhwcTransformer",
    ),
    Trap(
        "uint8 Expand", "section 8", "slow on 8-bit values", "Resize, or float around it",
        signs.operand_type("Expand", *EIGHT_BIT),
    ),
    Trap(
        "uint8 weights", "rule 1", "kernels without VNNI: 1.3 times float in place of 3.5",
        "int8 weights with zero point 0", signs.uint8_weights,
    ),
    Trap(
        "weight zero point", "rule 1", "20 to 35 percent slower than with zero point 0",
        "symmetric weights", signs.weight_zero_point,
    ),
    Trap(
        "unequal Concat", "section 2.4", "parts of different scales are requantized: 3 times slower",
        "one scale for all parts and the result", signs.unequal_concat,
    ),
)  # fmt: skip


def caught(graph: GraphProto, source: ir.Model) -> Iterator[tuple[Trap, View, NodeProto]]:
    """The nodes of an optimised graph that are in a trap, each in the first that fits; `source` is our graph."""
    view = View(graph, source)
    for node in graph.node:
        trap = next((trap for trap in TRAPS if trap.seen(view, node)), None)
        if trap is not None:
            yield trap, view, node


def findings(graph: GraphProto, source: ir.Model, seconds: Mapping[str, float] | None = None) -> tuple[Finding, ...]:
    """What is caught, most expensive first.

    Args:
        graph: the optimised graph.
        source: the graph that it was made from.
        seconds: of each node of the optimised graph in a run, by name; None where nothing was run.
    """
    times = seconds or {}
    whole = sum(times.values())
    found = []
    for trap, view, node in caught(graph, source):
        parts = [part for part in (node, view.dequantized_weights(node)) if part is not None]
        known = [times[part.name] for part in parts if part.name and part.name in times]
        cost = sum(known) if known else None
        share = cost / whole if cost is not None and whole else None
        found.append(
            Finding(
                trap.name, view.name(node), node.op_type, trap.what, trap.rule, trap.remedy,
                None if cost is None else round(cost * 1e6, 1), None if share is None else round(share, 4),
            )
        )  # fmt: skip
    return tuple(sorted(found, key=lambda finding: -(finding.microseconds or 0.0)))
