"""Passes and the pipeline that runs, times, verifies and records them."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from qcompiler import ir
from qcompiler.errors import PassError, QCompilerError, VerifyError
from qcompiler.quant import QuantPlan
from qcompiler.rewrite import Outcome, Refusal, Rule, apply_rule


@dataclass
class PassRecord:
    """What one pass did: how often it changed something, how long it took, what it refused, what a reader should know.

    `seconds` is for people; nothing that is compared byte for byte holds it.
    """

    name: str
    changes: int = 0
    seconds: float = 0.0
    refusals: list[Refusal] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass
class Trace:
    """The records of all passes, in order."""

    records: list[PassRecord] = field(default_factory=list)

    @property
    def notes(self) -> list[str]:
        """Everything that passes had to say, in order."""
        return [note for record in self.records for note in record.notes]


@dataclass(frozen=True)
class GraphPass(ABC):
    """Changes the graph. The fields of a subclass are its options; the graph is valid before and after."""

    name: ClassVar[str]

    @abstractmethod
    def apply(self, model: ir.Model, record: PassRecord) -> None:
        """Edits `model` in place; counts changes, refusals and notes in `record`."""


@dataclass(frozen=True)
class PlanPass(ABC):
    """Makes a new plan from a plan. It may read the graph and must leave it alone."""

    name: ClassVar[str]

    @abstractmethod
    def apply(self, model: ir.Model, plan: QuantPlan, record: PassRecord) -> QuantPlan:
        """The new plan; changes, refusals and notes go in `record`."""


Instrument = Callable[[int, str, ir.Model], None]


class Halted(Exception):
    """Not an error: a pipeline has run as many passes as it was to run.

    Attributes:
        model: as it is then.
    """

    def __init__(self, model: ir.Model) -> None:
        super().__init__()
        self.model = model


@dataclass
class Pipeline:
    """Runs passes one after the other.

    Attributes:
        trace: what was done so far.
        instruments: called after each pass with its number, its name and the model (dumps, progress).
        without: names of passes that are passed over, each with the reason.
        until: how many passes to run; None for all.
    """

    trace: Trace = field(default_factory=Trace)
    instruments: Sequence[Instrument] = ()
    without: Mapping[str, str] = field(default_factory=dict)
    until: int | None = None

    def graph(self, model: ir.Model, passes: Sequence[GraphPass | Rule]) -> int:
        """Applies passes and rules to the model in place, verifying after each.

        Returns:
            The number of changes that were made.

        Raises:
            VerifyError: a pass broke the graph; the message names the pass.
            Halted: the last pass to run has run.
        """
        total = 0
        for step in passes:
            record = PassRecord(step.name)
            start = time.perf_counter()
            if step.name in self.without:
                said = f"taken back: {self.without[step.name]}"
                record.refusals.append(Refusal(step.name, "", said))
                record.notes.append(f"{step.name}: {said}")
            elif isinstance(step, Rule):
                outcome: Outcome = apply_rule(step, model)
                record.changes, record.refusals = outcome.changes, outcome.refusals
            else:
                step.apply(model, record)
                if record.changes:
                    next(ir.editors(model)).drop_unused_constants()
            record.seconds = time.perf_counter() - start
            self._finish(record, model)
            total += record.changes
        return total

    def fixpoint(self, model: ir.Model, passes: Sequence[GraphPass | Rule], rounds: int = 8) -> None:
        """Repeats `passes` until none of them changes anything, or `rounds` times."""
        for _ in range(rounds):
            if not self.graph(model, passes):
                return

    def plan(self, model: ir.Model, plan: QuantPlan, passes: Sequence[PlanPass]) -> QuantPlan:
        """Applies plan passes.

        Raises:
            PassError: a pass changed the graph.
        """
        for step in passes:
            record = PassRecord(step.name)
            before = fingerprint(model)
            start = time.perf_counter()
            plan = step.apply(model, plan, record)
            record.seconds = time.perf_counter() - start
            if fingerprint(model) != before:
                raise PassError("a plan pass must not change the graph", where=step.name)
            self._finish(record, model)
        return plan

    def _finish(self, record: PassRecord, model: ir.Model) -> None:
        self.trace.records.append(record)
        if record.changes:
            try:
                ir.verify(model)
            except QCompilerError as error:
                raise VerifyError(f"after pass {record.name}: {error}") from error
        for instrument in self.instruments:
            instrument(len(self.trace.records), record.name, model)
        if len(self.trace.records) == self.until:
            raise Halted(model)


def some(names: Sequence[str], most: int) -> str:
    """The first names, and how many others there are: for a note."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def fingerprint(model: ir.Model) -> int:
    """A number that changes with the graph's structure; only for comparison within one process."""
    return hash(
        tuple(
            (node.op, node.name, tuple(t.name for t in node.inputs), tuple(t.name for t in node.outputs))
            for node in model.all_nodes()
        )
    )
