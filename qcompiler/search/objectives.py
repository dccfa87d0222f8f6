"""What is least among plans that keep the contract, where that is not time: the same groups with other costs.

size     bytes of the constants
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from qcompiler import ir
from qcompiler.analysis.macs import count_macs
from qcompiler.quant import PerBlock, QuantPlan, Site
from qcompiler.search.candidates import Candidate
from qcompiler.search.costs import Cost, Costs
from qcompiler.search.groups import Group
from qcompiler.search.owners import owner_of

FLOAT_BITS = 32


@dataclass(frozen=True)
class Objective:
    """One of them.

    Attributes:
        whole: of a candidate.
        by_group: the costs of a candidate's groups with this in place of seconds.
    """

    whole: Callable[[Candidate], float]
    by_group: Callable[[Costs, ir.Model, Candidate], Costs]


def sized(costs: Costs, prepared: ir.Model, candidate: Candidate) -> Costs:
    """The same groups with the bytes of their constants as costs; conversions take none."""
    planned = {node.name: node for node in candidate.planned.nodes}
    nodes = {node.name: node for node in prepared.nodes}
    owners = owner_of(prepared, candidate.planned)

    def quantized(group: Group) -> Cost:
        left = set(group.prepared) - {owners[name] for name in group.planned}
        stored = sum(stored_bits(candidate, planned[name]) for name in group.planned)
        return Cost((stored + float_bits(nodes[name] for name in left)) / 8)

    return replace(
        costs,
        quantized={group.name: quantized(group) for group in costs.groups},
        floating={group.name: Cost(float_bits(nodes[n] for n in group.prepared) / 8) for group in costs.groups},
        source="bytes of constants, not times",
        per_element=0.0,
        unit="bytes",
    )


def operated(costs: Costs, prepared: ir.Model, candidate: Candidate) -> Costs:
    """The same groups with their bit operations as costs; conversions take none."""
    inside, before = bit_operations(candidate.planned, candidate.plan), bit_operations(prepared, QuantPlan())
    owners = owner_of(prepared, candidate.planned)

    def quantized(group: Group) -> Cost:
        left = set(group.prepared) - {owners[name] for name in group.planned}
        return Cost(sum(inside.get(n, 0) for n in group.planned) + sum(before.get(n, 0) for n in left))

    return replace(
        costs,
        quantized={group.name: quantized(group) for group in costs.groups},
        floating={group.name: Cost(sum(before.get(n, 0) for n in group.prepared)) for group in costs.groups},
        source="bit operations, not times",
        per_element=0.0,
        unit="bit operations",
    )


def bit_operations(model: ir.Model, plan: QuantPlan) -> dict[str, int]:
    """The bit operations of every node that multiplies."""
    nodes = {node.name: node for node in model.nodes}
    macs = count_macs(model).nodes
    return {
        name: count * bits_read(plan, nodes[name], 0) * bits_read(plan, nodes[name], 1)
        for name, count in macs.items()
        if name in nodes
    }


def bits_read(plan: QuantPlan, node: ir.Node, port: int) -> int:
    """The bits of what a node multiplies."""
    known = plan.nodes.get(node.name)
    if known is None or known.precision == "float":
        return FLOAT_BITS
    name = node.inputs[port].name
    site = plan.sites.get(Site(name, node.name, port)) or plan.sites.get(Site(name))
    return FLOAT_BITS if site is None or site.choice is None else site.choice.qtype.bits


def stored_bits(candidate: Candidate, node: ir.Node) -> int:
    """The bits of a node's constants, as the plan stores them."""
    bits = 0
    for port, tensor in enumerate(node.inputs):
        if holds_numbers(tensor):
            site = candidate.plan.sites.get(Site(tensor.name, node.name, port))
            choice = None if site is None else site.choice
            bits += math.prod(tensor.shape) * (FLOAT_BITS if choice is None else choice.qtype.bits)
            if site is not None and site.encoding is not None and isinstance(site.encoding.spec.granularity, PerBlock):
                zero = 0 if site.encoding.spec.symmetric else site.encoding.spec.qtype.bits
                bits += site.encoding.scale.size * (FLOAT_BITS + zero)
    return bits


def float_bits(nodes: Iterable[ir.Node]) -> int:
    """The bits of constants in float."""
    return sum(math.prod(t.shape) * FLOAT_BITS for node in nodes for t in node.inputs if holds_numbers(t))


def holds_numbers(tensor: ir.Tensor) -> bool:
    """Whether a tensor is a constant of floats."""
    return isinstance(tensor, ir.Constant) and tensor.dtype is not None and np.dtype(tensor.dtype) == np.float32


OBJECTIVES: Mapping[str, Objective] = {
    "size": Objective(lambda candidate: candidate.model.weights_bytes(), sized),
    "bits": Objective(lambda candidate: sum(bit_operations(candidate.planned, candidate.plan).values()), operated),
}


def objective_of(optimize: str, *, for_size: bool) -> Objective | None:
    """What was asked for, None for time; size where nothing else was, and the precision is for size."""
    return OBJECTIVES.get("size" if for_size and optimize == "latency" else optimize)
