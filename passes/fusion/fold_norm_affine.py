"""N(x; gamma, beta) * c -> N(x; gamma c, beta c);  N(x; gamma, beta) + c -> N(x; gamma, beta + c).

N is LayerNormalization, or RMSNormalization, which has no beta and takes the product only; c is a constant over the
normalised dimensions. Source: ONNX operator standard, LayerNormalization 17, RMSNormalization 23.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from qcompiler import ir
from qcompiler.passes.fusion.forms import replace, spread
from qcompiler.rewrite import Any, Const, Match, Op, Rule

GAMMA, BETA = Const("gamma"), Const("beta", optional=True)


@dataclass(frozen=True)
class FoldNormAffine(Rule):
    """Folds a scale or a shift behind a norm into its constants."""

    name: ClassVar[str] = "fold-norm-affine"
    pattern: ClassVar[tuple[Op, ...]] = (
        Op("Mul|Add", Op("LayerNormalization", Any("x"), GAMMA, BETA, bind="norm"), Const("c")),
        Op("Mul", Op("RMSNormalization", Any("x"), GAMMA, bind="norm"), Const("c")),
    )

    def check(self, edit: ir.Editor, found: Match) -> str | None:
        """Refuses a constant that does not run over the normalised dimensions."""
        x, gamma, c = found.tensor("x"), found.tensor("gamma"), found.tensor("c")
        if x.shape is None or len(c.shape) > len(x.shape) or spread(c, tuple(gamma.shape)) is None:
            return f"constant {c.name!r} of shape {list(c.shape)} does not fit scale {gamma.name!r} {list(gamma.shape)}"
        return None

    def rewrite(self, edit: ir.Editor, found: Match) -> None:
        """New scale and bias, computed in float64; the norm takes over the output."""
        norm, root, dtype = found.node("norm"), found.root, np.dtype(found.tensor("gamma").dtype)
        gamma, c = found.value("gamma").astype(np.float64), np.asarray(found.value("c"), np.float64)
        c = np.broadcast_to(c.reshape(c.shape[max(0, c.ndim - gamma.ndim) :]), gamma.shape)
        beta = None if found.get("beta") is None else found.value("beta").astype(np.float64)
        if root.op == "Mul":
            gamma, beta = gamma * c, None if beta is None else beta * c
        else:
            beta = c if beta is None else beta + c
        inputs = [found.tensor("x"), edit.constant(f"{root.name}_gamma", gamma.astype(dtype))]
        if beta is not None:
            inputs.append(edit.constant(f"{root.name}_beta", beta.astype(dtype)))
        replace(edit, found, norm.op, inputs, norm.attrs)
