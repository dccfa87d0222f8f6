"""Which nodes compute the same value every time, and which say of which type it is."""

from __future__ import annotations

from qcompiler import ir

RANDOM = {"Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"}
GRID = frozenset({"QuantizeLinear", "DequantizeLinear"})
"""They move a value to a grid and back."""
QUANTIZED = GRID | {"DynamicQuantizeLinear"}
"""They carry a decision about precision, so their results are never computed ahead."""

NAMED = frozenset(
    {"ConstantOfShape", "EyeLike", "RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike"}
)
"""They name the type of their result by an attribute: where another is wanted, a Cast follows."""


def is_random(node: ir.Node) -> bool:
    """Whether two runs of the node may differ; operators of other domains are not trusted."""
    return bool(node.domain) or node.op in RANDOM or (node.op == "Dropout" and len(node.inputs) > 2)
