"""Gemm(A, B, C; alpha, beta) -> Gemm(A, alpha B, beta c), with c of shape (N,), where B and C are constant.

What comes later then finds a product and a plain bias: one weight, one number per column, no factors. transA and transB
stay. Source: ONNX operator standard, Gemm: Y = alpha op(A) op(B) + beta C.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from qcompiler import ir
from qcompiler.passes.fusion.linear import Linear, Vector, linear
from qcompiler.rewrite import NOTHING_TO_DO, Match, Op, Rule


@dataclass(frozen=True)
class NormaliseGemm(Rule):
    """Folds the factors of a Gemm into its constants and makes its bias a vector."""

    name: ClassVar[str] = "normalise-gemm"
    pattern: ClassVar[Op] = linear("Gemm")

    def check(self, edit: ir.Editor, found: Match) -> str | None:
        """Refuses what `Linear` cannot absorb; a Gemm in normal form is passed over."""
        view = Linear(found.root)
        plain = _factor(view, "alpha") == 1 and _factor(view, "beta") == 1
        if reason := view.refusal():
            return NOTHING_TO_DO if plain else reason
        if plain and _is_row(view):
            return NOTHING_TO_DO
        return view.unsafe(_alpha(view)) or view.unsafe()

    def rewrite(self, edit: ir.Editor, found: Match) -> None:
        """Writes new constants and drops the factors."""
        node, view, alpha = found.root, Linear(found.root), _alpha(Linear(found.root))
        if _factor(view, "beta") == 0:
            edit.set_inputs(node, node.inputs[:2])
        if _factor(view, "beta") != 1 or not _is_row(view):
            view.absorb(edit)
        for name in ("alpha", "beta"):
            node.attrs.pop(name, None)
        if alpha is not None:
            edit.set_input(node, 1, edit.constant(f"{view.weight.name}_scaled", view.scaled_weight(alpha)))


def _factor(view: Linear, name: str) -> float:
    return float(view.node.attrs.get(name, 1.0))


def _alpha(view: Linear) -> Vector | None:
    alpha = _factor(view, "alpha")
    return np.full(view.channels, alpha) if alpha != 1 else None


def _is_row(view: Linear) -> bool:
    return view.bias is None or list(view.bias.shape) == [view.channels]
