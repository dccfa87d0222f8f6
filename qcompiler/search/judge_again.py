"""What a backend made of the candidate to ship is judged again: it ships all the same, and what it loses is said."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from qcompiler import ir
from qcompiler.quant import QuantPlan
from qcompiler.search.candidates import Candidate
from qcompiler.search.choose import HARMED
from qcompiler.search.judge import Verdicts
from qcompiler.search.promise import verdict


def rewritten(candidate: Candidate, instead: tuple[ir.Model, ir.Model, QuantPlan]) -> Candidate:
    """A candidate with the planned graph, the model and the plan that a backend put in its place."""
    planned, model, plan = instead
    return replace(candidate, planned=planned, model=model, plan=plan, simulated=None)


def judged_again(
    verdicts: Verdicts, candidates: Sequence[Candidate], judging: Callable[[Sequence[Candidate]], Verdicts]
) -> Verdicts:
    """The verdicts with new figures of the shipped candidate.

    Args:
        verdicts: of the candidates before the backend rewrote the one that was chosen.
        candidates: as they are now.
        judging: judges candidates; the last two are float.
    """
    index = verdicts.choice.index
    again = judging([candidates[index], *candidates[-2:]])
    outcomes, reasons = list(verdicts.outcomes), list(verdicts.choice.reasons)
    outcomes[index] = again.outcomes[0]
    said = again.choice.reasons[0]
    if said.startswith(HARMED):
        reasons[index] = f"shipped, as the backend rewrote it after the choice: {said}"
    broken = set(verdicts.choice.broken) | ({index} if said.startswith("broken") else set())
    choice = replace(
        verdicts.choice,
        reasons=tuple(reasons),
        broken=tuple(sorted(broken)),
        verdict=verdict(again.outcomes[0].judged, verdicts.promise),
    )
    return replace(verdicts, outcomes=tuple(outcomes), choice=choice)
