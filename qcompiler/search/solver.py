"""Which option each group of nodes gets: an integer program, solved exactly.

    minimise   sum_g cost[g, o(g)]  +  sum_v cost[v] * (some reader of v wants another form than its producer gives)
    so that    sum_g damage[g, o(g)] <= budget
               o(a) is float  =>  o(b) is float,   for pairs (a, b) that the target wants so

with one binary variable x[g, o] for each group and option (sum_o x[g, o] = 1), and for each value a variable
c[v] >= sum_o x[p, o] - sum_o x[r, o] for its producer p, every reader r and every form, o running over the options
that have their values in that form: a value is converted once, whatever the number of its readers. Options that leave
values float (few bits for weights alone) convert none. Costs are seconds, bytes or bits; damages add up (noise powers
do, where errors are small and unrelated). Without a budget and with two options this is a minimum cut.

Solved by HiGHS through `scipy.optimize.milp`. Equal costs are broken in favour of the earlier option of each group; of
choices that cost the same with the same groups in float it is then one of the least harmful (`_gentlest`).
Source: the integer program of HAWQ-V3 (Yao et al., ICML 2021, section 3.3), with conversions as costs of their own.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from qcompiler.errors import InternalError

FLOAT = "float"
# Share of the largest cost by which a later option is made dearer, so that ties are decided.
_TIE = 1e-9
# How much dearer, as a share of the largest cost, a gentler choice may be: what the solver cannot tell apart.
_SLACK = 1e-7

Array = npt.NDArray[Any]
Row = tuple[dict[int, float], float, float]
"""Factors by variable, and the bounds of the sum."""


@dataclass(frozen=True)
class Value:
    """A value that is stored in the form of its producer, or in that of its readers.

    Attributes:
        producer: group that computes it; one that is not among the choices (an input, "", say) is float.
        readers: groups that read it as data.
        elements: how many numbers it holds.
    """

    producer: str
    readers: tuple[str, ...]
    elements: int


@dataclass(frozen=True)
class Option:
    """What one choice for one group costs, and what harm it does, any units; in what form its values are.

    An empty form is one of its own, named as the option is.
    """

    cost: float
    damage: float = 0.0
    form: str = ""


def solve(
    choices: Mapping[str, Mapping[str, Option]],
    values: Iterable[Value] = (),
    pairs: Iterable[tuple[str, str]] = (),
    *,
    per_element: float = 0.0,
    budget: float = np.inf,
) -> dict[str, str] | None:
    """The cheapest option of each group under the budget.

    Args:
        choices: by group, then by option; where "float" is one, it does no harm.
        values: what passes between the groups and the rest of the graph.
        pairs: (a, b): if a is float, b must be float too; groups that have no choice are passed over.
        per_element: cost of converting one number of a value.
        budget: largest sum of damages.

    Returns:
        The option of each group; None where no choice keeps the budget.
    """
    variables = {(group, option): i for i, (group, option) in enumerate(_keys(choices))}
    if not variables:
        return {}
    crossings = [v for v in values if _matters(v, choices)]
    count = len(variables) + len(crossings)
    costs = np.array([choices[g][o].cost for g, o in variables] + [v.elements * per_element for v in crossings])
    scale = max(float(np.abs(costs).max()), np.finfo(np.float64).tiny)
    costs, ties = costs / scale, np.zeros(count)
    ties[: len(variables)] = [_TIE * list(choices[g]).index(o) for g, o in variables]

    rows: list[Row] = []
    for group, options in choices.items():
        rows.append(({variables[group, option]: 1.0 for option in options}, 1.0, 1.0))
    if np.isfinite(budget):
        harm = {i: choices[g][o].damage for (g, o), i in variables.items()}
        most = max(max(harm.values(), default=0.0), abs(budget), np.finfo(np.float64).tiny)
        rows.append(({i: damage / most for i, damage in harm.items()}, -np.inf, budget / most))
    for number, value in enumerate(crossings, len(variables)):
        for reader in value.readers:
            sides = (forms(choices, value.producer), -1.0), (forms(choices, reader), 1.0)
            for form in dict.fromkeys([*sides[0][0], *sides[1][0], FLOAT]):
                row, constant = {number: 1.0}, 0.0
                for group, (known, sign) in zip((value.producer, reader), sides, strict=True):
                    for option in known.get(form, ()):
                        row[variables[group, option]] = row.get(variables[group, option], 0.0) + sign
                    if group not in choices and form == FLOAT:
                        constant -= sign
                rows.append((row, constant, np.inf))
    for first, second in pairs:
        if (second, FLOAT) in variables:
            fixed = first not in choices  # it is float
            row = {variables[second, FLOAT]: 1.0}
            if not fixed and (first, FLOAT) in variables:
                row[variables[first, FLOAT]] = row.get(variables[first, FLOAT], 0.0) - 1.0
            rows.append((row, 1.0 if fixed else 0.0, np.inf))

    integral = np.array([1] * len(variables) + [0] * len(crossings))
    solved = _least(costs + ties, rows, integral)
    if solved is None:
        return None
    damages = np.array([choices[g][o].damage for g, o in variables] + [0.0] * len(crossings))
    settled = {i: float(round(solved[i])) for (_, option), i in variables.items() if option == FLOAT}
    floats: list[Row] = [({i: 1.0}, value, value) for i, value in settled.items()]
    solved = _gentlest(solved, costs, ties, damages, [*rows, *floats], integral)
    return {group: option for (group, option), i in variables.items() if solved[i] > 0.5}


def _gentlest(found: Array, costs: Array, ties: Array, harm: Array, rows: Sequence[Row], integral: Array) -> Array:
    """A solution as cheap as `found`, to within the solver's tolerance, of the least damage."""
    most = float(harm.max(initial=0.0))
    if not most:
        return found
    bound: Row = dict(enumerate(map(float, costs))), -np.inf, float(costs @ found) + _SLACK
    gentle = _least(harm / most + ties, [*rows, bound], integral)
    return found if gentle is None or harm @ gentle >= harm @ found else gentle


def _least(costs: Array, rows: Sequence[Row], integral: Array) -> Array | None:
    """The cheapest solution of an integer program over 0 and 1; None where there is none."""
    from scipy.optimize import Bounds, LinearConstraint, milp
    from scipy.sparse import coo_array

    entries = [(i, j, factor) for i, (row, _, _) in enumerate(rows) for j, factor in row.items()]
    where, which, factors = zip(*entries, strict=True)
    matrix = coo_array((factors, (where, which)), shape=(len(rows), len(costs))).tocsr()
    low, high = [row[1] for row in rows], [row[2] for row in rows]
    with _silenced():
        result = milp(
            costs, constraints=LinearConstraint(matrix, low, high), integrality=integral, bounds=Bounds(0, 1),
            options={"mip_rel_gap": 0.0},
        )  # fmt: skip
    if result.status == 2:
        return None
    if result.x is None:
        raise InternalError(f"the solver gave up: {result.message}")
    return np.asarray(result.x)


@contextmanager
def _silenced() -> Iterator[None]:
    """Nothing reaches the standard output: HiGHS prints lines for its own debugging there, whatever `disp` says."""
    libc = ctypes.CDLL(None) if os.name == "posix" else ctypes.cdll.msvcrt
    try:
        kept = os.dup(1)
    except OSError:  # there is no standard output
        yield
        return
    sys.stdout.flush()
    libc.fflush(None)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 1)
        yield
    finally:
        libc.fflush(None)
        os.dup2(kept, 1)
        os.close(kept)
        os.close(nowhere)


def forms(choices: Mapping[str, Mapping[str, Option]], group: str) -> dict[str, list[str]]:
    """The options of a group by the form that its values have in them."""
    found: dict[str, list[str]] = {}
    for option, what in choices.get(group, {}).items():
        found.setdefault(what.form or option, []).append(option)
    return found


def predicted(
    choices: Mapping[str, Mapping[str, Option]],
    chosen: Mapping[str, str],
    values: Sequence[Value] = (),
    per_element: float = 0.0,
) -> Option:
    """Cost, conversions included, and damage of a choice."""
    picked = [choices[group][option] for group, option in chosen.items()]
    form = {group: choices[group][option].form or option for group, option in chosen.items()}
    crossing = 0
    for value in values:
        here = form.get(value.producer, FLOAT)
        crossing += value.elements * any(form.get(reader, FLOAT) != here for reader in value.readers)
    return Option(sum(o.cost for o in picked) + per_element * crossing, sum(o.damage for o in picked))


def _keys(choices: Mapping[str, Mapping[str, Option]]) -> list[tuple[str, str]]:
    return [(group, option) for group, options in choices.items() for option in options]


def _matters(value: Value, choices: Mapping[str, object]) -> bool:
    """Whether a value can be on a border at all."""
    others = [reader for reader in value.readers if reader != value.producer]
    return bool(others) and (value.producer in choices or any(reader in choices for reader in others))
