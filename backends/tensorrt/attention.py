"""Attention as TensorRT fuses it: MatMul(Softmax(f(MatMul(Q, K))), V), f made of scaling and masking.

    scores = MatMul(Q, K)     Q, K computed
    f      = Mul, Div, Add, Sub, Where by or with anything, in any number
    result = MatMul(P, V)     P = Softmax(...) along the last axis, V computed

The builder makes one kernel of it where all four of Q, K, P, V are quantized, or none (fact sheet, section 0, rule 9).
"""

from __future__ import annotations

from qcompiler import ir

BETWEEN = frozenset({"Mul", "Div", "Add", "Sub", "Where", "Identity", "Cast", "Reshape", "Unsqueeze", "Squeeze"})
BEHIND = frozenset({"Identity", "Cast", "Reshape", "Where"})
REACH = 8


def partner(node: ir.Node) -> ir.Node | None:
    """The other product of the attention that a MatMul of two computed operands belongs to."""
    if not is_product(node):
        return None
    return _values(node) or _scores(node)


def is_product(node: ir.Node) -> bool:
    """Whether a node multiplies two computed operands."""
    computed = len(node.inputs) == 2 and not any(isinstance(tensor, ir.Constant) for tensor in node.inputs)
    return node.op == "MatMul" and not node.domain and computed


def has_attention(model: ir.Model) -> bool:
    """Whether a model has such a product, or the operator of that name."""
    return any(node.op == "Attention" or partner(node) is not None for node in model.nodes)


def _values(scores: ir.Node) -> ir.Node | None:
    """The product behind the Softmax of these scores."""
    softmax = _down(scores, BETWEEN, "Softmax")
    result = None if softmax is None else _down(softmax, BEHIND, "MatMul")
    return result if result is not None and is_product(result) and _reads(result, 0, softmax) else None


def _scores(values: ir.Node) -> ir.Node | None:
    """The product in front of the Softmax that this one reads."""
    softmax = _up(values.inputs[0], BEHIND, "Softmax")
    result = None if softmax is None else _up(softmax.inputs[0], BETWEEN, "MatMul")
    return result if result is not None and is_product(result) else None


def _reads(node: ir.Node, port: int, softmax: ir.Node | None) -> bool:
    return softmax is not None and _up(node.inputs[port], BEHIND, "Softmax") is softmax


def _down(node: ir.Node, through: frozenset[str], wanted: str) -> ir.Node | None:
    """The first node of an operator behind `node`, along single readers."""
    for _ in range(REACH):
        readers = node.outputs[0].outputs
        if len(readers) != 1:
            return None
        node = readers[0]
        if node.op == wanted:
            return node
        if node.op not in through:
            return None
    return None


def _up(tensor: ir.Tensor, through: frozenset[str], wanted: str) -> ir.Node | None:
    """The nearest node of an operator that `tensor` is computed from, operands of other kinds being passed over."""
    front = [tensor]
    for _ in range(REACH):
        makers = [t.inputs[0] for t in front if t.inputs]
        found = next((maker for maker in makers if maker.op == wanted), None)
        if found is not None:
            return found
        front = [t for maker in makers if maker.op in through for t in maker.inputs]
    return None
