"""Plan v0: which nodes compute in integers on the target, and which sites that quantizes.

The set of nodes is that of `region`; this file states what follows from it. A quantized node stores its result once,
for all readers. A value from a float producer is stored for its quantized uses alone, all with the encoding of the
first of them, so that float readers keep the float value.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar

from qcompiler import ir
from qcompiler.passes.plan.adopt_qdq import as_type_of
from qcompiler.passes.plan.region import Region, choose
from qcompiler.pipeline import PassRecord, PlanPass
from qcompiler.quant import BiasOf, Encoding, NodePlan, PerAxis, Precision, QSpec, QuantPlan, Site, SitePlan
from qcompiler.quant.qtype import INT32
from qcompiler.rewrite import Refusal
from qcompiler.targets import (
    Activation,
    Bias,
    Float,
    Operand,
    OpRule,
    Output,
    Same,
    Scaled,
    TargetSpec,
    Weight,
    channel_axis,
)

BIAS = QSpec(INT32, PerAxis(0), symmetric=True)


@dataclass(frozen=True)
class Annotate(PlanPass):
    """Chooses nodes and sites by the target's table.

    Attributes:
        target: the table.
        precision: which of its schemes.
        keep_float: patterns (as in the shell) of node or tensor names that must stay float.
        given: encodings that the model came with; they replace calibration.
        only_given: there is no other source of ranges, so a node whose ranges are not all given stays float.
    """

    name: ClassVar[str] = "annotate"
    target: TargetSpec
    precision: Precision
    keep_float: tuple[str, ...] = ()
    given: Mapping[Site, Encoding] = field(default_factory=dict)
    only_given: bool = False

    def apply(self, model: ir.Model, plan: QuantPlan, record: PassRecord) -> QuantPlan:
        """The plan with a decision for every node of the main graph and a site for every quantized value.

        Raises:
            UsageError: a `keep_float` pattern matches nothing.
        """
        region = choose(model, self.target, self.precision, self.keep_float)
        if self.only_given:
            drop_unknown(region, self.given)
        record.refusals += [Refusal("annotate", node, reason) for node, reason in region.refused.items()]
        record.changes = len(region.rules)
        found = {site: adopted(decision, self.given.get(site)) for site, decision in sites(region)}
        return QuantPlan({**plan.sites, **found}, {**plan.nodes, **decisions(region)})


def sites(region: Region) -> Iterator[tuple[Site, SitePlan]]:
    """Each site with its decision."""
    for node in region.model.nodes:
        if node.name in region.rules:
            yield from _node_sites(region, node)


def _node_sites(region: Region, node: ir.Node) -> Iterator[tuple[Site, SitePlan]]:
    yield from _inputs(region, node, region.rules[node.name])
    yield from _outputs(region, node, region.rules[node.name])


def _inputs(region: Region, node: ir.Node, rule: OpRule) -> Iterator[tuple[Site, SitePlan]]:
    for port, tensor in enumerate(node.inputs):
        operand = rule.operand(port)
        if not tensor.name or isinstance(operand, Float):
            continue
        use = Site(tensor.name, node.name, port)
        if isinstance(operand, Bias):
            weight = Site(node.inputs[operand.w].name, node.name, operand.w)
            derived = BiasOf(stored_at(region, node, operand.x), weight)
            yield use, SitePlan((BIAS,), BIAS, rule.name, "scale(x) * scale(w)", derived=derived)
        elif isinstance(operand, Weight):
            options = tuple(along(spec, channel_axis(node)) for spec in operand.options)
            yield use, SitePlan(options, options[0], rule.name, f"weight of {node.name}")
        elif region.source(tensor) is None:
            first = stored_at(region, node, port)
            why = f"read by {node.op} {node.name}"
            same_as = None if first == use else first
            yield use, SitePlan(operand.options, operand.options[0], rule.name, why, same_as=same_as)


def _outputs(region: Region, node: ir.Node, rule: OpRule) -> Iterator[tuple[Site, SitePlan]]:
    if isinstance(rule.output, Float):
        return
    for tensor in [region.result(node), *node.outputs[1:]]:
        if not tensor.name:
            continue
        why, same_as, gain = f"result of {node.op} {node.name}", None, 1.0
        operand: Operand | Output = rule.output
        if isinstance(operand, Scaled):
            gain = float(ir.array(node.inputs[operand.factor]).item())
        if isinstance(operand, Same | Scaled):
            same_as, operand = stored_at(region, node, operand.port), rule.operand(operand.port)
        assert isinstance(operand, Activation)
        yield (
            Site(tensor.name),
            SitePlan(operand.options, operand.options[0], rule.name, why, same_as=same_as, gain=gain),
        )


def integer_uses(region: Region, tensor: ir.Tensor) -> list[tuple[ir.Node, int]]:
    """The quantized uses of a value, in node order."""
    return [
        (use.node, use.port)
        for use in region.edit.uses(tensor)
        if use.node is not None
        and use.node.name in region.rules
        and isinstance(region.rules[use.node.name].operand(use.port), Activation)
    ]


def stored_at(region: Region, node: ir.Node, port: int) -> Site:
    """The site whose encoding the value that `node` reads at `port` has.

    A value from a float producer has one encoding for all its quantized uses, that of the first.
    """
    tensor = node.inputs[port]
    if region.source(tensor) is not None:
        return Site(tensor.name)
    if isinstance(tensor, ir.Constant):
        return Site(tensor.name, node.name, port)
    first, at = integer_uses(region, tensor)[0]
    return Site(tensor.name, first.name, at)


def decisions(region: Region) -> Mapping[str, NodePlan]:
    """How each node of the main graph is computed, and why."""
    found: dict[str, NodePlan] = {}
    for node in region.model.nodes:
        if node.name in region.rules:
            rule = region.rules[node.name]
            found[node.name] = NodePlan(region.precision, rule.name, rule.source)
            swallowed = region.result(node)
            if swallowed is not node.outputs[0]:
                name = swallowed.inputs[0].name
                found[name] = NodePlan(region.precision, rule.name, f"computed inside {node.op} {node.name}")
        elif node.name not in found:
            reason = region.refused.get(node.name) or region.target.float_reason(node.op)
            found[node.name] = NodePlan("float", "float", reason or f"no rule of the target for {node.op}")
    return found


def drop_unknown(region: Region, given: Mapping[Site, Encoding]) -> None:
    """Removes nodes that need a range that nobody gives, then followers that lose their region."""
    for node in region.model.nodes:
        if node.name not in region.rules:
            continue
        need = [site for site, decision in _node_sites(region, node) if needs_range(decision)]
        unknown = [s.tensor for s in need if s not in given and not region.is_constant(s.tensor)]
        if unknown:
            region.drop(node, f"the model gives no encoding for {unknown[0]!r}, and there is no calibration data")
    region.prune()


def needs_range(decision: SitePlan) -> bool:
    """Whether the numbers of a site come from observed values of its own."""
    spec = decision.choice
    return spec is not None and not spec.dynamic and decision.derived is None and decision.same_as is None


def adopted(decision: SitePlan, given: Encoding | None) -> SitePlan:
    """The decision with the encoding that the model came with, where there is one."""
    if given is None or decision.choice is None or decision.choice.dynamic or decision.derived is not None:
        return decision
    return replace(
        decision, encoding=as_type_of(given, decision.choice), same_as=None, why=f"{decision.why}, as trained"
    )


def along(spec: QSpec, axis: int) -> QSpec:
    """The spec with its per-axis granularity turned to `axis`."""
    return replace(spec, granularity=PerAxis(axis)) if isinstance(spec.granularity, PerAxis) else spec
