"""ReduceMean(x, axes = all spatial) -> GlobalAveragePool(x), and a Flatten behind it where keepdims = 0.

x is (N, C, D1 ... Dn), n >= 2, and the axes are 2 ... n + 1. With n = 1 it may be a mean over the features of a
sequence, as in LayerNormalization, so it stays. Pools have integer kernels, reductions have none.
Source: docs: ONNX Runtime fact sheet; ONNX operator standard, GlobalAveragePool.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from qcompiler import ir
from qcompiler.rewrite import Any, Match, Op, Rule

SMALLEST_RANK = 4


@dataclass(frozen=True)
class ReduceMeanToPool(Rule):
    """Writes a mean over all spatial axes as a pool."""

    name: ClassVar[str] = "reduce-mean-to-pool"
    pattern: ClassVar[Op] = Op("ReduceMean", Any("x"), Any("axes", optional=True), bind="mean")

    def check(self, edit: ir.Editor, found: Match) -> str | None:
        """Refuses axes that are not constant or not exactly the spatial ones, unknown or low rank, and non-float32."""
        node, x, axes = found.node("mean"), found.tensor("x"), found.get("axes")
        if x.dtype != np.float32:
            return f"{x.name!r}, input of ReduceMean {node.name!r}, is {x.dtype}, not float32"
        if x.shape is None:
            return f"the rank of {x.name!r}, input of ReduceMean {node.name!r}, is unknown"
        if axes is not None and not isinstance(axes, ir.Constant):
            return f"axes {axes.name!r} of ReduceMean {node.name!r} are not constant"
        rank = len(x.shape)
        listed = [int(a) for a in (node.attrs.get("axes", []) if axes is None else ir.array(axes).reshape(-1))]
        spatial = list(range(2, rank))
        if rank < SMALLEST_RANK or sorted({axis % rank for axis in listed}) != spatial:
            return f"axes {listed} of ReduceMean {node.name!r} are not all spatial axes of rank {rank}"
        return None

    def rewrite(self, edit: ir.Editor, found: Match) -> None:
        """The pool, or the Flatten behind it, takes over the output."""
        node, x = found.node("mean"), found.tensor("x")
        pool = edit.add("GlobalAveragePool", [x], name=f"{node.name}_pool", before=node)
        edit.retype(pool.outputs[0], x.dtype, [*x.shape[:2], *[1] * (len(x.shape) - 2)])
        result = pool.outputs[0]
        if not node.attrs.get("keepdims", 1):
            flat = edit.add("Flatten", [result], name=f"{node.name}_flatten", attrs={"axis": 1}, before=node)
            edit.retype(flat.outputs[0], x.dtype, list(x.shape[:2]))
            result = flat.outputs[0]
        edit.replace_uses(node.outputs[0], result)
