"""What ONNX Runtime's own operators give, in standard ones that shape inference knows: for inference alone.

    like     Identity of an input: norms, rotary embeddings, mixtures of experts, forms of Gelu
    rows     attention: (batch, query, any), (batch, key, width) -> (batch, query, width)
    packed   attention of queries, keys and values in one: (batch, query, all heads) -> (batch, query, heads of queries)

Exporters and optimizers often leave what these give without type, and nothing behind it could be planned.
Source: ONNX Runtime, ContribOperators.md.
"""

from __future__ import annotations

import numpy as np
from onnx import GraphProto, NodeProto, helper, numpy_helper

MICROSOFT = "com.microsoft"
SKIPS = {0: 0, 3: 0}
LIKE: dict[tuple[str, str], dict[int, int]] = {
    ("", "SimplifiedLayerNormalization"): {0: 0},
    (MICROSOFT, "SkipSimplifiedLayerNormalization"): SKIPS,
    (MICROSOFT, "SkipLayerNormalization"): SKIPS,
    **{
        (MICROSOFT, op): {0: 0}
        for op in ("RotaryEmbedding", "MoE", "QMoE", "Gelu", "BiasGelu", "FastGelu", "QuickGelu")
    },
}
"""By domain and operator: which input each output is like."""
ATTENTION = ("GroupQueryAttention", "MultiHeadAttention")


def stand_in(graph: GraphProto) -> None:
    """Replaces the nodes of a graph, of which nothing but types is asked."""
    nodes = [other for node in graph.node for other in _standard(node)]
    del graph.node[:]
    graph.node.extend(nodes)


def _standard(node: NodeProto) -> list[NodeProto]:
    pairs = LIKE.get((node.domain, node.op_type), {})
    if node.domain == MICROSOFT and node.op_type in ATTENTION:
        return _attention(node)
    if not pairs or not node.input[0]:
        return [node]
    return [
        helper.make_node("Identity", [node.input[source]], [node.output[place]])
        for place, source in pairs.items()
        if place < len(node.output) and node.output[place]
    ]


def _attention(node: NodeProto) -> list[NodeProto]:
    """In three axes; inference passes over what has another rank."""
    if len(node.input) < 3 or not all(node.input[:3]):
        return _packed(node) if node.op_type == "GroupQueryAttention" and node.input[0] else [node]
    if node.op_type == "GroupQueryAttention":
        return [helper.make_node("Identity", [node.input[0]], [node.output[0]])]
    return [helper.make_node("Einsum", [node.input[0], node.input[2]], [node.output[0]], equation="bqx,bkw->bqw")]


def _packed(node: NodeProto) -> list[NodeProto]:
    """The first `num_heads` of all heads."""
    heads = {attribute.name: attribute.i for attribute in node.attribute}
    queries, all_heads = heads.get("num_heads", 1), heads.get("num_heads", 1) + 2 * heads.get("kv_num_heads", 1)
    name = node.output[0]
    values = {"split": [0, 0, all_heads, -1], "from": [0], "to": [queries], "axis": [2], "join": [0, 0, -1]}
    constants = [
        helper.make_node("Constant", [], [f"{name}/{key}"], value=numpy_helper.from_array(np.array(numbers, np.int64)))
        for key, numbers in values.items()
    ]
    return [
        *constants,
        helper.make_node("Reshape", [node.input[0], f"{name}/split"], [f"{name}/heads"]),
        helper.make_node("Slice", [f"{name}/heads", *(f"{name}/{k}" for k in ("from", "to", "axis"))], [f"{name}/q"]),
        helper.make_node("Reshape", [f"{name}/q", f"{name}/join"], [name]),
    ]
