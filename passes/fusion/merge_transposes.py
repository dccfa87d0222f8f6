"""Transpose(Transpose(x, p), q) -> Transpose(x, p[q]);  -> x where p[q] is the identity.

Dimension i of the outer result is dimension q[i] of the inner one, which is dimension p[q[i]] of x.
Source: ONNX operator standard, Transpose (an absent perm reverses the dimensions).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from qcompiler import ir
from qcompiler.passes.fusion.forms import replace
from qcompiler.rewrite import Any, Match, Op, Rule


def permutation(node: ir.Node, rank: int | None) -> list[int] | None:
    """The perm of a Transpose, None where it is absent and the rank is not known."""
    if "perm" in node.attrs:
        return list(node.attrs["perm"])
    return None if rank is None else list(range(rank))[::-1]


def rank_of(*nodes: ir.Node) -> int | None:
    """The rank of what the Transposes work on, from a perm or a shape."""
    for node in nodes:
        if "perm" in node.attrs:
            return len(node.attrs["perm"])
        for tensor in (node.inputs[0], node.outputs[0]):
            if tensor.shape is not None:
                return len(tensor.shape)
    return None


@dataclass(frozen=True)
class MergeTransposes(Rule):
    """Joins two Transposes in a row, or removes both."""

    name: ClassVar[str] = "merge-transposes"
    pattern: ClassVar[Op] = Op("Transpose", Op("Transpose", Any("x"), bind="first", shared=True))

    def check(self, edit: ir.Editor, found: Match) -> str | None:
        """Refuses an unknown rank, and a first Transpose that stays for others where nothing would be saved."""
        perm, first = self._joint(found), found.node("first")
        if perm is None:
            return f"rank of {found.tensor('x').name!r} is not known"
        if perm != sorted(perm) and len(edit.uses(first.outputs[0])) > 1:
            return f"Transpose {first.name!r} has other users and stays"
        return None

    def rewrite(self, edit: ir.Editor, found: Match) -> None:
        """One Transpose of x, or x itself."""
        x, perm = found.tensor("x"), self._joint(found)
        assert perm is not None
        if perm == sorted(perm):
            edit.replace_uses(found.output, x)
        else:
            replace(edit, found, "Transpose", [x], {"perm": perm})

    def _joint(self, found: Match) -> list[int] | None:
        first = found.node("first")
        rank = rank_of(first, found.root)
        p, q = permutation(first, rank), permutation(found.root, rank)
        return None if p is None or q is None else [p[axis] for axis in q]
