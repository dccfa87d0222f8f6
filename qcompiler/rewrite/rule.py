"""Rewrite rules and their driver: match, check with a reason, rewrite, until nothing changes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import ClassVar

from qcompiler import ir
from qcompiler.rewrite.pattern import Match, Op, match


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
    producer (`edit.replace_uses`), the driver erases what of the match has no use left.
    """

    name: ClassVar[str]
    pattern: ClassVar[Op | tuple[Op, ...]]

    def check(self, edit: ir.Editor, found: Match) -> str | None:
        """Why the rule must not fire here, in words with names; None where it may."""
        return None

    @abstractmethod
    def rewrite(self, edit: ir.Editor, found: Match) -> None:
        """Makes the change, through `edit` only."""

    @property
    def patterns(self) -> tuple[Op, ...]:
        """All the shapes the rule knows."""
        return self.pattern if isinstance(self.pattern, tuple) else (self.pattern,)


def apply_rule(rule: Rule, model: ir.Model) -> Outcome:
    """Applies `rule` everywhere in `model`, subgraphs included, until it finds nothing more."""
    outcome = Outcome()
    wanted = {op for pattern in rule.patterns for op in pattern.ops}
    for edit in ir.editors(model):
        refused: dict[str, Refusal] = {}
        changed = True
        while changed:
            changed = False
            for root in list(edit.graph.nodes):
                if root.op not in wanted or not root.outputs:
                    continue
                if _apply_at(rule, edit, root, refused):
                    outcome.changes += 1
                    changed = True
        outcome.refusals += refused.values()
    return outcome


def _apply_at(rule: Rule, edit: ir.Editor, root: ir.Node, refused: dict[str, Refusal]) -> bool:
    for pattern in rule.patterns:
        found = match(pattern, root)
        if found is None:
            continue
        reason = _shared_inner(edit, found) or rule.check(edit, found)
        if reason is not None:
            refused.setdefault(root.name, Refusal(rule.name, root.name, reason))
            continue
        refused.pop(root.name, None)
        rule.rewrite(edit, found)
        sweep(edit, [root, *(node for node, _ in found.inner)])
        return True
    return False


def _shared_inner(edit: ir.Editor, found: Match) -> str | None:
    """Why an inner node may not disappear: somebody outside the match uses its output."""
    members = {id(found.root), *(id(node) for node, _ in found.inner)}
    here = set(map(id, edit.graph.nodes))
    for node, shared in found.inner:
        if id(node) not in here:
            return f"{node.op} {node.name!r} lies in another graph"
        for tensor in node.outputs:
            for use in edit.uses(tensor):
                if use.node is None and not shared:
                    return f"{tensor.name!r}, output of {node.op} {node.name!r}, is a graph output"
                if use.node is not None and id(use.node) not in members and not shared:
                    return f"{tensor.name!r}, output of {node.op} {node.name!r}, is also used by {use.node.name!r}"
    return None


def sweep(edit: ir.Editor, nodes: list[ir.Node]) -> None:
    """Erases those of `nodes` whose outputs have no use left, and then their producers among `nodes`."""
    pending = True
    while pending:
        pending = False
        for node in nodes:
            alive = any(other is node for other in edit.graph.nodes)
            if alive and not any(edit.uses(tensor) for tensor in node.outputs):
                edit.erase(node)
                pending = True
