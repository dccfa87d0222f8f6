"""Chains of Slice that take every n-th row and column: the source, and where and how far apart it is read."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qcompiler import ir


@dataclass(frozen=True, eq=False)
class Strided:
    """Every `steps[axis]`-th element of `source` from `starts[axis]` on, to the end; axes that are not listed whole.

    Attributes:
        nodes: the Slice nodes, the last one first.
    """

    source: ir.Tensor
    starts: dict[int, int]
    steps: dict[int, int]
    nodes: tuple[ir.Node, ...]

    @property
    def spatial(self) -> bool:
        """Whether rows and columns of images are skipped, beginning with the first, and nothing else."""
        return set(self.steps) <= {2, 3} and not any(self.starts.values()) and max(self.steps.values(), default=1) > 1


def strided(tensor: ir.Tensor) -> Strided | None:
    """The longest chain of such slices that ends in `tensor`; None where there is none."""
    starts: dict[int, int] = {}
    steps: dict[int, int] = {}
    nodes: list[ir.Node] = []
    while tensor.inputs and (cut := _cut(tensor.inputs[0])) is not None and not set(cut) & set(steps):
        node = tensor.inputs[0]
        starts.update({axis: start for axis, (start, _) in cut.items()})
        steps.update({axis: step for axis, (_, step) in cut.items()})
        nodes.append(node)
        tensor = node.inputs[0]
    return Strided(tensor, starts, steps, tuple(nodes)) if nodes else None


def _cut(node: ir.Node) -> dict[int, tuple[int, int]] | None:
    """Start and step by axis of a Slice that runs to the end."""
    shape = node.inputs[0].shape if node.inputs else None
    if node.op != "Slice" or node.domain or shape is None or len(shape) != 4:
        return None
    if not all(not tensor.name or isinstance(tensor, ir.Constant) for tensor in node.inputs[1:]):
        return None
    values = [[int(n) for n in ir.array(tensor).reshape(-1)] if tensor.name else None for tensor in node.inputs[1:]]
    begin, end, axes, jumps = (values + [None] * 4)[:4]
    if begin is None or end is None:
        return None
    axes = list(range(len(begin))) if axes is None else [axis % 4 for axis in axes]
    jumps = [1] * len(begin) if jumps is None else jumps
    for axis, start, stop, jump in zip(axes, begin, end, jumps, strict=True):
        whole = stop >= np.iinfo(np.int32).max or (isinstance(shape[axis], int) and stop >= shape[axis])
        if not (whole and start >= 0 and jump > 0):
            return None
    return {axis: (start, jump) for axis, start, jump in zip(axes, begin, jumps, strict=True)}
