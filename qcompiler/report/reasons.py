"""Nodes that stayed float, grouped by reason.

Reasons name nodes and tensors in quotes, so that reasons of one kind differ in their names only. They are one group:
its reason reads "..." where the names differ.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from qcompiler.report.record import NodeLine

_QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"")


@dataclass(frozen=True)
class Group:
    """Nodes with one reason; `ops` is the number of nodes by operator, most first."""

    reason: str
    nodes: tuple[str, ...]
    ops: dict[str, int]


def stayed_float(nodes: Iterable[NodeLine]) -> list[Group]:
    """The float nodes by reason, largest group first, then in order of first appearance."""
    found: dict[str, list[NodeLine]] = {}
    for node in nodes:
        if node.precision == "float":
            found.setdefault(_QUOTED.sub("'...'", node.reason), []).append(node)
    groups = []
    for general, members in found.items():
        reasons = {node.reason for node in members}
        ops = dict(Counter(node.op for node in members).most_common())
        groups.append(Group(reasons.pop() if len(reasons) == 1 else general, tuple(n.name for n in members), ops))
    return sorted(groups, key=lambda group: -len(group.nodes))
