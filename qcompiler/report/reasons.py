"""Nodes that stayed float, grouped by reason.

Reasons name operators, nodes and tensors, so that reasons of one kind differ in names only. They are one group: its
reason reads "..." where names in quotes differ, and lists the operators where those differ.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from qcompiler.report.record import NodeLine

_QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"")
_TIME = re.compile(r"-?\d+(?:\.\d+)? (us|dB)")
_OPS_SHOWN = 4


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
            found.setdefault(_general(node, "{op}"), []).append(node)
    groups = [_group(members) for members in found.values()]
    return sorted(groups, key=lambda group: -len(group.nodes))


def _general(node: NodeLine, op: str) -> str:
    """The reason without names; `op` stands for the node's operator."""
    return re.sub(rf"\b{re.escape(node.op)}\b", lambda _: op, _TIME.sub(r"... \1", _QUOTED.sub("'...'", node.reason)))


def _group(members: list[NodeLine]) -> Group:
    ops = dict(Counter(node.op for node in members).most_common())
    reason = members[0].reason
    if any(node.reason != reason for node in members):
        listed = ", ".join([*list(ops)[:_OPS_SHOWN], *(["..."] if len(ops) > _OPS_SHOWN else [])])
        reason = _general(members[0], listed)
    return Group(reason, tuple(node.name for node in members), ops)
