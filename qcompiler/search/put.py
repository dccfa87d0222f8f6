"""Nodes that the search put in float or in one of several precisions: what follows for conditioning and plan."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from qcompiler import ir
from qcompiler.quant import NodePlan, Precision, QuantPlan
from qcompiler.search.owners import owner_of
from qcompiler.search.solver import FLOAT
from qcompiler.targets import TargetSpec

Put = Mapping[str, NodePlan]
"""Decision by node of the prepared graph."""


def set_apart(prepared: ir.Model, put: Put, target: TargetSpec) -> tuple[str, ...]:
    """The nodes that rewrites for the first precision of the target are not for."""
    ops = {name: {op for rule in rules for op in rule.ops} for name, rules in list(target.beside.items())[1:]}
    nodes = {node.name: node.op for node in prepared.nodes}
    return tuple(
        name
        for name, where in put.items()
        if where.precision == FLOAT or nodes.get(name) in ops.get(where.precision, ())
    )


def assigned(prepared: ir.Model, planned: ir.Model, put: Put) -> dict[str, Precision]:
    """Precision by node of the planned graph, for those that were put in one; rewritten nodes follow their owner."""
    others = {name: where.precision for name, where in put.items() if where.precision != FLOAT}
    owners = owner_of(prepared, planned) if others else {}
    return {name: others[owner] for name, owner in owners.items() if owner in others}


def reasoned(plan: QuantPlan, put: Put) -> QuantPlan:
    """The plan with the reasons of what was put somewhere, where it came out so."""
    reasons = dict[str, NodePlan]()
    for name, where in put.items():
        known = plan.nodes.get(name)
        if known is None or (known.precision == FLOAT) != (where.precision == FLOAT):
            continue
        if where.precision == FLOAT:
            reasons[name] = where
        elif where.reason:
            reasons[name] = replace(known, reason=f"{known.reason}; {where.reason}")
    return replace(plan, nodes={**plan.nodes, **reasons})
