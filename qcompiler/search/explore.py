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

from qcompiler.quant import NodePlan, Precision
from qcompiler.search.costs import Costs, between
from qcompiler.search.groups import Group
from qcompiler.search.sensitivity import Sensitivity
from qcompiler.search.solver import FLOAT, Option, Value, predicted, solve

Chosen = tuple[tuple[str, str], ...]
"""Each group with its option, a precision or `float`."""
_STEP = 4.0


@dataclass(frozen=True)
class Proposal:
    """A plan that the solver proposes.

    Attributes:
        chosen: what every group gets.
        budget: the bound on the sum of damages that it was solved for.
        microseconds: predicted time of the groups, conversions included.
        damage: predicted.
    """

    chosen: Chosen
    budget: float
    microseconds: float
    damage: float

    @property
    def floats(self) -> frozenset[str]:
        """Groups that stay float."""
        return frozenset(name for name, option in self.chosen if option == FLOAT)


@dataclass(frozen=True, eq=False)
class Dial:
    """Proposals by budget, for one candidate, or for several whose groups are the same parts of the model.

    Attributes:
        tables: costs of the groups of each candidate, by what its precision is called; the first is preferred.
        found: sensitivity of each group that may be float, in each of them.
        floats: groups may be left float.
    """

    tables: Mapping[Precision, Costs]
    found: Mapping[Precision, Sequence[Sensitivity]]
    floats: bool = True

    @staticmethod
    def of(costs: Costs, found: Sequence[Sensitivity] = ()) -> Dial:
        """For one candidate."""
        precision = next((group.precision for group in costs.movable), FLOAT)
        return Dial({precision: costs}, {precision: found})

    @property
    def first(self) -> Costs:
        """Of the preferred precision."""
        return next(iter(self.tables.values()))

    @property
    def per_element(self) -> float:
        """Microseconds to convert one number."""
        return self.first.scale * self.first.per_element

    @property
    def groups(self) -> dict[str, dict[Precision, Group]]:
        """The groups that may be float, by name, in each precision that they may have."""
        found: dict[str, dict[Precision, Group]] = {}
        for precision, costs in self.tables.items():
            for group in costs.movable:
                found.setdefault(group.name, {})[precision] = group
        return found

    @property
    def values(self) -> tuple[Value, ...]:
        """What passes between the groups of any precision."""
        owners = {n: name for name, forms in self.groups.items() for group in forms.values() for n in group.prepared}
        return between(self.first.values, owners)

    @property
    def pairs(self) -> tuple[tuple[str, str], ...]:
        """(a, b): if a is float, b must be float too."""
        return tuple(dict.fromkeys(pair for costs in self.tables.values() for pair in costs.pairs))

    def harm(self, name: str) -> dict[Precision, Sensitivity]:
        """What was measured of a group."""
        return {p: one for p, found in self.found.items() for one in found if one.group.name == name}

    def choices(self) -> dict[str, dict[str, Option]]:
        """What the solver chooses from; cost in microseconds."""
        harm = {(p, one.group.name): one.alone.harm for p, found in self.found.items() for one in found}
        finite = [value for value in harm.values() if math.isfinite(value)]
        ruined = 1e6 * max([1.0, *finite])
        choices: dict[str, dict[str, Option]] = {}
        for name, forms in self.groups.items():
            fixed = self.fixed(forms)
            choices[name] = {
                p: Option(
                    self.tables[p].scale * self.tables[p].quantized[name].seconds,
                    min(harm.get((p, name), 0.0), ruined),
                    p if group.passes else FLOAT,
                )
                for p, group in forms.items()
                if fixed in ("", p)
            }
            if self.floats and not fixed:
                choices[name][FLOAT] = Option(self.float_microseconds(name))
        return choices

    def fixed(self, forms: Mapping[Precision, Group]) -> Precision:
        """The precision that the preferred table itself gives a group in place of its own; empty where it does not."""
        first = next(iter(self.tables))
        wished = forms[first].precision if first in forms else first
        return wished if wished != first and wished in forms else ""

    def at(self, budget: float) -> Proposal | None:
        """The fastest plan under a budget; None where there is none."""
        choices = self.choices()
        chosen = solve(choices, self.values, self.pairs, per_element=self.per_element, budget=budget)
        return None if chosen is None else self.proposal(chosen, budget)

    def proposal(self, chosen: Mapping[str, str], budget: float) -> Proposal:
        """A choice for every group with what is predicted of it."""
        result = predicted(self.choices(), chosen, self.values, self.per_element)
        return Proposal(tuple(chosen.items()), budget, result.cost, result.damage)

    def float_microseconds(self, name: str) -> float:
        """Predicted time of a group in float."""
        costs = next(costs for costs in self.tables.values() if name in costs.floating)
        return costs.scale * costs.floating[name].seconds


def explore(
    dial: Dial,
    keeps: Callable[[Proposal], bool | None],
    *,
    rounds: int,
    expired: Callable[[], bool] = lambda: False,
    known: Mapping[Proposal, bool] | None = None,
) -> list[Proposal]:
    """Turns the dial.

    Args:
        dial: proposals by budget.
        keeps: makes and evaluates the candidate of a proposal; whether it keeps the contract, None if there is none.
        rounds: evaluations at most.
        expired: whether the time is up.
        known: what was evaluated before, and whether it keeps the contract: the dial starts from its damage.

    Returns:
        The proposals that were evaluated, in order.
    """
    first = dial.at(math.inf)
    free = any(len(options) > 1 for options in dial.choices().values())
    if first is None or first.damage <= 0 or not free:
        return []
    known = known or {}
    tried: dict[Chosen, bool | None] = {proposal.chosen: kept for proposal, kept in known.items()}
    tried[tuple((name, FLOAT) for name in dial.groups)] = True
    done: list[Proposal] = []
    low = max((proposal.damage for proposal, kept in known.items() if kept), default=0.0)
    high = min((proposal.damage for proposal, kept in known.items() if not kept), default=first.damage)
    high = min(high, first.damage)
    budget = math.sqrt(low * high) if low else high
    while len(done) < rounds and not expired():
        proposal = dial.at(budget)
        if proposal is None:  # a target without float: somewhere above is the least harm that can be done
            low = max(low, budget)
            if high / low < 1 + 1e-3:
                break
            budget = math.sqrt(low * high)
            continue
        if proposal.chosen not in tried:
            tried[proposal.chosen] = keeps(proposal)
            done.append(proposal)
        if tried[proposal.chosen]:
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


def placements(dial: Dial, proposal: Proposal) -> dict[str, NodePlan]:
    """Where a proposal puts each node of the prepared graph, with the reason; the preferred precision needs none."""
    several, groups = len(dial.tables) > 1, dial.groups
    put: dict[str, NodePlan] = {}
    for name, option in proposal.chosen:
        forms = groups[name]
        first = next(iter(forms))
        if option == FLOAT:
            where = NodePlan(FLOAT, "placement", why_float(dial, name, first))
        elif several:
            why = "" if option in (first, dial.fixed(forms)) else why_other(dial, name, first, option)
            where = NodePlan(option, "placement", why)
        else:
            continue
        put.update(dict.fromkeys((node for group in forms.values() for node in group.prepared), where))
    return put


def why_float(dial: Dial, name: str, precision: Precision) -> str:
    """Why a group is float and not in its preferred precision."""
    costs, one = dial.tables[precision], dial.harm(name).get(precision)
    pays, times = costs.quantized[name].seconds < costs.floating[name].seconds, costs.said(name)
    if one is None or not pays:
        return f"does not pay in {precision} ({times})"
    return f"harms the outputs (alone {one.alone.sqnr_db:.1f} dB) more than it saves ({times})"


def why_other(dial: Dial, name: str, first: Precision, option: Precision) -> str:
    """Why a group is in another precision than the preferred one of those that it may have."""
    harm = dial.harm(name)
    said = [f"alone {harm[p].alone.sqnr_db:.1f} dB in {p}" for p in (option, first) if p in harm]
    said += [f"{dial.tables[option].said(name)}; {dial.tables[first].said(name)} with {first}"]
    return f"{option} in place of {first}: {', '.join(said)}"
