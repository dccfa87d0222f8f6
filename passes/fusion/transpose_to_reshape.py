"""Transpose(x, perm) -> Reshape(x, shape), where perm moves only dimensions of size 1.

The order of the values in memory is then the same. At most one dimension may be unknown; it counts as larger than 1.
Source: ONNX operator standard, Transpose and Reshape.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from qcompiler import ir
from qcompiler.passes.fusion.forms import replace
from qcompiler.passes.fusion.merge_transposes import permutation
from qcompiler.rewrite import NOTHING_TO_DO, Any, Match, Op, Rule


@dataclass(frozen=True)
class TransposeToReshape(Rule):
    """Replaces a Transpose that moves no data."""

    name: ClassVar[str] = "transpose-to-reshape"
    pattern: ClassVar[Op] = Op("Transpose", Any("x"))

    def check(self, edit: ir.Editor, found: Match) -> str | None:
        """Leaves every Transpose that moves data; refuses shapes with more than one unknown dimension."""
        x = found.tensor("x")
        if x.shape is None:
            return NOTHING_TO_DO
        perm = permutation(found.root, len(x.shape))
        moved = [axis for axis in perm or () if x.shape[axis] != 1]
        if moved != sorted(moved):
            return NOTHING_TO_DO
        if perm != sorted(perm or ()) and (0 in x.shape or sum(not isinstance(dim, int) for dim in x.shape) > 1):
            return f"more than one dimension of {x.name!r} is unknown"
        return None

    def rewrite(self, edit: ir.Editor, found: Match) -> None:
        """A Reshape to the transposed shape; nothing where perm is the identity."""
        x = found.tensor("x")
        perm = permutation(found.root, len(x.shape))
        assert perm is not None
        if perm == sorted(perm):
            edit.replace_uses(found.output, x)
            return
        shape = [dim if isinstance(dim, int) else -1 for dim in (x.shape[axis] for axis in perm)]
        replace(edit, found, "Reshape", [x, edit.constant(f"{found.root.name}_shape", np.array(shape, np.int64))])
