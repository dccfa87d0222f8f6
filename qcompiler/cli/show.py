"""Printing: results to stdout, everything else to stderr."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from qcompiler.report.columns import Line

_STYLES: dict[str, dict[str, Any]] = {
    "title": {"bold": True}, "good": {"fg": "green"}, "bad": {"fg": "red"}, "faint": {"dim": True},
}  # fmt: skip


def show(lines: Iterable[Line]) -> None:
    """Lines to stdout, with colour where it is a terminal and NO_COLOR is not set."""
    for line in lines:
        plain = not line.style or "NO_COLOR" in os.environ
        click.echo(line.text if plain else click.style(line.text, **_STYLES[line.style]))


def show_json(value: object) -> None:
    """A value as JSON to stdout; infinite and undefined numbers become null."""
    import json

    click.echo(json.dumps(finite(value), indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False))


def finite(value: Any) -> Any:
    """The value with None in place of numbers that JSON does not have."""
    if isinstance(value, dict):
        return {str(key): finite(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [finite(entry) for entry in value]
    if isinstance(value, float) and not abs(value) < float("inf"):
        return None
    return value


def fail(status: int, text: str, *, word: str = "error: ") -> int:
    """One line on stderr."""
    click.echo(f"qcompile: {word}{' '.join(text.split())}", file=sys.stderr)
    return status
