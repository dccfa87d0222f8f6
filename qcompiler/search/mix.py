"""Mixed precision where a candidate that would be faster loses too much: which of its groups go back to float.

Runs after the candidates of the table were judged. The fastest of those that were broken or set aside is taken apart:
the harm of each group (`sensitivity`), its times in both precisions (`costs`), and proposals between all float and all
quantized (`explore`), each made and evaluated like any other candidate. Where `mixed` is among the precisions tried and
the target takes several side by side (`TargetSpec.beside`), each group has all of them to choose from, and the model is
quantized in each of them for that. What was learnt is kept as evidence, for the
report and for `qcompile explain`.

Where a contract was asked for and the samples are enough to prove it at all, a candidate must be proven to keep it, and
one that is undecided is taken apart like a broken one. Where they are too few, an estimate within the limit does.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy.typing as npt

from qcompiler.analysis import SessionConfig
from qcompiler.analysis.loss import provable
from qcompiler.quant import Precision
from qcompiler.search.attempts import Attempts
from qcompiler.search.candidates import Candidate
from qcompiler.search.choose import HARMED, INSISTED
from qcompiler.search.contest import Contract, contest
from qcompiler.search.costs import Costs, Unit, modelled
from qcompiler.search.device_times import DeviceTimes, timed
from qcompiler.search.evaluations import Evaluations
from qcompiler.search.explore import Dial, Proposal, explore, placements
from qcompiler.search.judge import Verdicts, judged_of, longest
from qcompiler.search.objectives import Objective
from qcompiler.search.options import MIXED, bases_of, drafted_in, narrower, own_choice, presumed, tables_of
from qcompiler.search.promise import Judged, Promise, breakage, set_aside, verdict
from qcompiler.search.ranking import Ranked, ranked_each
from qcompiler.search.served import Served
from qcompiler.search.sweep import Asking, sweep

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
        options: the precisions that its groups had to choose from, besides float; the first is preferred.
        why: what spoke against it.
        groups: its groups, most harmful first.
        steps: the proposals in the order of their evaluation.
        times: where the times come from.
        samples: that the harm was measured on.
        unit: of the costs: "seconds", or of what stands in the place of times.
    """

    base: str
    options: tuple[str, ...]
    why: str
    groups: tuple[Ranked, ...]
    steps: tuple[Step, ...]
    times: str
    samples: int
    unit: Unit = "seconds"


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
        latency: times from a device.
        objective: what is to be least, if not the time.
        every: hand on every candidate that was evaluated, not the best alone.
        wished: the precisions that the compile tries.
    """

    attempts: Attempts
    evaluations: Evaluations
    contract: Contract
    floor: float
    config: SessionConfig
    rounds: int
    feed: Mapping[str, npt.NDArray[Any]]
    latency: DeviceTimes | None = None
    objective: Objective | None = None
    every: bool = False
    wished: Sequence[Precision] = ()
    _steps: list[Step] = field(default_factory=list)

    def mix(self, candidates: Sequence[Candidate], verdicts: Verdicts) -> tuple[list[Candidate], Evidence | None]:
        """Further candidates, and what was learnt; nothing where no candidate is worth it."""
        tries = sum(candidate.precision != "float" for candidate in candidates) + self.rounds
        strict = replace(self.contract, tries=tries)
        proof = verdicts.promise.stated and provable_in(verdicts, strict)
        index, asked = worth(candidates, verdicts, proof=proof), None
        if index is None and self._may_gain():
            index = asked = next((i for i, c in enumerate(candidates) if c.precision == self.wished[0]), None)
        if index is None or not self.rounds or self.attempts.means.deadline.passed:
            return [], None
        base, tell = whole(candidates, candidates[index]), self.attempts.tell
        bases = bases_of(self.attempts, base, self.wished)
        tables = tables_of(bases, self._costs)
        blank = Dial(tables, {}, self.attempts.drafter.backend.spec.float_beside)
        own, best = own_choice(blank, base, bases), blank.at(math.inf)
        if asked is not None and (best is None or own.microseconds <= FASTER * best.microseconds):
            return [], None  # it holds, and leaves nothing to gain by what is predicted
        source = self.attempts.source or self.evaluations.source
        asking = Asking(self.config, self.attempts.memory, self.attempts.drafter.backend.simulate)
        found = sweep(
            self.attempts.means, {p: (bases[p], tables[p].movable) for p in bases},
            list(itertools.islice(source, SAMPLES)), asking, lambda done, total: tell("sensitivity", done, total),
        )  # fmt: skip
        dial, made = replace(blank, found=found), list[tuple[Proposal, bool, Candidate]]()
        own = dial.proposal(dict(own.chosen), math.inf)

        def keeps(proposal: Proposal) -> bool | None:
            tell("search", len(self._steps), self.rounds)
            candidate = self._candidate(base, dial, proposal)
            if candidate is None:
                self._steps.append(Step(proposal, None, None))
                return None
            judged = self._judged(candidate, strict if proof else self.contract)
            kept, drop = keeps_contract(judged, verdicts.promise, self.floor, proof=proof), judged.drop
            if kept and all(proposal.microseconds < other.microseconds for other, fine, _ in made if fine):
                self.attempts.means.keep_best(candidate.plan)
            made.append((proposal, kept, candidate))
            self._steps.append(Step(proposal, kept, drop))
            return kept

        deadline = self.attempts.means.deadline
        explore(
            dial,
            keeps,
            rounds=self.rounds,
            expired=lambda: deadline.passed,
            known={own: asked is not None},
        )
        why = verdicts.choice.reasons[index]
        samples = min(SAMPLES, getattr(source, "count", None) or SAMPLES)
        evidence = Evidence(
            base.precision, tuple(tables), why, ranked_each(found, tables), tuple(self._steps), dial.first.source,
            samples, dial.first.unit,
        )  # fmt: skip
        return self._finalists(made), evidence

    def ordered(
        self, quantized: Sequence[Candidate], more: Sequence[Candidate], floating: Sequence[Candidate]
    ) -> list[Candidate]:
        """All candidates; what was found by name for less cost goes first, as it may not be timed."""
        first = len(self.wished) == 1 and self.wished[0] in (MIXED, *self.attempts.drafter.backend.spec.by_name)
        found = [more, quantized] if first else [quantized, more]
        return [candidate for some in (*found, floating) for candidate in some]

    def _may_gain(self) -> bool:
        """Whether what holds is taken apart, too: a mixture, or what is for size and might do with fewer bits."""
        if len(self.wished) != 1:
            return False
        wish, spec = self.wished[0], self.attempts.drafter.backend.spec
        return wish == MIXED or (
            self.contract.limit.promised and wish in spec.by_name and narrower(self.attempts, wish)
        )

    def _finalists(self, made: Sequence[tuple[Proposal, bool, Candidate]]) -> list[Candidate]:
        """What is worth being timed: of those that keep the contract the cheapest by prediction, cheapest first."""
        kept = sorted((entry for entry in made if entry[1]), key=lambda entry: entry[0].microseconds)
        if self.every:
            return [candidate for _, _, candidate in (*kept, *(entry for entry in made if not entry[1]))]
        return [candidate for _, _, candidate in kept[:FINALISTS]]

    def _costs(self, base: Candidate, together: Mapping[str, Sequence[str]] | None = None) -> Costs:
        """Measured, or modelled where nothing is timed: then the same inputs give the same plan anywhere."""
        drafter = self.attempts.drafter
        if self.attempts.feeds:
            found = self.attempts.profiled(base, together)
        else:
            roofline = drafter.backend.spec.roofline or presumed(base)
            found = modelled(drafter.prepared, base, self.feed, roofline, together)
        found = found if self.latency is None else timed(found, self.latency)
        return found if self.objective is None else self.objective.by_group(found, drafter.prepared, base)

    def _candidate(self, base: Candidate, dial: Dial, proposal: Proposal) -> Candidate | None:
        """The candidate of a proposal, made anew from the prepared graph; None where nothing is left quantized."""
        drafter = self.attempts.drafter
        drafter = replace(drafter, placed={**placements(dial, proposal), **drafter.placed})
        several = len(dial.tables) > 1
        draft = drafter.draft(drafted_in(base, self.wished, drafter.backend.spec) if several else base.precision)
        if not draft.quantizes:
            return None
        return self.attempts.numbered(drafter, draft)

    def _judged(self, candidate: Candidate, contract: Contract) -> Judged:
        running = {"it": Served.of(candidate.runs, self.config)}
        rounds = self.evaluations.rounds(running, self.attempts.means.deadline, _silent)
        result = contest(rounds, running, contract, total=self.evaluations.count)["it"]
        return judged_of(candidate.precision, result, None, None, self.attempts.drafter.backend.spec.by_name)


def _silent(done: int, total: int | None) -> None:
    """No progress: the search tells its own."""


def keeps_contract(judged: Judged, promise: Promise, floor: float, *, proof: bool) -> bool:
    """Whether a candidate may be shipped, and, with `proof`, surely keeps what was promised."""
    if breakage(judged, promise, floor) is not None or set_aside(judged, promise) is not None:
        return False
    return not proof or verdict(judged, promise) in ("holds", "informative")


def provable_in(verdicts: Verdicts, contract: Contract) -> bool:
    """Whether the samples that decide are enough to prove that anything at all keeps the promise."""
    seen = longest(outcome.result for outcome in verdicts.outcomes if outcome.result is not None)
    if seen is None or seen.max_drop is None:
        return False
    return provable(seen.evaluation, seen.max_drop, contract.alpha)


def worth(candidates: Sequence[Candidate], verdicts: Verdicts, *, proof: bool = False) -> int | None:
    """The fastest candidate that is worth being taken apart; None where none is.

    It is broken or set aside or, where proof is wished, not proven to keep the contract, and for size, or faster than
    what would be shipped, or than float where that would be, or where what would be shipped is not proven. One that
    would be shipped only because its precision was asked for by name is the one, but where that is for size, which
    exceptions take back.
    """
    shipped = verdicts.outcomes[verdicts.choice.index].judged
    if verdicts.choice.reasons[verdicts.choice.index] == INSISTED and not shipped.for_size:
        return verdicts.choice.index
    unproven = proof and verdicts.choice.verdict == "undecided"
    bar = max(1.0, shipped.speedup or 1.0)
    if shipped.precision != "float":
        bar = 1.0 if unproven else FASTER * (shipped.speedup or 1.0)

    def fails(index: int) -> bool:
        judged = verdicts.outcomes[index].judged
        harmful = verdicts.choice.reasons[index].startswith(HARMED)
        return harmful or (proof and verdict(judged, verdicts.promise) == "undecided")

    open_ = [
        i
        for i, (candidate, outcome) in enumerate(zip(candidates, verdicts.outcomes, strict=True))
        if candidate.precision != "float"
        and outcome.result is not None
        and fails(i)
        and (outcome.judged.for_size or outcome.judged.speedup is None or outcome.judged.speedup > bar)
    ]
    return max(open_, key=lambda i: (verdicts.outcomes[i].judged.speedup or 0.0, -i), default=None)


def whole(candidates: Sequence[Candidate], chosen: Candidate) -> Candidate:
    """The candidate of the same precision with nothing taken back to float: all its groups are open to choice."""
    return next(c for c in candidates if c.precision == chosen.precision and (not c.placed or c is chosen))
