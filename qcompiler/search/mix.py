"""Mixed precision where a candidate that would be faster loses too much: which of its groups go back to float.

Runs after the candidates of the table were judged. The fastest of those that were broken or set aside is taken apart:
the harm of each group (`sensitivity`), its times in both precisions (`costs`), and proposals between all float and all
quantized (`explore`), each made and evaluated like any other candidate. What was learnt is kept as evidence, for the
report and for `qcompile explain`.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy.typing as npt

from qcompiler.analysis import SessionConfig
from qcompiler.search.attempts import Attempts
from qcompiler.search.candidates import Candidate
from qcompiler.search.contest import Contract, contest
from qcompiler.search.costs import Costs, from_file, modelled, sized
from qcompiler.search.evaluations import Evaluations
from qcompiler.search.explore import Dial, Proposal, explore, reasons
from qcompiler.search.judge import Verdicts, judged_of
from qcompiler.search.promise import Promise, breakage, set_aside
from qcompiler.search.ranking import Ranked, ranked
from qcompiler.search.remembered import remembered
from qcompiler.search.served import Served
from qcompiler.search.solver import FLOAT
from qcompiler.targets import Roofline

ROUNDS: Mapping[str, int] = {"fast": 0, "balanced": 8, "best": 24}
"""Candidates that are evaluated at most, by preset."""
SAMPLES = 64
FINALISTS = 3
FASTER = 1.02
"""A candidate is worth taking apart if it is so much faster than what would be shipped."""


@dataclass(frozen=True, eq=False)
class Step:
    """One proposal and what became of it.

    Attributes:
        proposal: by the solver.
        kept: whether the candidate keeps the contract; None where none could be made.
        drop: loss of the metric, in its unit; None where it was not measured.
    """

    proposal: Proposal
    kept: bool | None
    drop: float | None


@dataclass(frozen=True, eq=False)
class Evidence:
    """What a search learnt.

    Attributes:
        base: precision of the candidate that was taken apart.
        why: what spoke against it.
        groups: its groups, most harmful first.
        steps: the proposals in the order of their evaluation.
        times: where the times come from.
        samples: that the harm was measured on.
    """

    base: str
    why: str
    groups: tuple[Ranked, ...]
    steps: tuple[Step, ...]
    times: str
    samples: int


@dataclass(eq=False)
class Mixer:
    """See the module.

    Attributes:
        attempts: makes candidates.
        evaluations: on the samples that decide.
        contract, floor: as for `judge`.
        config: session settings.
        rounds: evaluations at most.
        feed: an input of the shapes that times are modelled for, where the attempts profile nothing.
        latency: file of times from a device.
        smallest: the size of the weights is to be least, not the time.
        every: hand on every candidate that was evaluated, not the best alone.
    """

    attempts: Attempts
    evaluations: Evaluations
    contract: Contract
    floor: float
    config: SessionConfig
    rounds: int
    feed: Mapping[str, npt.NDArray[Any]]
    latency: Path | None = None
    smallest: bool = False
    every: bool = False
    _steps: list[Step] = field(default_factory=list)

    def mix(self, candidates: Sequence[Candidate], verdicts: Verdicts) -> tuple[list[Candidate], Evidence | None]:
        """Further candidates, and what was learnt; nothing where no candidate is worth it."""
        index = worth(candidates, verdicts)
        if index is None or not self.rounds or self.attempts.means.deadline.passed:
            return [], None
        base, tell = whole(candidates, candidates[index]), self.attempts.tell
        source = self.attempts.source or self.evaluations.source
        costs = self._costs(base)
        found = remembered(
            self.attempts.means.journal, base, costs.movable, list(itertools.islice(source, SAMPLES)), self.config,
            self.attempts.memory, lambda done, total: tell("sensitivity", done, total),
        )  # fmt: skip
        dial, made = Dial(costs, found), list[tuple[Proposal, bool, Candidate]]()

        def keeps(proposal: Proposal) -> bool | None:
            tell("search", len(self._steps), self.rounds)
            candidate = self._candidate(base, dial, proposal)
            if candidate is None:
                self._steps.append(Step(proposal, None, None))
                return None
            kept, drop = self._verdict(candidate, verdicts.promise)
            if kept and all(proposal.microseconds < other.microseconds for other, fine, _ in made if fine):
                self.attempts.means.keep_best(candidate.plan)
            made.append((proposal, kept, candidate))
            self._steps.append(Step(proposal, kept, drop))
            return kept

        deadline = self.attempts.means.deadline
        explore(dial, keeps, rounds=self.rounds, expired=lambda: deadline.passed)
        why = verdicts.choice.reasons[index]
        samples = min(SAMPLES, getattr(source, "count", None) or SAMPLES)
        lines = ranked(found, costs)
        return self._finalists(made), Evidence(base.precision, why, lines, tuple(self._steps), costs.source, samples)

    def _finalists(self, made: Sequence[tuple[Proposal, bool, Candidate]]) -> list[Candidate]:
        """What is worth being timed: of those that keep the contract the cheapest by prediction, cheapest first."""
        if self.every:
            return [candidate for _, _, candidate in made]
        kept = sorted((entry for entry in made if entry[1]), key=lambda entry: entry[0].microseconds)
        return [candidate for _, _, candidate in kept[:FINALISTS]]

    def _costs(self, base: Candidate) -> Costs:
        """Measured, or modelled where nothing is timed: then the same inputs give the same plan anywhere."""
        drafter = self.attempts.drafter
        if self.attempts.feeds:
            found = self.attempts.profiled(base)
        else:
            found = modelled(drafter.prepared, base, self.feed, drafter.backend.spec.roofline or twice_as_fast(base))
        found = found if self.latency is None else from_file(found, self.latency)
        return sized(found, base) if self.smallest else found

    def _candidate(self, base: Candidate, dial: Dial, proposal: Proposal) -> Candidate | None:
        """The candidate of a proposal, made anew from the prepared graph; None where nothing is left quantized."""
        drafter = self.attempts.drafter
        placed = reasons(dial, proposal)
        drafter = replace(drafter, placed={**drafter.placed, **placed})
        draft = drafter.draft(base.precision)
        if not draft.quantizes:
            return None
        return replace(self.attempts.numbered(drafter, draft), placed=len(placed))

    def _verdict(self, candidate: Candidate, promise: Promise) -> tuple[bool, float | None]:
        running = {"it": Served.of(candidate.runs, self.config)}
        rounds = self.evaluations.rounds(running, self.attempts.means.deadline, _silent)
        result = contest(rounds, running, self.contract, total=self.evaluations.count)["it"]
        judged = judged_of(candidate.precision, result, None, None, self.attempts.drafter.backend.spec.by_name)
        kept = breakage(judged, promise, self.floor) is None and set_aside(judged, promise) is None
        return kept, judged.drop


def _silent(done: int, total: int | None) -> None:
    """No progress: the search tells its own."""


def worth(candidates: Sequence[Candidate], verdicts: Verdicts) -> int | None:
    """The fastest candidate that is broken or set aside and faster than what would be shipped; None where none is."""
    shipped = verdicts.outcomes[verdicts.choice.index].judged
    bar = FASTER * (shipped.speedup or 1.0) if shipped.precision != "float" else max(1.0, shipped.speedup or 1.0)
    open_ = [
        i
        for i, (candidate, outcome) in enumerate(zip(candidates, verdicts.outcomes, strict=True))
        if candidate.precision != "float"
        and outcome.result is not None
        and verdicts.choice.reasons[i].startswith(("broken", "set aside"))
        and (outcome.judged.speedup is None or outcome.judged.speedup > bar)
    ]
    return max(open_, key=lambda i: (verdicts.outcomes[i].judged.speedup or 0.0, -i), default=None)


def whole(candidates: Sequence[Candidate], chosen: Candidate) -> Candidate:
    """The candidate of the same precision with nothing taken back to float: all its groups are open to choice."""
    return next(c for c in candidates if c.precision == chosen.precision and (not c.placed or c is chosen))


def twice_as_fast(base: Candidate) -> Roofline:
    """A target of which nothing is known: quantized values are half as long and multiplied twice as fast."""
    stored = [site.choice for _, site in base.plan.quantized() if site.choice is not None and site.derived is None]
    least = min((spec.qtype.bits for spec in stored), default=8)
    bits = {**{plan.precision: least for plan in base.plan.nodes.values()}, FLOAT: 16}
    rates = {**dict.fromkeys(bits, 2e12), FLOAT: 1e12}
    return Roofline(rates, 1e11, bits, "quantized operators counted as twice as fast")
