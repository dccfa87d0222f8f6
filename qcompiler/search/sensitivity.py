"""How much harm each group does to the model's outputs: run with that group alone quantized, or with it alone float.

    alone     float everywhere but in the group:  damage = noise / signal, summed over the outputs
    without   quantized everywhere but in the group: what is left of the damage of the whole

Only what depends on the group is run: the values on the border of that part are computed once for each sample and
kept, as many samples at a time as the memory allows. So N groups cost N parts of a run, not N runs, and memory does
not grow with the samples. Groups of several candidates of one graph (one for each precision, say) share those values,
too. Noise powers of different groups add up where errors are small and unrelated; `alone` is what
the solver adds, and whole candidates are evaluated afterwards, since the sum may misjudge.

Sources: Wu et al., "Integer Quantization for Deep Learning Inference" (2020), section 6.1 (one layer at a time); Pandey
et al., "A Practical Mixed Precision Algorithm for Post-Training Quantization" (2023)
for SQNR at the outputs as the measure of harm.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from qcompiler import ir
from qcompiler.analysis import Payload, Runner, SessionConfig
from qcompiler.analysis.observe import observed
from qcompiler.analysis.tap import no_samples
from qcompiler.data import Sample
from qcompiler.errors import PassError
from qcompiler.passes.lower.materialise import Materialise
from qcompiler.passes.plan.encode_blocks import block_values, blocked
from qcompiler.passes.plan.restrict import restricted
from qcompiler.passes.prepare.eliminate_dead import EliminateDead
from qcompiler.pipeline import Pipeline
from qcompiler.quant import QuantPlan, Site
from qcompiler.search.candidates import Candidate
from qcompiler.search.damage import Asked, Damage, Kept, Tally
from qcompiler.search.groups import Group

Progress = Callable[[int, int], None]
Simulate = Callable[[ir.Model], ir.Model]


@dataclass(frozen=True, eq=False)
class Sensitivity:
    """What was measured of one group.

    Attributes:
        group: the group.
        alone: damage with it alone quantized.
        without: damage with all others quantized; None where it was not asked for.
        local_db: SQNR of what the group hands on, inputs float: its own error, before the rest of the model.
        metric_loss: loss of the metric with it alone quantized; None where it was not asked for.
    """

    group: Group
    alone: Damage
    without: Damage | None = None
    local_db: float = math.inf
    metric_loss: float | None = None


@dataclass(frozen=True, eq=False)
class _Part:
    """The part of the model that depends on a group, ready to run, and what it must be fed."""

    model: ir.Model
    inputs: tuple[str, ...]
    own: frozenset[str]


@dataclass(frozen=True, eq=False)
class Case:
    """A group of one candidate: what there is to measure."""

    candidate: Candidate
    group: Group


def sensitivities(
    candidate: Candidate, groups: Sequence[Group], source: Iterable[Sample], **options: Any
) -> tuple[Sensitivity, ...]:
    """Measures the groups of one candidate, in order; options as for `swept`."""
    return swept([Case(candidate, group) for group in groups], source, **options)


def swept(
    cases: Sequence[Case],
    source: Iterable[Sample],
    *,
    samples: int = 64,
    memory: int = 512 << 20,
    config: SessionConfig | None = None,
    without: bool = False,
    loss: bool = False,
    metric: str | None = None,
    progress: Progress | None = None,
    simulate: Simulate = lambda model: model,
) -> tuple[Sensitivity, ...]:
    """Measures every case, in order.

    Args:
        cases: groups of quantized models with their plans; the graph of each is its reference in float.
        source: samples; the first `samples` of them are used.
        memory: bytes that kept values may take at once, about.
        config: session settings.
        without: measure also what is left if the group alone is float.
        loss: measure also the loss of the metric.
        metric: as in the recipe.
        progress: called after each group with the number done and the number in all.
        simulate: what ONNX Runtime runs in place of a model of the target.

    Raises:
        DataError: there are no samples, or the model cannot run on one.
    """
    config = config or SessionConfig()
    asked, done, total = Asked(metric, loss), 0, len(cases) * (2 if without else 1)
    alone, rest = dict[Case, Tally](), dict[Case, Tally]()
    for quantized in (False, True) if without else (False,):
        for together in _alike(cases, whole=quantized):
            direction = _Direction(together, config, asked, simulate, quantized=quantized)
            direction.run(itertools.islice(iter(source), samples), memory, _shifted(progress, done, total))
            (rest if quantized else alone).update(direction.tallies)
            done += len(together)
    return tuple(
        Sensitivity(
            case.group,
            alone[case].damage(),
            rest[case].damage() if without else None,
            alone[case].local.db,
            0.0 if loss and case.group.moves else alone[case].loss(asked),
        )
        for case in cases
    )


def _alike(cases: Sequence[Case], *, whole: bool) -> list[list[Case]]:
    """Cases whose parts start from the same values: those of one graph, or of one candidate."""
    found: dict[object, list[Case]] = {}
    digests: dict[int, str] = {}
    for case in cases:
        key = id(case.candidate)
        if not whole and key not in digests:
            digests[key] = Payload.of(case.candidate.planned).digest
        found.setdefault(key if whole else digests[key], []).append(case)
    return list(found.values())


def _shifted(progress: Progress | None, before: int, total: int) -> Callable[[int], None]:
    return lambda done: None if progress is None else progress(before + done, total)


@dataclass(eq=False)
class _Direction:
    """Runs the parts of all groups from one kind of prefix: the float graph, or the quantized one."""

    cases: Sequence[Case]
    config: SessionConfig
    asked: Asked
    simulate: Simulate
    quantized: bool
    tallies: dict[Case, Tally] = field(init=False)

    def __post_init__(self) -> None:
        self.tallies = {case: Tally() for case in self.cases}
        self._cutter = ir.Cutter(self.cases[0].candidate.planned)

    def run(self, source: Iterable[Sample], memory: int, progress: Callable[[int], None]) -> None:
        """Fills the tallies."""
        active = [case for case in self.cases if self.quantized or not case.group.moves]
        parts = {case: self._part(case) for case in active}
        needed = dict.fromkeys(name for part in parts.values() for name in (*part.inputs, *sorted(part.own)))
        candidate = self.cases[0].candidate
        prefix = _Prefix(candidate, tuple(needed), self.config, self.asked, quantized=self.quantized)
        for chunk in prefix.chunks(source, memory):
            for number, case in enumerate(active):
                part = parts[case]
                runner = Runner(Payload.of(part.model, apart=True), self.config)
                for kept in chunk:
                    found = runner.run({name: kept.values[name] for name in part.inputs}, sample=kept.sample.name)
                    self.tallies[case].add(found, kept, part.own, self.asked)
                progress(number + 1 + len(self.cases) - len(active))

    def _part(self, case: Case) -> _Part:
        """The part of one group with its plan; the whole graph where it cannot be cut."""
        group, planned, plan = case.group, self.cases[0].candidate.planned, case.candidate.plan
        every = {name for name, node in plan.nodes.items() if node.precision != "float"}
        keep, own = every - set(group.planned), () if self.quantized else group.results
        try:
            part, inputs = self._cutter.downstream(set(group.planned), own)
        except PassError:
            part, inputs = planned.copy(), tuple(tensor.name for tensor in planned.inputs)
        plan = restricted(part, plan, keep if self.quantized else set(group.planned))
        outputs = {tensor.name for tensor in planned.outputs}
        Pipeline().graph(part, [Materialise(settled(part, plan)), EliminateDead()])
        shown = frozenset(tensor.name for tensor in part.outputs) - outputs
        return _Part(self.simulate(part), inputs, shown)


@dataclass(eq=False)
class _Prefix:
    """The whole model, with the values on the borders of parts among its outputs."""

    candidate: Candidate
    names: tuple[str, ...]
    config: SessionConfig
    asked: Asked
    quantized: bool

    def chunks(self, source: Iterable[Sample], memory: int) -> Iterator[list[Kept]]:
        """Values by name and float outputs of some samples at a time, as many as the memory allows."""
        planned = self.candidate.planned
        stored = _stored(self.candidate) if self.quantized else {}
        carriers = {name: stored.get(name, name) for name in self.names}
        model = self.candidate.runs if self.quantized else planned
        seen = observed(model, dict.fromkeys(carriers.values()))
        inputs = {tensor.name for tensor in planned.inputs}
        tapped = {name: seen.outputs[carrier] for name, carrier in carriers.items() if carrier in seen.outputs}
        outputs = [tensor.name for tensor in planned.outputs]
        wanted = list(dict.fromkeys([*outputs, *(carrier for name, carrier in tapped.items() if name not in inputs)]))
        runner = Runner(seen.payload, self.config, outputs=wanted)
        floating = Runner(planned, self.config) if self.quantized else runner
        kept: list[Kept] = []
        used = 0
        for sample in source:
            results = runner.run(sample.feed, sample=sample.name)
            values = {name: results[carrier] for name, carrier in tapped.items() if name not in inputs}
            values.update({name: sample.feed[name] for name in self.names if name in inputs})
            reference = floating.run(sample.feed, sample=sample.name) if self.quantized else results
            given = {name: reference[name] for name in outputs}
            self.asked.see(given, sample)
            size = sum(array.nbytes for array in values.values())
            if kept and used + size > memory:
                yield kept
                kept, used = [], 0
            kept.append(Kept(sample, values, given))
            used += size
        if not kept:
            raise no_samples(source)
        yield kept


def settled(model: ir.Model, plan: QuantPlan) -> QuantPlan:
    """Gives weights in blocks the values that their codes stand for, which runs in any bits; the rest of the plan."""
    edit, nodes, sites = (
        ir.Editor(model, model.graph),
        {node.name: node for node in model.nodes},
        dict.fromkeys(blocked(plan)),
    )
    for site in sites:
        encoding, old = plan.sites[site].encoding, nodes[site.consumer].inputs[site.port]
        assert encoding is not None
        values = block_values(encoding).astype(old.dtype)
        edit.set_input(nodes[site.consumer], site.port, edit.constant(f"{old.name}_rounded", values))
    edit.drop_unused_constants()
    return QuantPlan({site: what for site, what in plan.sites.items() if site not in sites}, plan.nodes)


def _stored(candidate: Candidate) -> dict[str, str]:
    """For each value that the plan stores for all its readers, the tensor that holds its stored form."""
    sites = candidate.plan.sites
    return {
        str(node.inputs[0].name): str(node.outputs[0].outputs[0].outputs[0].name)
        for node in candidate.runs.nodes
        if node.op == "QuantizeLinear" and Site(node.inputs[0].name) in sites and node.outputs[0].outputs
    }
