"""What is least among plans that keep the contract, where that is not time: the same groups with other costs.

size     bytes of the constants
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from qcompiler import ir
from qcompiler.quant import Site
from qcompiler.search.candidates import Candidate
from qcompiler.search.costs import Cost, Costs
from qcompiler.search.groups import Group
from qcompiler.search.owners import owner_of

FLOAT_BITS = 32


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
        per_element=0.0,
        unit="bytes",
    )


def stored_bits(candidate: Candidate, node: ir.Node) -> int:
    """The bits of a node's constants, as the plan stores them."""
    bits = 0
    for port, tensor in enumerate(node.inputs):
        if holds_numbers(tensor):
            site = candidate.plan.sites.get(Site(tensor.name, node.name, port))
            choice = None if site is None else site.choice
            bits += math.prod(tensor.shape) * (FLOAT_BITS if choice is None else choice.qtype.bits)
    return bits


def float_bits(nodes: Iterable[ir.Node]) -> int:
    """The bits of constants in float."""
    return sum(math.prod(t.shape) * FLOAT_BITS for node in nodes for t in node.inputs if holds_numbers(t))


def holds_numbers(tensor: ir.Tensor) -> bool:
    """Whether a tensor is a constant of floats."""
    return isinstance(tensor, ir.Constant) and tensor.dtype is not None and np.dtype(tensor.dtype) == np.float32
