"""Plain text in columns: no colour, no terminal, at most 80 characters a line, so that it reads the same everywhere."""

from __future__ import annotations

import textwrap
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

WIDTH = 80
NO_BREAK = "\u00a0"

Style = Literal["", "title", "good", "bad", "faint"]


@dataclass(frozen=True, slots=True)
class Line:
    """One line for the terminal; a terminal with colours may show the style, nothing depends on it."""

    text: str
    style: Style = ""


def blocks(
    rows: Sequence[Sequence[str]], *, right: Collection[int] = (), indent: int = 0, gap: int = 2
) -> list[list[str]]:
    """The lines of each row, columns aligned over all rows; the last column of a row wraps at `WIDTH`.

    Args:
        rows: cells; rows may differ in length.
        right: columns that align to the right.
        indent: spaces before each line.
        gap: spaces between columns.
    """
    columns = max((len(row) for row in rows), default=0)
    # the last cell of a row is free to be as long as it likes, so it sets no width
    widths = [max((len(row[c]) for row in rows if len(row) > c + 1), default=0) for c in range(columns)]
    found: list[list[str]] = []
    for row in rows:
        cells = [
            cell.rjust(widths[c]) if c in right else cell if c == len(row) - 1 else cell.ljust(widths[c])
            for c, cell in enumerate(row)
        ]
        head = " " * indent + "".join(cell + " " * gap for cell in cells[:-1])
        found.append(wrapped(head, cells[-1] if cells else ""))
    return found


def table(rows: Sequence[Sequence[str]], *, right: Collection[int] = (), indent: int = 0, gap: int = 2) -> list[str]:
    """`blocks`, one list of lines."""
    return [line for block in blocks(rows, right=right, indent=indent, gap=gap) for line in block]


def wrapped(head: str, text: str) -> list[str]:
    """`head` and `text`; what does not fit goes on below the start of `text`, all of it where `head` is long.

    `NO_BREAK` becomes a space that holds.
    """
    if len(head) > WIDTH // 2 and len(head) + len(text) > WIDTH:
        return [head.rstrip(), *wrapped("  ", text)]
    room = max(20, WIDTH - len(head))
    parts = textwrap.wrap(text, room, break_on_hyphens=False, drop_whitespace=True) if len(text) > room else [text]
    lines = (f"{head if i == 0 else ' ' * len(head)}{part}" for i, part in enumerate(parts))
    return [line.replace(NO_BREAK, " ").rstrip() for line in lines]


def shortened(text: str, room: int) -> str:
    """The text, its middle left out where it is longer than `room` (names differ at the ends)."""
    if len(text) <= room:
        return text
    tail = (room - 3) // 2
    return f"{text[: room - 3 - tail]}...{text[len(text) - tail :]}"


def size(count: int) -> str:
    """Bytes for a person: "310.7 kB", 1 kB = 1000 bytes."""
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 999.95 or unit == "GB":
            break
        value /= 1000
    return f"{count} B" if unit == "B" else f"{value:.1f} {unit}"


def counted(number: float) -> str:
    """A count for a person: "70.9 k", "1.2 M"."""
    for unit, scale in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= 0.9995 * scale:
            return f"{number / scale:.3g} {unit}"
    return f"{number:g}"


def milliseconds(value: float) -> str:
    """Three significant digits: "0.812 ms", "12.3 ms"."""
    return f"{value:#.3g}".rstrip(".") + " ms" if value < 999.5 else f"{value:.0f} ms"


def plural(count: int, word: str) -> str:
    """ "1 node", "2 nodes"."""
    return f"{count} {word}" if count == 1 else f"{count} {word}s"
