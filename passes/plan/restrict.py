"""The plan in which only some of the quantized nodes are left so, with the numbers that they have.

    node kept       reads and stores as before; a value that a node outside stored is quantized at this use instead
    node not kept   computes in float, reads float or what a kept node stores, and stores nothing

Nothing is calibrated again: encodings, codes of weights and of biases stay. It answers what one node alone costs, and
what the rest would cost without it (Wu et al., "Integer Quantization for Deep Learning Inference: Principles and
Empirical Evaluation", 2020, section 6.1).
"""

from __future__ import annotations

from collections.abc import Collection

from qcompiler import ir
from qcompiler.quant import NodePlan, QuantPlan, Site, SitePlan


def restricted(model: ir.Model, plan: QuantPlan, keep: Collection[str]) -> QuantPlan:
    """The plan for `model`, all or part of the graph of `plan`, with the nodes of `keep` alone quantized."""
    sites: dict[Site, SitePlan] = {}
    nodes: dict[str, NodePlan] = {}
    kept = [node for node in model.nodes if node.name in keep]
    stored = {tensor.name for node in kept for tensor in node.outputs if _quantized(plan, Site(tensor.name))}
    for node in kept:
        nodes[node.name] = plan.nodes[node.name]
        for port, tensor in enumerate(node.inputs):
            use = Site(tensor.name, node.name, port)
            if _quantized(plan, use):
                sites[use] = plan.sites[use]
            elif tensor.name not in stored and _quantized(plan, Site(tensor.name)):
                sites[use] = plan.sites[Site(tensor.name)]
        sites.update({Site(t.name): plan.sites[Site(t.name)] for t in node.outputs if t.name in stored})
    left = NodePlan("float", "restrict", "left float to see what the others do")
    return QuantPlan(sites, {**{node.name: left for node in model.nodes}, **nodes})


def _quantized(plan: QuantPlan, site: Site) -> bool:
    return site in plan.sites and plan.sites[site].choice is not None
