"""Precisions that the user gave nodes by name: `--put PATTERN=PRECISION`, in precision `mixed`.

The first pattern that names a node counts. A node that is named has the rules of its precision and no others, a node
that is not named those of the table. A search may leave a named node in float, and gives it no third precision: in the
tables of the others it has no rule.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

from qcompiler import ir
from qcompiler.errors import UsageError
from qcompiler.quant import Precision
from qcompiler.targets import OpRule

Puts = tuple[tuple[str, Precision], ...]
Tables = Mapping[Precision, tuple[OpRule, ...]]
WHERE = "--put"
WHOLE = frozenset({"mixed", "nvfp4"})
"""Of the whole model only: ONNX Runtime has no FP4, and what a search looks at are parts that it runs."""


def parsed(words: Sequence[str], known: Tables) -> Puts:
    """Patterns with their precisions.

    Raises:
        UsageError: a word is no PATTERN=PRECISION, or the GPU has no such precision for single nodes.
    """
    names = [name for name, rules in known.items() if rules and name not in WHOLE]
    found: list[tuple[str, Precision]] = []
    for word in words:
        pattern, equals, precision = word.rpartition("=")
        if not (equals and pattern):
            raise UsageError(f"{word!r} is not PATTERN=PRECISION", where=WHERE, hint="for instance /layer.0/*=fp8")
        if precision not in names:
            hint = f"known: {', '.join(names)}; --keep-float for float16"
            raise UsageError(f"no node can be put in {precision!r} here", where=WHERE, hint=hint)
        found.append((pattern, precision))
    return tuple(found)


def check_names(puts: Puts, precision: str, model: ir.Model) -> None:
    """Refuses patterns that do nothing.

    Raises:
        UsageError: the precision is not mixed, or a pattern names no node.
    """
    if puts and precision != "mixed":
        raise UsageError("nodes are put in precisions by name in mixed only", where=WHERE, hint="--precision mixed")
    for pattern, _ in puts:
        if not any(fnmatchcase(node.name, pattern) for node in model.nodes):
            raise UsageError(f"{pattern!r} names no node", where=WHERE, hint="names: qcompile inspect MODEL --nodes")


def with_puts(table: tuple[OpRule, ...], puts: Puts, known: Tables) -> tuple[OpRule, ...]:
    """A table where nodes that are named have the rules of their precision alone, or none if it is not in `known`."""
    if not puts:
        return table
    used = dict.fromkeys(precision for _, precision in puts)
    parts = [("", table), *((name, known[name]) for name in used if name in known)]
    return tuple(
        replace(rule, conditions=(Named(puts, name), *rule.conditions)) for name, rules in parts for rule in rules
    )


@dataclass(frozen=True)
class Named:
    """The condition that the user gave a node a precision.

    Attributes:
        puts: all patterns.
        precision: the one in question; empty for nodes that no pattern names.
    """

    puts: Puts
    precision: str

    def __call__(self, node: ir.Node) -> str | None:
        """The reason against it."""
        found = next((precision for pattern, precision in self.puts if fnmatchcase(node.name, pattern)), "")
        if found == self.precision:
            return None
        return f"{node.op} {node.name!r} was put in {found}" if found else f"{node.op} {node.name!r} was put nowhere"
