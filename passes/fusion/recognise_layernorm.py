"""(x - mean) / Sqrt(ReduceMean((x - mean)^2) + eps) -> LayerNormalization(x, 1),  mean = ReduceMean(x).

Also as a product with r = Reciprocal(Sqrt(...)) or Pow(..., -1/2), with gamma inside, (x - mean) * (gamma * r), and as
TensorFlow writes it, x * (gamma * r) + (beta - mean * (gamma * r)). A gamma or beta behind the division is absorbed
afterwards by `fold-norm-affine`. The difference x - mean may be computed twice, as older exporters of torch do.
Means go over the last dimensions, which must be static. Source: Ba et al., Layer Normalization, 2016; ONNX operator
standard, LayerNormalization 17.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from qcompiler import ir
from qcompiler.passes.fusion.forms import MEAN, inverse_root, last_dims, mean_axes, refusal, replace, spread, square
from qcompiler.rewrite import Any, Const, Match, Op, Rule

X, AXES, GAMMA = Any("x"), Const(optional=True), Const("gamma")
AVERAGE = Op(MEAN, X, AXES)
CENTERED = Op("Sub", X, AVERAGE)


def forms() -> tuple[Op, ...]:
    """All the ways to write it."""
    found = []
    for squared in square(CENTERED):
        variance = Op("Add", Op(MEAN, squared, AXES), Const("eps"))
        found.append(Op("Div", CENTERED, Op("Sqrt", variance)))
        for inverse in inverse_root(variance):
            scaled = Op("Mul", inverse, GAMMA)
            found += [Op("Mul", CENTERED, inverse), Op("Mul", CENTERED, scaled)]
            for factor in (scaled, inverse):
                found.append(Op("Add", Op("Mul", X, factor), Op("Sub", Const("beta"), Op("Mul", AVERAGE, factor))))
    return tuple(found)


@dataclass(frozen=True)
class RecogniseLayernorm(Rule):
    """Finds a LayerNormalization that was written out."""

    name: ClassVar[str] = "recognise-layernorm"
    pattern: ClassVar[tuple[Op, ...]] = forms()

    def check(self, edit: ir.Editor, found: Match) -> str | None:
        """Refuses other axes than the last, sizes that are not static, and gamma or beta of another shape."""
        x = found.tensor("x")
        axes = mean_axes(found)
        dims = last_dims(x, axes) if not isinstance(axes, str) else axes
        if isinstance(dims, str):
            return dims
        for name in ("gamma", "beta"):
            constant = found.get(name)
            if constant is not None and spread(constant, dims) is None:
                return f"constant {constant.name!r} of shape {list(constant.shape)} does not fit {list(dims)}"
        return refusal(edit, found, "LayerNormalization", 17, x, vectors=("gamma", "beta"))

    def rewrite(self, edit: ir.Editor, found: Match) -> None:
        """One LayerNormalization; gamma is 1 where the match has none."""
        x, root = found.tensor("x"), found.root.name
        axes = mean_axes(found)
        dims = last_dims(x, axes) if not isinstance(axes, str) else axes
        assert not isinstance(dims, str)
        inputs: list[ir.Tensor] = [x]
        for name in ("gamma", "beta"):
            constant = found.get(name)
            if constant is None and name == "beta":
                break
            values = np.ones(dims, np.dtype(x.dtype)) if constant is None else spread(constant, dims)
            assert values is not None
            inputs.append(edit.constant(f"{root}_{name}", values))
        attrs = {"axis": -len(dims), "epsilon": float(found.value("eps").reshape(()))}
        replace(edit, found, "LayerNormalization", inputs, attrs)
