"""Weights in blocks, layer after layer in the order of the graph, each knowing what those in front of it lost.

    H = sum y y^T, C = sum x y^T      x: what a layer reads in the float model, y: behind rounded weights
    W + W A -> codes                  A = (C - H) H^-1 (`gptq.correction`), by the moments H

Layers that read the same value go together. Each such group takes a reading of the samples by both models; where there
are more groups than `READINGS`, neighbours share one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from qcompiler import ir
from qcompiler.analysis.moments import collect_pairs
from qcompiler.data import Sample
from qcompiler.numerics.gptq import correction
from qcompiler.passes.plan.encode_blocks import EncodeBlocks, block_values, said, units
from qcompiler.pipeline import PassRecord, PlanPass
from qcompiler.quant import QuantPlan, Site
from qcompiler.targets.spec import reduced_axis

READINGS = 32


@dataclass(frozen=True)
class EncodeInTurn(PlanPass):
    """Encodes every constant that the plan stores in blocks.

    Attributes:
        source: calibration samples.
        memory: bytes that observed values may take.
        tell: told the stage, how much is done, and how much there is.
    """

    name: ClassVar[str] = EncodeBlocks.name
    source: Iterable[Sample]
    memory: int
    tell: Callable[[str, int, int | None], None]

    def apply(self, model: ir.Model, plan: QuantPlan, record: PassRecord) -> QuantPlan:
        """The plan with codes.

        Raises:
            DataError: an input holds NaN or infinity.
        """
        rounded, rounds = model.copy(), readings(model, plan)
        nodes, losses, count = {node.name: node for node in model.nodes}, dict[str, list[float]](), 0
        for number, sites in enumerate(rounds):
            self.tell("round weights", number, len(rounds))
            layers = [nodes[site.consumer] for site in sites if nodes[site.consumer].op != "Gather"]
            widths = {node.inputs[0].name: int(node.inputs[1].shape[reduced_axis(node)]) for node in layers}
            pairs = collect_pairs(model, rounded, self.source, widths, memory_budget=self.memory)
            moments = {name: pair.second for name, pair in pairs.items()}
            step = EncodeBlocks("auto", moments, {name: correction(*pair) for name, pair in pairs.items()}, losses)
            done = step.apply(model, QuantPlan({site: plan.sites[site] for site in sites}), PassRecord(self.name))
            count += len(done.sites)
            plan = plan.with_sites(done.sites)
            put(rounded, done)
        record.changes = count
        record.notes += said(losses)
        return plan


def readings(model: ir.Model, plan: QuantPlan) -> list[list[Site]]:
    """The sites, in the order of the graph, by what they read; at most `READINGS` lists."""
    nodes = {node.name: node for node in model.nodes}
    groups: dict[str, list[Site]] = {}
    for unit in units(model, plan):
        first = nodes[unit[0].consumer]
        groups.setdefault("" if first.op == "Gather" else first.inputs[0].name, []).extend(unit)
    every = list(groups.values())
    parts = np.array_split(np.arange(len(every)), min(READINGS, max(len(every), 1)))
    return [[site for number in part for site in every[number]] for part in parts if len(part)]


def put(model: ir.Model, plan: QuantPlan) -> None:
    """Replaces weights by the values that the plan has for them."""
    edit = ir.Editor(model, model.graph)
    nodes = {node.name: node for node in model.nodes}
    for site, decision in plan.quantized():
        node = nodes[site.consumer]
        assert decision.encoding is not None
        old = node.inputs[site.port]
        values = block_values(decision.encoding).astype(old.dtype)
        edit.set_input(node, site.port, edit.constant(f"{old.name}_rounded", values))
    edit.drop_unused_constants()
