"""Plan v0: which nodes compute in integers on the target, and which sites that quantizes.

The set of nodes is that of `region`; this file states what follows from it. A quantized node stores its result once,
for all readers. A value from a float producer is stored for its quantized uses alone, all of a kind with the encoding
of the first of them, so that float readers keep the float value. A use that needs another kind than the one stored gets
a pair of its own behind the stored value: a conversion.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar

from qcompiler import ir
from qcompiler.passes.plan.given import Given, with_given
from qcompiler.passes.plan.region import Region, choose
from qcompiler.pipeline import PassRecord, PlanPass
from qcompiler.quant import (
    BiasOf,
    Encoding,
    NodePlan,
    PerAxis,
    PerBlock,
    PerGroup,
    Precision,
    QSpec,
    QuantPlan,
    Site,
    SitePlan,
)
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
    reduced_axis,
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
        assigned: precision by node where it is not `precision`, out of those that may stand side by side.
    """

    name: ClassVar[str] = "annotate"
    target: TargetSpec
    precision: Precision
    keep_float: tuple[str, ...] = ()
    given: Mapping[Site, Encoding] = field(default_factory=dict)
    only_given: bool = False
    assigned: Mapping[str, Precision] = field(default_factory=dict)

    def apply(self, model: ir.Model, plan: QuantPlan, record: PassRecord) -> QuantPlan:
        """The plan with a decision for every node and a site for every quantized value.

        Raises:
            UsageError: a `keep_float` pattern matches nothing.
        """
        region = choose(model, self.target, self.precision, self.keep_float, self.assigned)
        given = Given(self.given)
        found = decide(region, given, only_given=self.only_given)
        while self.only_given and drop_unknown(region, found):
            found = decide(region, given, only_given=True)
        record.refusals += [Refusal(self.name, node, reason) for node, reason in region.refused.items()]
        record.changes = len(region.rules)
        return QuantPlan({**plan.sites, **found}, {**plan.nodes, **decisions(region)})


# ---- sites
def decide(region: Region, given: Given, *, only_given: bool = False) -> Mapping[Site, SitePlan]:
    """The decision for every site, with given encodings."""
    constants = {constant.name: constant for constant in region.model.constants()}
    zero_points = region.target.zero_points
    return with_given(dict(sites(region)), given, constants, zero_points=zero_points, only_given=only_given)


def sites(region: Region) -> Iterator[tuple[Site, SitePlan]]:
    """Each site with its decision, nothing given."""
    nodes = [node for node in region.model.nodes if node.name in region.rules]
    first: dict[tuple[int, QSpec], Site] = {}
    for node in nodes:
        rule = region.rules[node.name]
        for port, tensor in enumerate(node.inputs):
            operand = rule.operand(port)
            if isinstance(operand, Activation) and not isinstance(tensor, ir.Constant):
                first.setdefault((id(tensor), operand.options[0]), Site(tensor.name, node.name, port))
    for node in nodes:
        yield from _inputs(region, node, region.rules[node.name], first)
        yield from _outputs(region, node, region.rules[node.name])


def _inputs(
    region: Region, node: ir.Node, rule: OpRule, first: Mapping[tuple[int, QSpec], Site]
) -> Iterator[tuple[Site, SitePlan]]:
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
            options = tuple(along(spec, channel_axis(node), reduced_axis(node)) for spec in operand.options)
            yield use, SitePlan(options, options[0], rule.name, f"weight of {node.name}")
        elif stored_at(region, node, port) == use:
            leader = first.get((id(tensor), operand.options[0]), use)
            why = f"read by {node.op} {node.name}"
            same_as = None if leader == use else leader
            yield use, SitePlan(operand.options, operand.options[0], rule.name, why, same_as=same_as)


def _outputs(region: Region, node: ir.Node, rule: OpRule) -> Iterator[tuple[Site, SitePlan]]:
    if isinstance(rule.output, Float):
        return
    for tensor in region.results(node):
        if not tensor.name:
            continue
        why, same_as, gain, kind = f"result of {node.op} {node.name}", None, 1.0, None
        operand: Operand | Output = rule.output
        if isinstance(operand, Scaled):
            gain = float(ir.array(node.inputs[operand.factor]).item())
        if isinstance(operand, Same | Scaled):
            same_as, kind = stored_at(region, node, operand.port), stored_kind(region, tensor)
            operand = rule.operand(operand.port)
        assert isinstance(operand, Activation)
        yield (
            Site(tensor.name),
            SitePlan(operand.options, kind or operand.options[0], rule.name, why, same_as=same_as, gain=gain),
        )


def stored_at(region: Region, node: ir.Node, port: int) -> Site:
    """The site of what `node` reads at `port`: the tensor where a quantized node stores it as needed, else this use."""
    tensor, operand = node.inputs[port], region.rules[node.name].operand(port)
    stored = stored_kind(region, tensor)
    fits = stored is not None and (not isinstance(operand, Activation) or stored in operand.options)
    return Site(tensor.name) if fits else Site(tensor.name, node.name, port)


def stored_kind(region: Region, tensor: ir.Tensor) -> QSpec | None:
    """The kind that a quantized node stores a value as; None where none stores it."""
    kinds: list[tuple[QSpec, ...]] = []
    while (node := region.source(tensor)) is not None:
        rule = region.rules[node.name]
        operand: Operand | Output = rule.output
        if isinstance(operand, Same | Scaled):
            tensor, operand = node.inputs[operand.port], rule.operand(operand.port)
            assert isinstance(operand, Activation)
            kinds.append(operand.options)
            continue
        assert isinstance(operand, Activation)
        kinds.append(operand.options)
        break
    # what moves values takes them as they are stored, if it can
    found: QSpec | None = None
    for options in reversed(kinds):
        found = found if found in options else options[0]
    return found


def along(spec: QSpec, axis: int, reduced: int) -> QSpec:
    """The spec with its per-axis granularity or its groups turned to `axis`, or its blocks to `reduced`."""
    match spec.granularity:
        case PerAxis():
            return replace(spec, granularity=PerAxis(axis))
        case PerGroup(_, size):
            return replace(spec, granularity=PerGroup(axis, size))
        case PerBlock(_, size):
            return replace(spec, granularity=PerBlock(reduced, size))
    return spec


def needs_range(decision: SitePlan) -> bool:
    """Whether the numbers of a site come from observed values of its own."""
    spec = decision.choice
    return spec is not None and not spec.dynamic and decision.derived is None and decision.same_as is None


# ---- nodes
def decisions(region: Region) -> Mapping[str, NodePlan]:
    """How each node is computed, and why; nodes of subgraphs stay float."""
    found: dict[str, NodePlan] = {}
    for node in region.model.nodes:
        if node.name in region.rules:
            rule = region.rules[node.name]
            found[node.name] = NodePlan(rule.precision, rule.name, rule.source)
            swallowed = region.absorbed(node)
            if swallowed is not None:
                reason = f"computed inside {node.op} {node.name}"
                found[swallowed.name] = NodePlan(rule.precision, rule.name, reason)
        elif node.name not in found:
            found[node.name] = NodePlan("float", "float", why_float(region, node))
        for graph in node.subgraphs():
            reason = f"inside a subgraph of {node.op} {node.name}, which stays float"
            found.update((inner.name, NodePlan("float", "float", reason)) for inner in every(graph))
    return found


def why_float(region: Region, node: ir.Node) -> str:
    """The reason for a node that is not quantized."""
    known = region.refused.get(node.name) or region.kept.get(node.name) or region.target.float_reason(node.op)
    return known or f"no rule of the target for {node.op}"


def every(graph: ir.Graph) -> Iterator[ir.Node]:
    """The nodes of a graph and of all graphs inside."""
    for node in graph.nodes:
        yield node
        for inner in node.subgraphs():
            yield from every(inner)


def drop_unknown(region: Region, found: Mapping[Site, SitePlan]) -> bool:
    """Removes nodes that need a range that nobody gives, then followers that lose their region; whether any."""
    unknown = {
        site
        for site, decision in found.items()
        if needs_range(decision) and decision.encoding is None and not region.is_constant(site.tensor)
    }
    dropped = False
    for node in [node for node in region.model.nodes if node.name in region.rules]:
        places = [Site(t.name, node.name, port) for port, t in enumerate(node.inputs)]
        places += [] if isinstance(region.rules[node.name].output, Float) else map(_site, region.results(node))
        missing = [place.tensor for place in places if place in unknown]
        if missing:
            reason = f"the model gives no encoding for {missing[0]!r}, and there is no calibration data"
            region.prune(region.drop(node, reason))
            dropped = True
    return dropped


def _site(tensor: ir.Tensor) -> Site:
    return Site(tensor.name)
