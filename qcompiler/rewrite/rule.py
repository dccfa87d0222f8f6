"""Rewrite rules and their driver: match, check with a reason, rewrite, until nothing changes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import ClassVar, Final

from qcompiler import ir
from qcompiler.errors import PassError
from qcompiler.rewrite.pattern import Match, Op, matches

NOTHING_TO_DO: Final = ""
"""What `check` returns where the pattern fits and the rule has no business: not a refusal, and not recorded."""

WAYS: Final = 16
"""How many ways to match one pattern at one node are tried."""

FIRINGS_PER_NODE: Final = 16
FIRINGS: Final = 1000
"""A rule that fires more than FIRINGS + FIRINGS_PER_NODE * nodes times in one graph is taken to go on for ever."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """A rule that matched and did not fire, and why."""

    rule: str
    node: str
    reason: str


@dataclass
class Outcome:
    """What a rule did to a model."""

    changes: int = 0
    refusals: list[Refusal] = field(default_factory=list)


@dataclass(frozen=True)
class Rule(ABC):
    """One rewrite. Fields of a subclass are its options.

    The driver has checked, before `check`, that inner nodes are used by the match alone, in the same graph as the
    root, and that none of their outputs is a graph output. After `rewrite` has given the root's output to its new
    producer (`edit.replace_uses`), the driver erases what of the match has no use left, and the new output takes over
    the old one's name.
    """

    name: ClassVar[str]
    pattern: ClassVar[Op | tuple[Op, ...]]

    def check(self, edit: ir.Editor, found: Match) -> str | None:
        """Why the rule must not fire here, in words with names; None where it may; NOTHING_TO_DO where it need not."""
        return None

    @abstractmethod
    def rewrite(self, edit: ir.Editor, found: Match) -> None:
        """Makes the change, through `edit` only."""

    @property
    def patterns(self) -> tuple[Op, ...]:
        """All the shapes the rule knows."""
        return self.pattern if isinstance(self.pattern, tuple) else (self.pattern,)


def apply_rule(rule: Rule, model: ir.Model) -> Outcome:
    """Applies `rule` everywhere in `model`, subgraphs included, until it finds nothing more.

    Each sweep goes through the nodes in order; where the rule fires, what the rewrite touched and the readers of that
    are looked at again at once. Sweeps are repeated until one changes nothing, so that a chain of n matches takes a
    time proportional to n. Constants that lost their last reader are dropped.

    Raises:
        PassError: the rule has fired far more often than the graph has nodes; the message names the rule.
    """
    outcome = Outcome()
    for edit in ir.editors(model):
        before = outcome.changes
        limit = before + FIRINGS_PER_NODE * len(edit.graph.nodes) + FIRINGS
        refused: dict[str, Refusal] = {}
        while _sweep_graph(rule, edit, refused, outcome, limit):
            pass
        if outcome.changes > before:
            edit.drop_unused_constants()
            here = {node.name for node in edit.graph.nodes}
            refused = {name: refusal for name, refusal in refused.items() if name in here}
        outcome.refusals += refused.values()
    return outcome


def _sweep_graph(rule: Rule, edit: ir.Editor, refused: dict[str, Refusal], outcome: Outcome, limit: int) -> bool:
    """Visits every node once, and those around a change again; whether anything changed."""
    before = outcome.changes
    wanted = {op for pattern in rule.patterns for op in pattern.ops}
    for start in list(edit.graph.nodes):
        waiting = [start]
        while waiting:
            root = waiting.pop()
            # an erased node has no outputs
            if root.op not in wanted or not root.outputs:
                continue
            edit.touched.clear()
            if not _apply_at(rule, edit, root, refused):
                continue
            outcome.changes += 1
            if outcome.changes > limit:
                raise PassError(
                    f"fired {outcome.changes} times and still finds work, last at {root.name!r}", where=rule.name
                )
            readers = [node for changed in edit.touched for tensor in changed.outputs for node in tensor.outputs]
            waiting += [node for node in (*reversed(readers), *reversed(edit.touched)) if edit.holds(node)]
    return outcome.changes > before


def _apply_at(rule: Rule, edit: ir.Editor, root: ir.Node, refused: dict[str, Refusal]) -> bool:
    """Fires the rule at the first match that nothing speaks against; else keeps the first reason."""
    reasons = []
    for pattern in rule.patterns:
        for found in islice(matches(pattern, root), WAYS):
            reason = _shared_inner(edit, found)
            if reason is None:
                reason = rule.check(edit, found)
            if reason is None:
                refused.pop(root.name, None)
                value, reader = (
                    found.output,
                    next((use for use in edit.uses(found.output) if use.node is not None), None),
                )
                rule.rewrite(edit, found)
                sweep(edit, [root, *(node for node, _ in found.inner)])
                if reader is not None and not root.outputs:
                    _keep_name(edit, value, reader)
                return True
            if reason != NOTHING_TO_DO:
                reasons.append(reason)
    refused.pop(root.name, None)
    if reasons:
        refused[root.name] = Refusal(rule.name, root.name, reasons[0])
    return False


def _keep_name(edit: ir.Editor, old: ir.Tensor, reader: ir.Use) -> None:
    """Gives what `reader` reads now in place of `old`, which is dead, its name, if this rewrite made it.

    A value thus has the same name before and after, so that models can be compared tensor by tensor.
    """
    inputs = reader.node.inputs if reader.node is not None else []
    new = inputs[reader.port] if reader.port < len(inputs) else old
    made = any(producer is node for producer in new.inputs for node in edit.touched if edit.holds(node))
    if new is not old and made and not edit.is_output(new):
        old.name, new.name = new.name, old.name


def _shared_inner(edit: ir.Editor, found: Match) -> str | None:
    """Why an inner node may not disappear: somebody outside the match uses its output."""
    members = {id(found.root), *(id(node) for node, _ in found.inner)}
    for node, shared in found.inner:
        if not edit.holds(node):
            return f"{node.op} {node.name!r} lies in another graph"
        if shared:
            continue
        for tensor in node.outputs:
            for use in edit.uses(tensor):
                if use.node is None:
                    return f"{tensor.name!r}, output of {node.op} {node.name!r}, is a graph output"
                if id(use.node) not in members:
                    return f"{tensor.name!r}, output of {node.op} {node.name!r}, is also used by {use.node.name!r}"
    return None


def sweep(edit: ir.Editor, nodes: Sequence[ir.Node]) -> None:
    """Erases those of `nodes` whose outputs have no use left, and then their producers among `nodes`."""
    pending = True
    while pending:
        pending = False
        for node in nodes:
            # an erased node has no outputs
            if node.outputs and edit.holds(node) and not any(edit.uses(tensor) for tensor in node.outputs):
                edit.erase(node)
                pending = True
