"""Names the nodes of decomposed operators that stay in the graph, so that a planner can keep each group in one type.

Run it after the fusion rules, on what they left: a norm below the opset that has its operator, a softmax over several
axes, the core of attention, which has no operator at all:

    MatMul(Softmax(scale * MatMul(q, k) + mask), v)      q, k and v computed
"""

from __future__ import annotations

from collections.abc import Iterable

from qcompiler import ir
from qcompiler.passes.fusion import recognise_gelu, recognise_layernorm, recognise_rmsnorm, recognise_softmax
from qcompiler.rewrite import Op, match

KINDS: tuple[tuple[str, tuple[Op, ...]], ...] = (
    ("layer-norm", recognise_layernorm.forms()),
    ("rms-norm", recognise_rmsnorm.forms()),
    ("softmax", recognise_softmax.forms()),
    ("gelu", recognise_gelu.RecogniseGelu.pattern),
)
BETWEEN = {"Add", "Sub", "Mul", "Div", "Where", "Cast", "Clip", "Max", "Min", "Tanh", "Identity", "Softmax"}
REACH = 8  # nodes between a MatMul of attention and its Softmax


def recognised_regions(model: ir.Model) -> dict[str, str]:
    """The kind of region that each node of a recognised region belongs to, by node name, in node order.

    Kinds: "layer-norm", "rms-norm" (with the product by gamma), "softmax", "gelu", "attention".
    """
    found: dict[str, str] = {}
    for node in model.all_nodes():
        for kind, members in _regions_at(node):
            for member in members:
                found.setdefault(member.name, kind)
    return {node.name: found[node.name] for node in model.all_nodes() if node.name in found}


def _regions_at(node: ir.Node) -> Iterable[tuple[str, list[ir.Node]]]:
    for kind, patterns in KINDS:
        hit = next((hit for pattern in patterns if (hit := match(pattern, node))), None)
        if hit is not None:
            yield kind, [hit.root, *(inner for inner, _ in hit.inner), *_gamma(hit.root, kind)]
    if node.op == "Softmax":
        above, below = _matmul_above(node, REACH), _matmul_below(node, REACH)
        if above and below:
            yield "attention", [*above, *below]


def _gamma(root: ir.Node, kind: str) -> list[ir.Node]:
    """The product by a constant, and for a layer norm the sum with one, that follow the norm."""
    wanted = {"rms-norm": ["Mul"], "layer-norm": ["Mul", "Add"]}.get(kind, [])
    chain: list[ir.Node] = []
    for op in wanted:
        users = (chain[-1] if chain else root).outputs[0].outputs
        if len(users) != 1 or users[0].op != op or not any(isinstance(t, ir.Constant) for t in users[0].inputs):
            break
        chain.append(users[0])
    return chain


def _is_product(node: ir.Node) -> bool:
    """Whether the node multiplies two computed matrices."""
    return node.op == "MatMul" and not any(isinstance(tensor, ir.Constant) for tensor in node.inputs)


def _matmul_above(node: ir.Node, reach: int) -> list[ir.Node]:
    """The nodes from the MatMul that feeds `node` down to `node`; empty where there is no such MatMul."""
    if _is_product(node):
        return [node]
    if node.op not in BETWEEN or reach == 0:
        return []
    for tensor in node.inputs:
        for producer in tensor.inputs:
            if path := _matmul_above(producer, reach - 1):
                return [*path, node]
    return []


def _matmul_below(node: ir.Node, reach: int) -> list[ir.Node]:
    """The nodes from `node` to the MatMul that alone uses its result; empty where there is no such MatMul."""
    if _is_product(node):
        return [node]
    users = node.outputs[0].outputs
    if node.op not in BETWEEN or reach == 0 or len(users) != 1:
        return []
    path = _matmul_below(users[0], reach - 1)
    return [node, *path] if path else []
