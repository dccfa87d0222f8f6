"""Which nodes compute in integers: the greatest set that is consistent with the target's table.

Anchors (Conv, MatMul, ...) are quantized wherever their rule's conditions hold. Followers (Add, Concat, MaxPool, ...)
are worth it only inside a quantized region, so they are the greatest set such that each of them

    reads only quantized values: outputs of quantized nodes, constants, or values that an anchor quantizes anyway;
    feeds at least one quantized node.

Where the table also has a dynamic rule for an anchor, one that quantizes its activations as they come, the anchor is
static if it reads what the region stores anyway, else dynamic. Dynamic nodes read float, so they make nothing available
to followers, and feeding them counts for nothing.

A layer that multiplies with a table is stored as the table is, once, where the table's rule says how.

The set is found by starting with every candidate and removing violators until none is left; the order of removal does
not matter, since removing a node never makes another one valid.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from qcompiler import ir
from qcompiler.passes.fusion.ties import tied
from qcompiler.passes.plan.bounds import expressible
from qcompiler.passes.plan.eligible import disqualified, kept_float, unread_output
from qcompiler.quant import Precision
from qcompiler.targets import Activation, Float, OpRule, TargetSpec


@dataclass(eq=False)
class Region:
    """The nodes that compute in integers, and what follows from that.

    Attributes:
        kept: reason by name of each node that the user keeps float.
        rules: rule by name of each quantized node.
        refused: reason by name of each node that a rule knows and that stays float.
    """

    model: ir.Model
    target: TargetSpec
    precision: Precision
    kept: Mapping[str, str] = field(default_factory=dict)
    rules: dict[str, OpRule] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.edit = ir.Editor(self.model, self.model.graph)
        self._constants = {constant.name for constant in self.model.constants()}
        self._followers: dict[str, ir.Node | None] = {}

    # ---- what the graph says, given the present set
    def absorbed(self, node: ir.Node) -> ir.Node | None:
        """The activation that a quantized node computes besides: the only reader of its result."""
        if node.name not in self._followers:
            follower = self.edit.only_use(node.outputs[0])
            if follower is not None and not (
                follower.op in self.rules[node.name].absorbs
                and follower.name not in self.kept
                and self.edit.holds(follower)
                and (self.rules[node.name].explicit or expressible(follower, node.outputs[0]))
                and follower.inputs[0] is node.outputs[0]
            ):
                follower = None
            self._followers[node.name] = follower
        return self._followers[node.name]

    def result(self, node: ir.Node) -> ir.Tensor:
        """The output of a quantized node, behind the activation that it absorbs."""
        follower = self.absorbed(node)
        return node.outputs[0] if follower is None else follower.outputs[0]

    def results(self, node: ir.Node) -> list[ir.Tensor]:
        """Every output of a quantized node, the first one behind the activation that it absorbs."""
        return [self.result(node), *node.outputs[1:]]

    def producer(self, tensor: ir.Tensor) -> ir.Node | None:
        """The quantized node that computes `tensor`, itself or by the activation that it absorbs."""
        if not tensor.inputs:
            return None
        node = tensor.inputs[0]
        if node.name in self.rules:
            return node
        before = node.inputs[0].inputs[0] if node.inputs and node.inputs[0].inputs else None
        if before is not None and before.name in self.rules and self.absorbed(before) is node:
            return before
        return None

    def source(self, tensor: ir.Tensor) -> ir.Node | None:
        """The quantized node whose stored result `tensor` is."""
        node = self.producer(tensor)
        return None if node is None or isinstance(self.rules[node.name].output, Float) else node

    def available(self, tensor: ir.Tensor) -> bool:
        """Whether the value is quantized anyway: by its producer, by an anchor that reads it, or as a constant."""
        if isinstance(tensor, ir.Constant):
            return bool(np.dtype(tensor.dtype) == np.float32)
        if self.source(tensor) is not None:
            return True
        return any(self.rules[node.name].role == "anchor" for node in self.readers(tensor))

    def readers(self, tensor: ir.Tensor) -> list[ir.Node]:
        """The quantized nodes that read `tensor` as an activation, in stored form."""
        return [
            node
            for node in tensor.outputs
            if (rule := self.rules.get(node.name)) is not None
            and not rule.dynamic
            and any(t is tensor and isinstance(rule.operand(p), Activation) for p, t in enumerate(node.inputs))
        ]

    def operands(self, node: ir.Node) -> list[ir.Tensor]:
        """The activations that a quantized node reads."""
        rule = self.rules[node.name]
        return [t for port, t in enumerate(node.inputs) if t.name and isinstance(rule.operand(port), Activation)]

    def is_constant(self, tensor: str) -> bool:
        """Whether a tensor is an initializer."""
        return tensor in self._constants

    # ---- changes
    def prune(self, nodes: Iterable[ir.Node] | None = None) -> None:
        """Removes followers that violate the conditions of the module's docstring, until none is left.

        Args:
            nodes: the only ones that may violate them now; by default all.
        """
        waiting = deque(self.model.nodes if nodes is None else nodes)
        queued = {node.name for node in waiting}
        while waiting:
            node = waiting.popleft()
            queued.discard(node.name)
            reason = self._violation(node) if node.name in self.rules else None
            if reason is None:
                continue
            for other in self.drop(node, reason):
                if other.name not in queued:
                    queued.add(other.name)
                    waiting.append(other)

    def _violation(self, node: ir.Node) -> str | None:
        if self.rules[node.name].role != "follow":
            return None
        operands = self.operands(node)
        if all(isinstance(tensor, ir.Constant) for tensor in operands):
            return "reads only constants"
        missing = next((tensor.name for tensor in operands if not self.available(tensor)), None)
        if missing is not None:
            return f"{missing!r} is not quantized, and quantizing it here would cost more"
        if self.rules[node.name].stored and any(self.source(tensor) is None for tensor in operands):
            return f"{operands[0].name!r} is stored in float, and the integer kernel is slow there"
        if not any(self.readers(tensor) for tensor in self.results(node)):
            return "no quantized node reads its result"
        return None

    def drop(self, node: ir.Node, reason: str) -> list[ir.Node]:
        """Leaves a node float; gives the quantized nodes that this may concern."""
        concerned = [reader for tensor in self.results(node) for reader in self.readers(tensor)]
        for tensor in self.operands(node):
            producer = self.producer(tensor)
            concerned += [*([] if producer is None else [producer]), *self.readers(tensor)]
        del self.rules[node.name]
        self.refused[node.name] = reason
        return [other for other in concerned if other is not node]

    def turn(self, node: ir.Node, rule: OpRule) -> list[ir.Node]:
        """Quantizes a node by another rule; gives the quantized nodes that this may concern."""
        concerned = self.drop(node, "")
        del self.refused[node.name]
        self._followers.pop(node.name, None)
        self.rules[node.name] = rule
        return concerned


def choose(
    model: ir.Model,
    target: TargetSpec,
    precision: Precision,
    keep_float: tuple[str, ...],
    assigned: Mapping[str, Precision] | None = None,
) -> Region:
    """The choice for a model: candidates by rule and condition, then the greatest consistent set.

    Args:
        model: the graph.
        target: its table.
        precision: of the nodes that are not assigned another one.
        keep_float: patterns of what stays float.
        assigned: precision by node, out of `target.beside`.

    Raises:
        UsageError: a `keep_float` pattern matches no node and no tensor.
    """
    region = Region(model, target, precision, kept_float(model, keep_float))
    either, assigned = dict[str, OpRule](), assigned or {}
    for node in model.nodes:
        table = target.rules(precision, assigned.get(node.name))
        rules = [] if node.domain else [rule for rule in table if node.op in rule.ops]
        for rule in rules:
            reason = region.kept.get(node.name) or disqualified(node, rule)
            reason = reason or (None if rule.dynamic else unread_output(region.edit, node))
            if reason is None and node.name not in region.rules:
                region.rules[node.name] = rule
                region.refused.pop(node.name, None)
            elif reason is None and rule.dynamic and not region.rules[node.name].dynamic:
                either[node.name] = rule
            elif node.name not in region.rules:
                region.refused[node.name] = str(reason)
    unite(region)
    region.prune()
    settle(region, either)
    return region


def unite(region: Region) -> None:
    """Gives layers that multiply with a table the rule that the rule of the table has for them."""
    twins = {
        node.inputs[0].name: rule.twin
        for node in region.model.nodes
        if (rule := region.rules.get(node.name)) is not None and rule.twin is not None
    }
    ties = tied(region.model) if twins else {}
    for node in region.model.nodes:
        twin = twins.get(ties.get(node.name, ""))
        if twin is not None and node.name in region.rules and disqualified(node, twin) is None:
            region.rules[node.name] = twin


def settle(region: Region, either: Mapping[str, OpRule]) -> None:
    """Makes those nodes dynamic that may be either and that read values which nothing stores quantized.

    Args:
        region: pruned; the nodes in question are static in it.
        either: the dynamic rule by name of each node that may be either.
    """
    moved = True
    while moved:
        moved = False
        for node in region.model.nodes:
            rule = either.get(node.name)
            if rule is None or region.rules.get(node.name) in (None, rule):
                continue
            if any(region.source(tensor) is None for tensor in region.operands(node)):
                region.prune(region.turn(node, rule))
                moved = True
