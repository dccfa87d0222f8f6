"""Reshape(Transpose(Reshape(x, s), perm), t) -> the same of a lower rank, where axes stay together.

Neighbours that perm leaves neighbours, in their order, are one axis, and axes of size 1 are none:

    (B, H/7, 7, W/7, 7, C), perm 0 1 3 2 4 5    ->    (B H/7, 7, W/7, 7 C), perm 0 2 1 3

That is how windows of attention are cut out of an image and put back (Swin, MobileViT). Core ML takes values of rank 5
at most, and so does QNN; of what has no more the rule keeps off. Source: ONNX operator standard, Reshape and Transpose.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import numpy as np

from qcompiler import ir
from qcompiler.passes.fusion.forms import replace
from qcompiler.passes.fusion.merge_reshapes import target_shape
from qcompiler.passes.fusion.merge_transposes import permutation
from qcompiler.rewrite import NOTHING_TO_DO, Any, Match, Op, Rule

MOST = 5
"""Axes that every target takes."""


@dataclass(frozen=True)
class MergeAxes(Rule):
    """Lowers the rank of values that are transposed between two changes of shape."""

    name: ClassVar[str] = "merge-axes"
    pattern: ClassVar[Op] = Op(
        "Reshape", Op("Transpose", Op("Reshape", Any("x"), Any("s"), bind="first"), bind="transpose"), Any("t")
    )

    def check(self, edit: ir.Editor, found: Match) -> str | None:
        """Refuses what is not known, and what does not lose an axis."""
        middle = found.node("first").outputs[0]
        if middle.shape is None or len(middle.shape) <= MOST:
            return NOTHING_TO_DO
        if 0 in middle.shape or sum(not isinstance(dim, int) for dim in middle.shape) > 1:
            return f"more than one dimension of {middle.name!r} is unknown, or one is 0"
        if target_shape(found.output, found.root) is None:
            return f"the shape of {found.output.name!r} is not known well enough"
        if len(_merged(found)[0]) == len(middle.shape):
            return f"no axes of {middle.name!r} stay together"
        return None

    def rewrite(self, edit: ir.Editor, found: Match) -> None:
        """Three new nodes."""
        shape, perm = _merged(found)
        first, transpose, target = found.node("first"), found.node("transpose"), target_shape(found.output, found.root)
        assert target is not None
        dtype, dims = found.output.dtype, [dim if dim > 0 else None for dim in shape]
        cut = edit.variable(f"{first.name}_merged", dtype, dims)
        given = edit.constant(f"{first.name}_shape", np.array(shape, np.int64))
        edit.add("Reshape", [found.tensor("x"), given], name=f"{first.name}_merged", outputs=[cut])
        turned = edit.variable(f"{transpose.name}_merged", dtype, [dims[axis] for axis in perm])
        edit.add("Transpose", [cut], name=f"{transpose.name}_merged", attrs={"perm": perm}, outputs=[turned])
        last = edit.constant(f"{found.root.name}_shape", np.array(target, np.int64))
        replace(edit, found, "Reshape", [turned, last])


def _merged(found: Match) -> tuple[list[int], list[int]]:
    """The shape with axes merged, -1 where a dimension is unknown, and the perm of it."""
    shape = found.node("first").outputs[0].shape
    perm = permutation(found.node("transpose"), len(shape))
    assert perm is not None
    kept = [axis for axis, dim in enumerate(shape) if dim != 1]
    after = dict(pairwise(kept))
    groups: list[list[int]] = []
    for axis in (axis for axis in perm if axis in kept):
        if groups and after.get(groups[-1][-1]) == axis:
            groups[-1].append(axis)
        else:
            groups.append([axis])
    ordered = sorted(groups)
    sizes = [[shape[axis] for axis in group] for group in ordered]
    merged = [math.prod(dims) if all(isinstance(dim, int) for dim in dims) else -1 for dims in sizes]
    return merged, [ordered.index(group) for group in groups]
