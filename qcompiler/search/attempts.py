"""Makes the candidates of a compile: statistics, range methods, and nodes taken back to float where they do not pay."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from time import perf_counter

import numpy as np

from qcompiler import ir
from qcompiler.analysis import Kind, SessionConfig, Stats
from qcompiler.backends.conformance import Conformance
from qcompiler.data import Source
from qcompiler.passes.plan.encode_blocks import blocked
from qcompiler.passes.plan.take_codes import TakeCodes
from qcompiler.pipeline import some
from qcompiler.quant import NodePlan, Precision, QuantPlan
from qcompiler.search.calibration import calibrated
from qcompiler.search.candidates import Candidate, Draft, Drafter
from qcompiler.search.costs import Costs, measured, unprofitable
from qcompiler.search.evaluations import Evaluations
from qcompiler.search.improve import Improver
from qcompiler.search.judge import FeedArrays, best_method
from qcompiler.search.means import Means
from qcompiler.search.on_disk import candidate_on_disk
from qcompiler.search.placement import BOUNDARY_NS
from qcompiler.search.shelf import Shelf
from qcompiler.search.weights_in_blocks import with_codes

# What method "auto" tries; the statistics are the same for all, so each costs a few runs only.
TRIED_METHODS = ("auto", "minmax", "percentile")

# How dear a boundary is taken to be, in proposals for taking nodes back to float: as measured, and twice that, since
# moving little is safer than moving much where the model of latency is wrong.
BOUNDARIES = (BOUNDARY_NS, 2 * BOUNDARY_NS)

# How often nodes are taken out that no sample has shown: those around them may then want other values.
UNSEEN_ROUNDS, SHOWN = 4, 3

# The first opset whose QuantizeLinear has an axis, has floats of 8 bits, has integers of 16.
PER_CHANNEL_OPSET, FLOAT8_OPSET, INT16_OPSET = 13, 19, 21


@dataclass(eq=False)
class Attempts:
    """See the module.

    Attributes:
        drafter: makes drafts for the target.
        source: calibration samples; None where there are none.
        stats: collected so far, or read from a file; extended as candidates need more.
        method, methods: range method, and others by tensor pattern.
        memory: bytes that observed values may take at once.
        feeds: what is profiled; empty for no profiling.
        config: session settings.
        means: who does the work, what is known, and until when.
        evaluations: on the calibration samples; None where there are none.
        tell: told the stage, how much is done, and how much there is.
        seconds: time spent collecting.
        notes: what a reader should know.
        weight_method: how weights in blocks are rounded.
        shelf: takes weights in blocks as they are finished; None keeps them in memory.
    """

    drafter: Drafter
    source: Source | None
    stats: Stats | None
    method: str
    methods: Mapping[str, str]
    memory: int
    feeds: Sequence[FeedArrays]
    config: SessionConfig
    means: Means
    evaluations: Evaluations | None
    tell: Callable[[str, int, int | None], None]
    seconds: float = 0.0
    notes: list[str] = field(default_factory=list)
    weight_method: str = "auto"
    shelf: Shelf | None = None
    # the range method that was found best for the first candidate that needs one
    _method: str = ""
    _improver: Improver | None = None
    _costs: list[tuple[Candidate, Mapping[str, Sequence[str]] | None, Costs]] = field(default_factory=list)

    def quantized(self, wished: Sequence[Precision]) -> list[Candidate]:
        """The candidates for some precisions of the target that the data serves, in their order."""
        found: list[Candidate] = []
        recasts = self.drafter.backend.spec.recasts
        for place, precision in enumerate(wished):
            if precision in self.drafter.backend.spec.needs_data and self.drafter.only_given and not self.drafter.given:
                self.notes.append(f"without calibration data {precision} cannot be made; give --data")
                continue
            if found and self.means.deadline.passed:
                self.notes.append(f"{precision} was not tried: the time is over")
                continue
            draft = self._in_sight(self.drafter.draft(precision))
            if precision == "mixed" and len(wished) > 1 and not draft.mixes:
                continue
            if not draft.quantizes and self.drafter.backend.spec.schemes.get(precision):
                self.notes.append(f"{precision}: no node of the model qualifies{_in_doubles(draft)}")
            if not draft.quantizes and (precision not in recasts or recasts & {*wished[place + 1 :]}):
                continue  # what is left of it is a float type, which a later one has as its name
            if (opset := self.drafter.prepared.opset) < (least := least_opset(draft.plan)):
                self.notes.append(f"{precision} needs opset {least}; the model could be converted to {opset} only")
            else:
                made = self.numbered(self.drafter, draft)
                found += [made, *self._placed(made)]
        return found

    def _in_sight(self, draft: Draft) -> Draft:
        """The draft; nodes whose values no sample has shown, being empty or in a branch, are in float from here on."""
        for _ in range(UNSEEN_ROUNDS):
            if self.shelf is not None or not draft.wanted:
                break
            self._observe(self.drafter.statistics(draft))
            unseen = set() if self.stats is None else {*draft.wanted} & self.stats.unseen.keys()
            put = {
                node.name: NodePlan("float", "unseen", f"no sample showed {tensor.name!r}")
                for node in self.drafter.prepared.nodes
                for tensor in [*node.outputs, *node.inputs]
                if tensor.name in unseen
            }
            if not put.keys() - self.drafter.placed.keys():
                break
            self.notes.append(f"float, since no sample showed their values: {some(sorted(put), SHOWN)}")
            self.drafter = replace(self.drafter, placed={**self.drafter.placed, **put})
            draft = self.drafter.draft(draft.precision)
        return draft

    def numbered(self, drafter: Drafter, draft: Draft) -> Candidate:
        """A draft with its numbers: collects what is missing; all drafts get the ranges found best for the first."""
        made = self._numbered(drafter, draft, self._method)
        self._method = self._method or (made.method if draft.wanted else "")
        return made

    def plain(self, drafter: Drafter, draft: Draft) -> Candidate:
        """A draft with its numbers, nothing tried: the ranges found best so far, and algorithms that are sure.

        Its groups are to be looked at one by one, so weights in blocks know nothing of each other.
        """
        draft = self._coded(drafter, draft, apart=True)
        self._observe(drafter.statistics(draft))
        using = replace(drafter, algorithms=drafter.algorithms.sure)
        return using.candidate(draft, self.stats, self._method or self.method, self.methods)

    def _numbered(self, drafter: Drafter, draft: Draft, method: str = "") -> Candidate:
        """A draft with its numbers; where the method is "auto" and there are samples, the best of several."""
        if self.shelf is not None and blocked(draft.plan):
            return candidate_on_disk(
                drafter, draft, self.weight_method, self.source, self.shelf, self.tell, drafter.instruments
            )
        draft = self._coded(drafter, draft)
        wanted = draft.wanted
        self._observe(drafter.statistics(draft))
        late = self.means.deadline.passed
        several = not method and self.method == "auto" and wanted and self.source is not None and not late
        methods = TRIED_METHODS if several else (method or self.method,)
        plain = replace(drafter, algorithms=drafter.algorithms.sure)
        candidates = [plain.candidate(draft, self.stats, name, self.methods) for name in methods]
        if self.source is None or self.evaluations is None:
            return candidates[0]
        made = candidates[0]
        if len(candidates) > 1:
            self.tell("choose ranges", 0, None)
            made = best_method(self.evaluations, candidates)
        if late:
            return made
        self.tell("improve", 0, None)
        if self.method != "auto":  # the user's choice stays
            drafter = replace(drafter, algorithms=drafter.algorithms.updated({"clip-activations": False}))
        self._improver = self._improver or Improver(self.evaluations.original, self.source, self.config, self.means)
        return self._improver.improved(drafter, draft, made, self.stats, self.methods)

    def _coded(self, drafter: Drafter, draft: Draft, *, apart: bool = False) -> Draft:
        return with_codes(
            draft, self.source, self.weight_method, self.memory, self.tell, drafter.instruments, apart=apart
        )

    def _placed(self, base: Candidate) -> list[Candidate]:
        """The same with nodes back in float that do not pay, where the profile finds any."""
        by_name = ("w8", *self.drafter.backend.spec.by_name)
        if not self.feeds or base.precision in by_name or self.means.deadline.passed:
            return []
        found = []
        for reasons in unprofitable(self.profiled(base), BOUNDARIES):
            placed = {name: NodePlan("float", "placement", why) for name, why in reasons.items()}
            drafter = replace(self.drafter, placed=placed)
            draft = drafter.draft(base.precision)
            if draft.quantizes and (self.source is not None or self._known(draft.wanted)):
                found.append(self._numbered(drafter, draft, base.method))
        return found

    def yielded(self, shipped: Candidate, made: Conformance) -> Candidate | None:
        """Where the gate fails: the same with nodes in float that the backend computes otherwise than planned; where
        there are none that the search may place, the same as one that is refused, so that another is chosen.

        Returns:
            None where the gate passes, or the model is float.
        """
        if not made.failures or shipped.precision == "float":
            return None
        refused = replace(shipped, refused=f"the gate fails: {made.failures[0]}")
        names = {node.name for node in self.drafter.prepared.nodes} - shipped.placed.keys()
        planned = {name for name, plan in shipped.plan.nodes.items() if plan.precision != "float"}
        back = {other.node: other.rule for other in (*made.fallback, *made.surprises) if other.node in names & planned}
        if not back:
            return refused
        put = {name: NodePlan("float", "conformance", f"not computed as planned: {why}") for name, why in back.items()}
        placed = {**shipped.placed, **put}
        drafter = replace(self.drafter, placed=placed, algorithms=shipped.algorithms, rows=shipped.rows)
        draft = drafter.draft(shipped.precision)
        if not draft.quantizes:
            return refused
        self._observe(drafter.statistics(draft))
        methods, codes = {**self.methods, **shipped.methods}, (TakeCodes(shipped.plan),)
        again = drafter.candidate(draft, self.stats, shipped.method, methods, codes)
        self.notes.append(
            f"back to float, since the backend computes otherwise than planned: {', '.join(sorted(back))}"
        )
        return replace(again, methods=shipped.methods)

    def profiled(self, base: Candidate, together: Mapping[str, Sequence[str]] | None = None) -> Costs:
        """What a candidate's groups cost on this machine, measured once for each; `feeds` must not be empty."""
        known = next((found for one, at, found in self._costs if one is base and at == together), None)
        if known is None:
            self.tell("profile", 0, None)
            origin, prepared = self.drafter.backend.origin, self.drafter.prepared
            known = measured(prepared, base, self.feeds[0], origin, self.config, self.means.cache, together)
            self._costs.append((base, together, known))
        return known

    def _known(self, names: Sequence[str]) -> bool:
        return self.stats is not None and all(name in self.stats for name in names)

    def _observe(self, wanted: Mapping[str, tuple[Kind, ...]]) -> None:
        """Collects what is not known yet; what cannot be observed is not asked for twice."""
        known = set() if self.stats is None else {*self.stats, *self.stats.unseen}
        missing = {name: kinds for name, kinds in wanted.items() if name not in known}
        if not missing or self.source is None:
            return
        start = perf_counter()
        more = calibrated(
            self.drafter.prepared,
            self.source,
            missing,
            memory_budget=self.memory,
            crew=self.means.crew,
            journal=self.means.journal,
            tell=lambda done, total: self.tell("calibrate", done, total),
        )
        if self.stats is not None:
            more = replace(
                more,
                tensors=dict(sorted({**self.stats.tensors, **more.tensors}.items())),
                unseen={**self.stats.unseen, **more.unseen},
            )
        self.stats = more
        self.seconds += perf_counter() - start


def least_opset(plan: QuantPlan) -> int:
    """The first opset whose QuantizeLinear can write the activations of a plan."""
    types = {(d.choice.qtype.kind, d.choice.qtype.bits) for _, d in plan.quantized() if d.choice is not None}
    if ("int", 16) in types:
        return INT16_OPSET
    return FLOAT8_OPSET if ("float", 8) in types else PER_CHANNEL_OPSET


def _in_doubles(draft: Draft) -> str:
    """What to do where nodes that have weights read doubles, which no target has integers for."""
    nodes = [node for node in draft.model.nodes if any(isinstance(tensor, ir.Constant) for tensor in node.inputs)]
    doubles = any(tensor.dtype == np.float64 for node in nodes for tensor in node.inputs[:1])
    return "; its layers compute in float64: export it in float32" if doubles else ""
