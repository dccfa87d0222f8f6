"""Which nodes compute the same value every time."""

from __future__ import annotations

from qcompiler import ir

RANDOM = {"Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"}
QUANTIZED = {"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear"}
"""They carry a decision about precision, so their results are never computed ahead."""


def is_random(node: ir.Node) -> bool:
    """Whether two runs of the node may differ; operators of other domains are not trusted."""
    return bool(node.domain) or node.op in RANDOM or (node.op == "Dropout" and len(node.inputs) > 2)
