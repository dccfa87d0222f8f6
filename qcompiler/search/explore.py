"""Looks for the fastest plan that keeps the contract: solve on sensitivities, evaluate for real, correct, again.

    minimise   sum of the groups' times, conversions included        (`costs`, `solver`)
    so that    sum of the groups' damages <= b                       (`sensitivity`)

The sum of damages is no promise: damages add up only roughly, and what the contract is about is a metric. So b is only
a dial. It is turned down until a whole candidate, made and evaluated like any other, keeps the contract, and then up
again between the last budget that kept it and the first that did not (bisection of log b). Every candidate that was
evaluated stays; what ships is decided among all of them by what was measured of each. With wrong sensitivities the dial
turns the wrong groups, and the result is slower, never less accurate than it is said to be.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from qcompiler.search.costs import Costs
from qcompiler.search.sensitivity import Sensitivity
from qcompiler.search.solver import FLOAT, Option, predicted, solve

_STEP = 4.0
_MICRO = 1e6


@dataclass(frozen=True)
class Proposal:
    """A plan that the solver proposes.

    Attributes:
        floats: groups that stay float.
        budget: the bound on the sum of damages that it was solved for.
        microseconds: predicted time of the groups, conversions included.
        damage: predicted.
    """

    floats: frozenset[str]
    budget: float
    microseconds: float
    damage: float


@dataclass(frozen=True, eq=False)
class Dial:
    """Proposals by budget, for one candidate.

    Attributes:
        costs: of its groups.
        found: sensitivity of each group that may be float.
    """

    costs: Costs
    found: Sequence[Sensitivity]

    @property
    def per_element(self) -> float:
        """Microseconds to convert one number."""
        return _MICRO * self.costs.per_element

    def choices(self) -> dict[str, dict[str, Option]]:
        """What the solver chooses from; cost in microseconds."""
        harm = {one.group.name: one.alone.total for one in self.found}
        finite = [value for value in harm.values() if math.isfinite(value)]
        ruined = 1e6 * max([1.0, *finite])
        return {
            group.name: {
                group.precision: Option(
                    _MICRO * self.costs.quantized[group.name].seconds,
                    min(harm.get(group.name, 0.0), ruined),
                ),
                FLOAT: Option(_MICRO * self.costs.floating[group.name].seconds),
            }
            for group in self.costs.movable
        }

    def at(self, budget: float) -> Proposal | None:
        """The fastest plan under a budget; None where there is none."""
        choices = self.choices()
        chosen = solve(choices, self.costs.values, self.costs.pairs, per_element=self.per_element, budget=budget)
        if chosen is None:
            return None
        result = predicted(choices, chosen, self.costs.values, self.per_element)
        floats = frozenset(name for name, option in chosen.items() if option == FLOAT)
        return Proposal(floats, budget, result.cost, result.damage)

    def float_microseconds(self) -> float:
        """Predicted time of the groups with all of them float."""
        return sum(_MICRO * self.costs.floating[group.name].seconds for group in self.costs.movable)


def explore(
    dial: Dial,
    keeps: Callable[[Proposal], bool | None],
    *,
    rounds: int,
    expired: Callable[[], bool] = lambda: False,
) -> list[Proposal]:
    """Turns the dial.

    Args:
        dial: proposals by budget.
        keeps: makes and evaluates the candidate of a proposal; whether it keeps the contract, None if there is none.
        rounds: evaluations at most.
        expired: whether the time is up.

    Returns:
        The proposals that were evaluated, in order.
    """
    first = dial.at(math.inf)
    if first is None or first.damage <= 0:
        return []
    nothing = frozenset(group.name for group in dial.costs.movable)
    tried: dict[frozenset[str], bool | None] = {nothing: True}
    done: list[Proposal] = []
    low, high = 0.0, first.damage
    budget = high
    while len(done) < rounds and not expired():
        proposal = dial.at(budget)
        if proposal is None:
            break
        if proposal.floats not in tried:
            tried[proposal.floats] = keeps(proposal)
            done.append(proposal)
        if tried[proposal.floats]:
            low = max(low, budget)
        else:
            high = min(high, proposal.damage if 0 < proposal.damage < budget else budget)
        if low and high / low < 1 + 1e-3:
            break
        if low >= high:
            break
        budget = math.sqrt(low * high) if low else high / _STEP
        if budget <= 0 or budget < first.damage * 1e-9:
            break
    return done


def reasons(dial: Dial, proposal: Proposal) -> Mapping[str, str]:
    """Why each node of the prepared graph that a proposal leaves float is so."""
    harm = {one.group.name: one for one in dial.found}
    said: dict[str, str] = {}
    for group in dial.costs.movable:
        if group.name not in proposal.floats:
            continue
        pays = dial.costs.quantized[group.name].seconds < dial.costs.floating[group.name].seconds
        one, times = harm.get(group.name), dial.costs.said(group.name)
        if one is None or not pays:
            why = f"does not pay in {group.precision} ({times})"
        else:
            why = f"harms the outputs (alone {one.alone.sqnr_db:.1f} dB) more than it saves ({times})"
        said.update(dict.fromkeys(group.prepared, why))
    return said
