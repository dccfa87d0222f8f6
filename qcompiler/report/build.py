"""From what a compile did to the lines of its report."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict

from qcompiler import ir
from qcompiler.analysis.stats import Stats
from qcompiler.backends.conformance import Conformance
from qcompiler.errors import DataError
from qcompiler.numerics.noise import expected_error
from qcompiler.pipeline import PassRecord
from qcompiler.quant import PerTensor, QuantPlan, Site, SitePlan
from qcompiler.report.record import NodeLine, PassLine, TensorLine


def pass_lines(records: Iterable[PassRecord]) -> tuple[PassLine, ...]:
    """One line a pass in order of first run; repeated runs add up, and the refusals of the last run count."""
    found: dict[str, PassLine] = {}
    for record in records:
        before = found.get(record.name) or PassLine(record.name, 0, 0.0)
        refusals = tuple({"rule": r.rule, "node": r.node, "reason": r.reason} for r in record.refusals)
        notes = tuple(dict.fromkeys([*before.notes, *record.notes]))
        found[record.name] = PassLine(
            record.name, before.changes + record.changes, round(before.seconds + record.seconds, 4), refusals, notes
        )
    return tuple(found.values())


def node_lines(model: ir.Model, plan: QuantPlan) -> tuple[NodeLine, ...]:
    """One line for every node of the model that the plan was made for; nodes of subgraphs stay float."""
    lines = []
    for node in model.all_nodes():
        decision = plan.nodes.get(node.name)
        said = ("float", "subgraph", "it lies in a subgraph, which is not planned")
        if decision is not None:
            said = (decision.precision, decision.rule, decision.reason)
        inputs, outputs = (tuple(str(t.name) for t in part) for part in (node.inputs, node.outputs))
        lines.append(NodeLine(node.name, node.op, *said, inputs, outputs))
    return tuple(lines)


def tensor_lines(plan: QuantPlan, stats: Stats | None) -> tuple[TensorLine, ...]:
    """One line for every stored value; per-axis scales are lists, of scales of blocks the extremes."""
    return tuple(tensor_line(site, decision, stats) for site, decision in plan.quantized())


def tensor_line(site: Site, decision: SitePlan, stats: Stats | None) -> TensorLine:
    """How one value is stored; `sqnr_db` is that of its own grid on the observed values."""
    assert decision.choice is not None
    encoding = decision.encoding
    if encoding is None:
        return TensorLine(site.tensor, str(site), str(decision.choice), "dynamic", [], [], None, decision.why)
    scale, zero_point = (
        [a.min().item(), a.max().item()] if a.ndim > 1 else a.tolist() for a in (encoding.scale, encoding.zero_point)
    )
    return TensorLine(
        site.tensor,
        str(site),
        str(encoding.spec),
        encoding.method,
        scale,
        zero_point,
        sqnr(site, decision, stats),
        decision.why,
    )


def sqnr(site: Site, decision: SitePlan, stats: Stats | None) -> float | None:
    """Signal-to-noise ratio in dB of a per-tensor grid on the values that calibration saw; None where it saw none."""
    encoding = decision.encoding
    if stats is None or encoding is None or not isinstance(encoding.spec.granularity, PerTensor):
        return None
    if site.tensor not in stats or encoding.spec.qtype.kind != "int":
        return None
    try:
        histogram = stats.histogram(site.tensor)
    except DataError:
        return None
    spec = encoding.spec
    signal, noise = expected_error(histogram, encoding.scale, encoding.zero_point, qmin=spec.low, qmax=spec.high)
    return finite(10 * math.log10(signal / noise)) if signal > 0 and noise > 0 else None


def finite(value: float | None, digits: int = 3) -> float | None:
    """A number for JSON; None in place of NaN and infinity."""
    return round(value, digits) + 0.0 if value is not None and math.isfinite(value) else None  # no -0


def backend_lines(name: str, version: str, conformance: Conformance) -> Mapping[str, object]:
    """The backend's part of the report."""
    known = conformance.compiled or conformance.executed or conformance.integer_nodes + conformance.float_nodes > 0
    return {
        "name": name,
        "version": version,
        "compiled": conformance.compiled,
        "executed": conformance.executed,
        "ops": dict(conformance.ops),
        "integer_nodes": conformance.integer_nodes if known else None,
        "float_nodes": conformance.float_nodes if known else None,
        "boundaries": conformance.boundaries,
        "fallback": [{"node": f.node, "runs_as": f.runs_as, "rule": f.rule} for f in conformance.fallback],
        "findings": [asdict(finding) for finding in conformance.findings],
        "failures": list(conformance.failures),
        **conformance.facts,
    }
