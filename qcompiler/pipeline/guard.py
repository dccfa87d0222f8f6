"""Rewrites that must leave the function alone, checked: the pass at fault is found and taken back.

    travel()  ->  before, after of each span          compared once: two runs of the model, if nothing is wrong
    wrong: stop after k passes, compare, halve        log2 of their number runs
    travel(without the pass)                          the same journey, with the pass passed over and the reason said

A journey is deterministic, so that it can be cut short anywhere and made again. No copy of the weights is kept for it:
models share what passes leave as it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from qcompiler import ir
from qcompiler.analysis.same_function import SameFunction
from qcompiler.errors import PassError, QCompilerError
from qcompiler.pipeline.passes import Halted, PassRecord, Pipeline

NOTE = "same-function"


@dataclass(frozen=True, eq=False)
class Span:
    """A part of a journey that must not change the function.

    Attributes:
        before, after: the model at its ends.
        first, last: how many passes had run there.
    """

    before: ir.Model
    after: ir.Model
    first: int
    last: int


class Made(Protocol):
    """What a journey gives."""

    @property
    def pipeline(self) -> Pipeline:
        """The passes of the journey."""

    @property
    def spans(self) -> Sequence[Span]:
        """Its parts to check."""


M = TypeVar("M", bound=Made)
M_co = TypeVar("M_co", bound=Made, covariant=True)


class Journey(Protocol[M_co]):
    """Rewrites of one model."""

    def __call__(self, without: Mapping[str, str], until: int | None = None) -> M_co:
        """The rewritten model.

        Args:
            without, until: as for `Pipeline`.

        Raises:
            Halted: where `until` says so.
        """


def guarded(travel: Journey[M], made: M, same: SameFunction) -> M:
    """The same journey without the passes that changed the function.

    Args:
        travel: makes it again.
        made: as it was made first.
        same: compares models.

    Raises:
        PassError: a pass changes the function, and those after it cannot do without it.
    """
    without = dict(made.pipeline.without)
    while (fault := found(travel, made, same, without)) is not None:
        name, reason = fault
        said = f"it changes what the model computes ({reason}), and passes after it cannot do without it"
        if name in without:
            raise PassError(said, where=name)
        without[name] = reason
        try:
            made = travel(without)
        except QCompilerError as error:
            raise PassError(said, where=name) from error
    if same.note and not any(record.name == NOTE for record in made.pipeline.trace.records):
        made.pipeline.trace.records.append(PassRecord(NOTE, notes=[same.note]))
    return made


def found(travel: Journey[M], made: M, same: SameFunction, without: Mapping[str, str]) -> tuple[str, str] | None:
    """The first pass that changes the function, and how; None where none does."""
    for span in made.spans:
        reason = same.difference(span.before, span.after)
        if reason is None:
            continue
        good, bad = span.first, span.last
        while bad - good > 1:
            middle = (good + bad) // 2
            here = halted(travel, without, middle)
            good, bad = (good, middle) if same.difference(span.before, here) else (middle, bad)
        return made.pipeline.trace.records[bad - 1].name, reason
    return None


def halted(travel: Journey[M], without: Mapping[str, str], until: int) -> ir.Model:
    """The model after so many passes."""
    try:
        travel(without, until)
    except Halted as halt:
        return halt.model
    raise PassError(f"the passes ended before number {until}; they were more the first time", where=NOTE)
