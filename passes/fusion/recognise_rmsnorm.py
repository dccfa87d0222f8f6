"""x / Sqrt(ReduceMean(x^2) + eps) -> RMSNormalization(x, 1), from opset 23 on.

Also x * r and x * (gamma * r) with r = Reciprocal(Sqrt(...)) or Pow(..., -1/2). A gamma behind the norm is absorbed
afterwards by `fold-norm-affine`. Below opset 23 the nodes stay, and `recognised_regions` names them.
Source: Zhang and Sennrich, Root Mean Square Layer Normalization, 2019; ONNX operator standard, RMSNormalization 23.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from qcompiler import ir
from qcompiler.passes.fusion.forms import MEAN, inverse_root, last_dims, mean_axes, refusal, replace, spread, square
from qcompiler.rewrite import Any, Const, Match, Op, Rule

X = Any("x")


def forms() -> tuple[Op, ...]:
    """All the ways to write it."""
    found = []
    for squared in square(X):
        mean = Op("Add", Op(MEAN, squared, Const(optional=True)), Const("eps"))
        found.append(Op("Div", X, Op("Sqrt", mean)))
        for inverse in inverse_root(mean):
            found += [Op("Mul", X, inverse), Op("Mul", X, Op("Mul", inverse, Const("gamma")))]
    return tuple(found)


@dataclass(frozen=True)
class RecogniseRmsnorm(Rule):
    """Finds an RMSNormalization that was written out."""

    name: ClassVar[str] = "recognise-rmsnorm"
    pattern: ClassVar[tuple[Op, ...]] = forms()

    def check(self, edit: ir.Editor, found: Match) -> str | None:
        """Refuses opsets below 23, other axes than the last, sizes that are not static, and a gamma that differs."""
        x, gamma = found.tensor("x"), found.get("gamma")
        dims = self._dims(found)
        if isinstance(dims, str):
            return dims
        if gamma is not None and spread(gamma, dims) is None:
            return f"constant {gamma.name!r} of shape {list(gamma.shape)} does not fit {list(dims)}"
        return refusal(edit, found, "RMSNormalization", 23, x, vectors=("gamma",))

    def rewrite(self, edit: ir.Editor, found: Match) -> None:
        """One RMSNormalization; gamma is 1 where the match has none."""
        x, gamma, dims = found.tensor("x"), found.get("gamma"), self._dims(found)
        assert not isinstance(dims, str)
        values = np.ones(dims, np.dtype(x.dtype)) if gamma is None else spread(gamma, dims)
        assert values is not None
        attrs = {"axis": -len(dims), "epsilon": float(found.value("eps").reshape(()))}
        replace(edit, found, "RMSNormalization", [x, edit.constant(f"{found.root.name}_gamma", values)], attrs)

    def _dims(self, found: Match) -> tuple[int, ...] | str:
        axes = mean_axes(found)
        return last_dims(found.tensor("x"), axes) if not isinstance(axes, str) else axes
