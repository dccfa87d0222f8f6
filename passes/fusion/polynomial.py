"""Reads an expression in one tensor as a polynomial, whatever way it is written.

polynomial of Mul(c, Add(x, Mul(d, Pow(x, 3))))  and of  Mul(x, Mul(c, Add(1, Mul(Mul(x, d), x))))  is  c x + c d x^3
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numpy.polynomial import polynomial as P

from qcompiler import ir
from qcompiler.passes.fusion.forms import scalar

Coefficients = npt.NDArray[np.float64]
DEGREE = 3
DEPTH = 8


def polynomial(tensor: ir.Tensor, x: ir.Tensor, depth: int = DEPTH) -> tuple[Coefficients, list[ir.Node]] | None:
    """`tensor` as a polynomial in `x`.

    Args:
        tensor: the value.
        x: the unknown.
        depth: how many nodes deep the expression may be.

    Returns:
        The coefficients, lowest degree first, shape (4,), and the nodes that compute the value from x and constants
        with one element; None where it is not a polynomial of degree 3 at most.
    """
    if tensor is x:
        return np.array([0.0, 1, 0, 0]), []
    value = scalar(tensor)
    if value is not None:
        return np.array([value, 0.0, 0, 0]), []
    if depth == 0 or len(tensor.inputs) != 1:
        return None
    node = tensor.inputs[0]
    parts = [polynomial(value, x, depth - 1) for value in node.inputs]
    if not parts or any(part is None for part in parts):
        return None
    terms = [part[0] for part in parts if part is not None]
    combined = _combine(node.op, terms)
    if combined is None:
        return None
    inner = [inner for part in parts if part is not None for inner in part[1]]
    return combined, [*inner, node]


def _combine(op: str, terms: list[Coefficients]) -> Coefficients | None:
    a, b = terms[0], terms[-1]
    result: npt.NDArray[np.floating]
    constant = not b[1:].any()
    match op, len(terms):
        case "Neg", 1:
            result = -a
        case "Add", 2:
            result = a + b
        case "Sub", 2:
            result = a - b
        case "Mul", 2:
            result = P.polymul(a, b)
        case "Div", 2 if constant and b[0] != 0:
            result = a / b[0]
        case "Pow", 2 if constant and b[0] in (1, 2, 3):
            result = P.polypow(a, int(b[0]))
        case _:
            return None
    result = P.polytrim(result)
    if len(result) > DEGREE + 1:
        return None
    return np.pad(result, (0, DEGREE + 1 - len(result))).astype(np.float64)


def close(found: Coefficients, wanted: list[float], rtol: float) -> bool:
    """Whether the coefficients are those wanted, lowest degree first, within `rtol` of each; zeros must be zero."""
    return bool(np.allclose(found, np.pad(wanted, (0, len(found) - len(wanted))), rtol=rtol, atol=1e-9))
