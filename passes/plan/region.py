"""Which nodes compute in integers: the greatest set that is consistent with the target's table.

Anchors (Conv, MatMul, ...) are quantized wherever their rule's conditions hold. Followers (Add, Concat, MaxPool, ...)
are worth it only inside a quantized region, so they are the greatest set such that each of them

    reads only quantized values: outputs of quantized nodes, constants, or values that an anchor quantizes anyway;
    feeds at least one quantized node.

The set is found by starting with every candidate and removing violators until none is left; the order of removal does
not matter, since removing a node never makes another one valid.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fnmatch import fnmatchcase

import numpy as np

from qcompiler import ir
from qcompiler.errors import UsageError
from qcompiler.quant import Precision
from qcompiler.targets import Activation, Bias, Float, OpRule, TargetSpec, Weight


@dataclass(eq=False)
class Region:
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
                    self.drop(node, "reads only constants")
                elif missing:
                    self.drop(node, f"{missing[0]!r} is not quantized, and quantizing it here would cost more")
                elif not self.feeds_integers(node):
                    self.drop(node, "no quantized node reads its result")
                else:
                    continue
                changed = True

    def is_constant(self, tensor: str) -> bool:
        """Whether a tensor is an initializer of the main graph."""
        return tensor in self._constants

    def drop(self, node: ir.Node, reason: str) -> None:
        """Leaves a node float."""
        del self.rules[node.name]
        self.refused[node.name] = reason


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


def choose(model: ir.Model, target: TargetSpec, precision: Precision, keep_float: tuple[str, ...]) -> Region:
    """The choice for a model: candidates by rule and condition, then the greatest consistent set.

    Raises:
        UsageError: a `keep_float` pattern matches no node and no tensor.
    """
    kept = matching(model, keep_float)
    region = Region(model, target, precision)
    for node in model.nodes:
        rules = [rule for rule in target.schemes[precision] if node.op in rule.ops and not node.domain]
        reasons = [kept.get(node.name) or disqualified(node, rule) for rule in rules]
        fits = [rule for rule, reason in zip(rules, reasons, strict=True) if reason is None]
        if fits:
            region.rules[node.name] = fits[0]
        elif rules:
            region.refused[node.name] = reasons[-1] or ""
    region.prune()
    return region


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
