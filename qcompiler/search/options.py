"""What each group of a model may be in: one precision or float, or any of those that the target takes side by side.

For several the model is quantized as a whole in each of them. Parts of the prepared graph that are one group in any of
them are one group in all, so that a group has one name, and for each precision costs and harm.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from qcompiler import ir
from qcompiler.quant import NodePlan, Precision, QuantPlan, Site
from qcompiler.search.attempts import Attempts
from qcompiler.search.candidates import Candidate, Drafter
from qcompiler.search.costs import Costs
from qcompiler.search.explore import Dial, Proposal
from qcompiler.search.groups import aligned
from qcompiler.search.solver import FLOAT
from qcompiler.targets import Roofline, TargetSpec

MIXED = "mixed"
HALF = 16
Together = Mapping[str, Sequence[str]]


def bases_of(attempts: Attempts, base: Candidate, wished: Sequence[Precision]) -> dict[Precision, Candidate]:
    """The model quantized in every precision that its groups may have: in that of `base` alone, or in several."""
    drafter, spec = attempts.drafter, attempts.drafter.backend.spec
    whole = drafted_in(base, wished, spec)
    found: dict[Precision, Candidate] = {} if whole == MIXED else {base.precision: base}
    for precision in spec.beside if whole == MIXED else spec.relief.get(base.precision, ()):
        if precision == base.precision and spec.schemes.get(precision) == spec.beside[precision]:
            found[precision] = base
            continue
        using = drafter_in(drafter, precision)
        draft = using.draft(whole)
        if draft.quantizes:
            found[precision] = attempts.plain(using, draft)
    return found if len(found) > 1 else {base.precision: base}


def drafter_in(drafter: Drafter, option: Precision) -> Drafter:
    """The drafter with every node in one of several precisions, but for those that it puts elsewhere."""
    put = NodePlan(option, "placement", "")
    return replace(drafter, placed={**{node.name: put for node in drafter.prepared.nodes}, **drafter.placed})


def narrower(attempts: Attempts, precision: Precision) -> bool:
    """Whether its relief stores any value in fewer bits than a precision itself does."""

    def bits(option: Precision) -> dict[Site, int]:
        plan = drafter_in(attempts.drafter, option).draft(precision).plan
        return {site: decision.choice.qtype.bits for site, decision in plan.quantized() if decision.choice}

    own = bits(precision)
    others = map(bits, attempts.drafter.backend.spec.relief.get(precision, ()))
    return any(less < own.get(site, less) for other in others for site, less in other.items())


def drafted_in(base: Candidate, wished: Sequence[Precision], spec: TargetSpec) -> Precision:
    """The precision of the target whose nodes may be assigned others: `mixed`, or that of `base`, which has relief."""
    return MIXED if MIXED in wished and base.precision in (MIXED, *spec.beside) else base.precision


def tables_of(
    bases: Mapping[Precision, Candidate], price: Callable[[Candidate, Together | None], Costs]
) -> dict[Precision, Costs]:
    """What the groups cost in each precision; groups of several that overlap are one in all of them."""
    tables = {precision: price(base, None) for precision, base in bases.items()}
    if len(tables) == 1:
        return tables
    together = aligned(costs.movable for costs in tables.values())
    return {precision: price(base, together) for precision, base in bases.items()}


def own_choice(dial: Dial, candidate: Candidate, bases: Mapping[Precision, Candidate]) -> Proposal:
    """What a candidate gives each group, as if it had been proposed."""
    options, chosen = dial.choices(), dict[str, str]()
    for name, forms in dial.groups.items():
        fitting = (p for p, group in forms.items() if alike(candidate.plan, bases[p].plan, group.planned))
        chosen[name] = next((p for p in fitting if p in options[name]), next(reversed(options[name])))
    return dial.proposal(chosen, math.inf)


def alike(plan: QuantPlan, other: QuantPlan, nodes: Sequence[str]) -> bool:
    """Whether two plans compute some nodes in the same precision."""
    return all(name in plan.nodes and plan.nodes[name].precision == other.nodes[name].precision for name in nodes)


def presumed(base: Candidate) -> Roofline:
    """A target of which nothing is known: an operator takes the time of the bits of its operands, mean of both."""
    sites, bits, kept = base.plan.sites, dict[tuple[Precision, bool], int](), 0
    for node in base.planned.nodes:
        name = base.plan.nodes[node.name].precision if node.name in base.plan.nodes else FLOAT
        for port, tensor in enumerate(node.inputs):
            found = sites.get(Site(tensor.name, node.name, port)) or sites.get(Site(tensor.name))
            if name == FLOAT or found is None or found.choice is None or found.derived is not None:
                continue
            constant, width = isinstance(tensor, ir.Constant), found.choice.qtype.bits
            bits[name, constant] = max(bits.get((name, constant), 0), width)
            kept = max(kept, width if not constant and not found.choice.dynamic else 0)
    names = sorted({name for name, _ in bits})
    rates = {n: 2 * HALF / (bits.get((n, False), HALF) + bits.get((n, True), HALF)) * 1e12 for n in names}
    said = "operators counted as fast as their operands have few bits"
    return Roofline({**rates, FLOAT: 1e12}, 1e11, {**dict.fromkeys(names, kept or HALF), FLOAT: HALF}, said)
