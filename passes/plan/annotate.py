"""Plan v0: which nodes compute in integers on the target, and which sites that quantizes.

Anchors (Conv, MatMul, ...) are quantized wherever their rule's conditions hold. Followers (Add, Concat, MaxPool, ...)
are worth it only inside a quantized region, so they are the greatest set such that each of them

    reads only quantized values: outputs of quantized nodes, constants, or values that an anchor quantizes anyway;
    feeds at least one quantized node.

The set is found by starting with every candidate and removing violators until none is left; the order of removal does
not matter, since removing a node never makes another one valid.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import ClassVar

import numpy as np

from qcompiler import ir
from qcompiler.errors import UsageError
from qcompiler.passes.plan.adopt_qdq import as_type_of
from qcompiler.pipeline import PassRecord, PlanPass
from qcompiler.quant import BiasOf, Encoding, NodePlan, PerAxis, Precision, QSpec, QuantPlan, Site, SitePlan
from qcompiler.quant.qtype import INT32
from qcompiler.rewrite import Refusal
from qcompiler.targets import Activation, Bias, Float, Operand, OpRule, Output, Same, TargetSpec, Weight, channel_axis

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
        choice = choose(model, self.target, self.precision, self.keep_float)
        if self.only_given:
            choice.drop_unknown(self.given)
        record.refusals += [Refusal("annotate", node, reason) for node, reason in choice.refused.items()]
        record.changes = len(choice.rules)
        sites = {site: adopted(decision, self.given.get(site)) for site, decision in choice.sites()}
        return QuantPlan({**plan.sites, **sites}, {**plan.nodes, **choice.decisions()})


@dataclass(eq=False)
class Choice:
    """The nodes that compute in integers, and what follows from that.

    Attributes:
        rules: rule by name of each quantized node.
        refused: reason by name of each node that a rule knows and that stays float.
        absorbed: name of the quantized node that swallows an activation node.
    """

    model: ir.Model
    target: TargetSpec
    precision: Precision
    rules: dict[str, OpRule] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    absorbed: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.edit = ir.Editor(self.model, self.model.graph)
        self._constants = {constant.name for constant in self.model.constants()}

    # ---- what the graph says, given the present set
    def result(self, node: ir.Node) -> ir.Tensor:
        """The output of a quantized node, behind the activation that it absorbs."""
        out = node.outputs[0]
        follower = self.edit.only_use(out)
        absorbed = follower is not None and follower.op in self.rules[node.name].absorbs and foldable(follower, out)
        return follower.outputs[0] if absorbed and follower is not None else out

    def source(self, tensor: ir.Tensor) -> ir.Node | None:
        """The quantized node whose stored result `tensor` is."""
        if not tensor.inputs:
            return None
        node = tensor.inputs[0]
        if node.name not in self.rules and node.inputs and node.inputs[0].inputs:
            before = node.inputs[0].inputs[0]
            if before.name in self.rules and self.result(before) is tensor:
                return before
            return None
        return node if node.name in self.rules and not isinstance(self.rules[node.name].output, Float) else None

    def available(self, tensor: ir.Tensor) -> bool:
        """Whether the value is quantized anyway: by its producer, by an anchor that reads it, or as a constant."""
        if isinstance(tensor, ir.Constant):
            return bool(np.dtype(tensor.dtype) == np.float32)
        if self.source(tensor) is not None:
            return True
        return any(
            (rule := self.rules.get(use.name)) is not None
            and rule.role == "anchor"
            and any(t is tensor and isinstance(rule.operand(p), Activation) for p, t in enumerate(use.inputs))
            for use in tensor.outputs
        )

    def feeds_integers(self, node: ir.Node) -> bool:
        """Whether a result of the node goes to a quantized node."""
        outputs = [self.result(node), *node.outputs[1:]]
        return any(
            (rule := self.rules.get(use.name)) is not None
            and any(t is tensor and isinstance(rule.operand(p), Activation) for p, t in enumerate(use.inputs))
            for tensor in outputs
            for use in tensor.outputs
        )

    def prune(self) -> None:
        """Removes followers that violate the conditions of the module's docstring, until none is left."""
        nodes = [n for n in self.model.nodes if n.name in self.rules and self.rules[n.name].role == "follow"]
        changed = True
        while changed:
            changed = False
            for node in nodes:
                if node.name not in self.rules:
                    continue
                rule = self.rules[node.name]
                operands = [t for p, t in enumerate(node.inputs) if t.name and isinstance(rule.operand(p), Activation)]
                missing = [t.name for t in operands if not self.available(t)]
                if all(isinstance(t, ir.Constant) for t in operands):
                    self._drop(node, "reads only constants")
                elif missing:
                    self._drop(node, f"{missing[0]!r} is not quantized, and quantizing it here would cost more")
                elif not self.feeds_integers(node):
                    self._drop(node, "no quantized node reads its result")
                else:
                    continue
                changed = True

    def drop_unknown(self, given: Mapping[Site, Encoding]) -> None:
        """Removes nodes that need a range that nobody gives, then followers that lose their region."""
        for node in self.model.nodes:
            if node.name not in self.rules:
                continue
            need = [site for site, decision in self._node_sites(node) if needs_range(decision)]
            unknown = [s.tensor for s in need if s not in given and not self.is_constant(s.tensor)]
            if unknown:
                self._drop(node, f"the model gives no encoding for {unknown[0]!r}, and there is no calibration data")
        self.prune()

    def is_constant(self, tensor: str) -> bool:
        """Whether a tensor is an initializer of the main graph."""
        return tensor in self._constants

    def _drop(self, node: ir.Node, reason: str) -> None:
        del self.rules[node.name]
        self.refused[node.name] = reason

    # ---- what it means for the plan
    def sites(self) -> Iterator[tuple[Site, SitePlan]]:
        """Each site with its decision."""
        for node in self.model.nodes:
            if node.name in self.rules:
                yield from self._node_sites(node)

    def _node_sites(self, node: ir.Node) -> Iterator[tuple[Site, SitePlan]]:
        yield from self._inputs(node, self.rules[node.name])
        yield from self._outputs(node, self.rules[node.name])

    def _inputs(self, node: ir.Node, rule: OpRule) -> Iterator[tuple[Site, SitePlan]]:
        for port, tensor in enumerate(node.inputs):
            operand = rule.operand(port)
            if not tensor.name or isinstance(operand, Float):
                continue
            use = Site(tensor.name, node.name, port)
            if isinstance(operand, Bias):
                weight = Site(node.inputs[operand.w].name, node.name, operand.w)
                derived = BiasOf(self.stored_at(node, operand.x), weight)
                yield use, SitePlan((BIAS,), BIAS, rule.name, "scale(x) * scale(w)", derived=derived)
            elif isinstance(operand, Weight):
                options = tuple(along(spec, channel_axis(node)) for spec in operand.options)
                yield use, SitePlan(options, options[0], rule.name, f"weight of {node.name}")
            elif self.source(tensor) is None:
                first = self.stored_at(node, port)
                why = f"read by {node.op} {node.name}"
                same_as = None if first == use else first
                yield use, SitePlan(operand.options, operand.options[0], rule.name, why, same_as=same_as)

    def _outputs(self, node: ir.Node, rule: OpRule) -> Iterator[tuple[Site, SitePlan]]:
        if isinstance(rule.output, Float):
            return
        for tensor in [self.result(node), *node.outputs[1:]]:
            if not tensor.name:
                continue
            why, same_as = f"result of {node.op} {node.name}", None
            operand: Operand | Output = rule.output
            if isinstance(operand, Same):
                same_as, operand = self.stored_at(node, operand.port), rule.operand(operand.port)
            assert isinstance(operand, Activation)
            yield Site(tensor.name), SitePlan(operand.options, operand.options[0], rule.name, why, same_as=same_as)

    def integer_uses(self, tensor: ir.Tensor) -> list[tuple[ir.Node, int]]:
        """The quantized uses of a value, in node order."""
        return [
            (use.node, use.port)
            for use in self.edit.uses(tensor)
            if use.node is not None
            and use.node.name in self.rules
            and isinstance(self.rules[use.node.name].operand(use.port), Activation)
        ]

    def stored_at(self, node: ir.Node, port: int) -> Site:
        """The site whose encoding the value that `node` reads at `port` has.

        A value from a float producer has one encoding for all its quantized uses, that of the first.
        """
        tensor = node.inputs[port]
        if self.source(tensor) is not None:
            return Site(tensor.name)
        if isinstance(tensor, ir.Constant):
            return Site(tensor.name, node.name, port)
        first, at = self.integer_uses(tensor)[0]
        return Site(tensor.name, first.name, at)

    def decisions(self) -> Mapping[str, NodePlan]:
        """How each node of the main graph is computed, and why."""
        found: dict[str, NodePlan] = {}
        for node in self.model.nodes:
            if node.name in self.rules:
                rule = self.rules[node.name]
                found[node.name] = NodePlan(self.precision, rule.name, rule.source)
                swallowed = self.result(node)
                if swallowed is not node.outputs[0]:
                    name = swallowed.inputs[0].name
                    found[name] = NodePlan(self.precision, rule.name, f"computed inside {node.op} {node.name}")
            elif node.name not in found:
                reason = self.refused.get(node.name) or self.target.float_reason(node.op)
                found[node.name] = NodePlan("float", "float", reason or f"no rule of the target for {node.op}")
        return found


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


def foldable(activation: ir.Node, tensor: ir.Tensor) -> bool:
    """Whether an activation can be expressed by the range of its output: bounds constant and around zero."""
    if activation.op == "Relu":
        return True
    bounds = [t for t in activation.inputs[1:] if t.name]
    if activation.inputs[0] is not tensor or not all(isinstance(t, ir.Constant) for t in bounds):
        return False
    low = ir.array(activation.inputs[1]).item() if len(activation.inputs) > 1 and activation.inputs[1].name else -1.0
    high = ir.array(activation.inputs[2]).item() if len(activation.inputs) > 2 and activation.inputs[2].name else 1.0
    return bool(low <= 0 < high)


def choose(model: ir.Model, target: TargetSpec, precision: Precision, keep_float: tuple[str, ...]) -> Choice:
    """The choice for a model: candidates by rule and condition, then the greatest consistent set.

    Raises:
        UsageError: a `keep_float` pattern matches no node and no tensor.
    """
    table = {op: rule for rule in target.schemes[precision] for op in rule.ops}
    kept = matching(model, keep_float)
    choice = Choice(model, target, precision)
    for node in model.nodes:
        rule = table.get(node.op) if not node.domain else None
        if rule is None:
            continue
        reason = kept.get(node.name) or disqualified(node, rule)
        if reason is None:
            choice.rules[node.name] = rule
        else:
            choice.refused[node.name] = reason
    choice.prune()
    return choice


def matching(model: ir.Model, patterns: tuple[str, ...]) -> dict[str, str]:
    """Nodes that a pattern keeps float, each with the reason."""
    kept: dict[str, str] = {}
    for pattern in patterns:
        hit = [
            node.name
            for node in model.all_nodes()
            if any(fnmatchcase(name, pattern) for name in [node.name, *(t.name for t in node.outputs)])
        ]
        if not hit:
            raise UsageError(
                f"pattern {pattern!r} matches no node and no tensor",
                where="--keep-float",
                hint="qcompile inspect MODEL --nodes lists the names",
            )
        kept.update(dict.fromkeys(hit, f"kept float by --keep-float {pattern!r}"))
    return kept


def disqualified(node: ir.Node, rule: OpRule) -> str | None:
    """Why the node cannot be quantized by the rule whatever its neighbours do."""
    for port, tensor in enumerate(node.inputs):
        operand = rule.operand(port)
        if not tensor.name or isinstance(operand, Float):
            continue
        if tensor.dtype is None:
            return f"type of {tensor.name!r} is unknown"
        if np.dtype(tensor.dtype) != np.float32:
            return f"{tensor.name!r} is {np.dtype(tensor.dtype)}, not float32"
        if isinstance(operand, Weight | Bias):
            if not isinstance(tensor, ir.Constant):
                return f"{tensor.name!r} of {node.op} {node.name!r} is computed, not constant"
            if isinstance(operand, Weight) and (not ir.nbytes(tensor) or len(tensor.shape) < 2):
                return f"weight {tensor.name!r} of {node.op} {node.name!r} has shape {list(tensor.shape)}"
    return next((reason for condition in rule.conditions if (reason := condition(node)) is not None), None)
