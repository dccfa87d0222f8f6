"""The table of lowerings: ONNX operator -> function that makes its MIL operations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from qcompiler.backends.coreml.lower.scope import Scope

Lowering = Callable[[Scope], "Any | Sequence[Any]"]


@dataclass(frozen=True)
class Row:
    """One operator of the table.

    Attributes:
        op, domain: in ONNX.
        to: the MIL operations, for people.
        lower: makes them; gives one value for each output.
        limits: what is refused; empty for nothing.
    """

    op: str
    domain: str
    to: str
    lower: Lowering
    limits: str = ""


TABLE: dict[tuple[str, str], Row] = {}


def lowers(*ops: str, to: str, domain: str = "", limits: str = "") -> Callable[[Lowering], Lowering]:
    """Enters a function into the table for some operators."""

    def enter(function: Lowering) -> Lowering:
        for op in ops:
            TABLE[domain, op] = Row(op, domain, to, function, limits)
        return function

    return enter
