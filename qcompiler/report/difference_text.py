"""The difference of two plans as lines for a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from qcompiler.report.columns import Line, plural, shortened, size, table
from qcompiler.report.difference import Difference

NAME, KIND = 30, 30


def difference_lines(found: Difference, shown: int) -> list[Line]:
    """Figures, nodes and tensors; at most `shown` of each list."""
    lines = [Line(f"{found.a.name} -> {found.b.name}", "title")]
    if found.figures:
        rows = [["", "A", "B", ""], *(_figure(name, *both) for name, both in found.figures.items())]
        lines += map(Line, table(rows, right=(1, 2), indent=2))
    if found.same:
        return [*lines, Line("the plans are the same: no node and no tensor differs", "good")]
    if found.nodes:
        moves = ", ".join(f"{count} {move}" for move, count in found.moves().items())
        lines.append(Line(f"nodes that differ: {len(found.nodes)} ({moves})"))
        rows = [[shortened(c.name, NAME), c.op, f"{c.a} -> {c.b}"] for c in found.nodes]
        lines += _listed(rows, shown)
    if found.tensors:
        lines.append(Line(f"{plural(len(found.tensors), 'tensor')} stored otherwise:"))
        lines += _listed([[shortened(c.site, NAME), f"{c.a} -> {c.b}"] for c in found.tensors], shown)
    if found.numbers:
        lines.append(Line(f"{plural(len(found.numbers), 'tensor')} of the same type with other numbers:"))
        most = sorted(found.numbers, key=lambda c: -abs((c.ratio or 1.0) - 1.0))
        rows = [[shortened(c.site, NAME), shortened(c.a, KIND), f"scale x {c.ratio:.4g}"] for c in most]
        lines += _listed(rows, shown)
    return lines


def _listed(rows: list[list[str]], shown: int) -> Iterator[Line]:
    yield from map(Line, table(rows[:shown], indent=2))
    if len(rows) > shown:
        yield Line(f"  and {len(rows) - shown} more (--top, --json)", "faint")


def _figure(name: str, a: Any, b: Any) -> list[str]:
    differs = "" if a == b else "*"
    return [name, _said(name, a), _said(name, b), differs]


def _said(name: str, value: Any) -> str:
    if value is None:
        return "-"
    if name.startswith("size"):
        return size(int(value))
    return f"{value:.4g}" if isinstance(value, float) else shortened(str(value), 26)
