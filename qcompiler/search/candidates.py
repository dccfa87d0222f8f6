"""Candidates: whole models, one for each precision and range method that a compile tries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from qcompiler import ir
from qcompiler.analysis import CHANNEL_RANGE, HISTOGRAM, ChannelHistogramKind, Kind
from qcompiler.analysis.kinds import ChannelRangeKind
from qcompiler.analysis.same_function import SameFunction
from qcompiler.backends.base import Backend
from qcompiler.numerics.normal_moments import Moments
from qcompiler.passes.condition.equalize_depthwise import EqualizeDepthwise, wanted_ranges
from qcompiler.passes.condition.equalize_layers import EqualizeLayers, stretches
from qcompiler.passes.condition.smooth_quant import SmoothQuant, smoothable
from qcompiler.passes.lower.correct_float_bias import CorrectFloatBias
from qcompiler.passes.lower.materialise import Materialise
from qcompiler.passes.plan.annotate import Annotate
from qcompiler.passes.plan.avoid_saturation import AvoidSaturation
from qcompiler.passes.plan.clip_weights import ClipWeights
from qcompiler.passes.plan.correct_bias import CorrectBias, corrected_by
from qcompiler.passes.plan.derive_bias import DeriveBias
from qcompiler.passes.plan.encode import Encode, Ranges, wanted
from qcompiler.passes.plan.given import renamed
from qcompiler.passes.plan.importance import importance
from qcompiler.passes.plan.keep_pairs import KeepPairs
from qcompiler.passes.plan.round_kernels import RoundKernels
from qcompiler.passes.plan.share_concat import ShareConcat
from qcompiler.passes.plan.stretched import Statistics, Stretched
from qcompiler.passes.plan.take_codes import TakeCodes
from qcompiler.passes.prepare.eliminate_dead import EliminateDead
from qcompiler.passes.prepare.widen_half import stored_short
from qcompiler.pipeline import Instrument, Pipeline, PlanPass, Trace
from qcompiler.quant import Encoding, NodePlan, Precision, QuantPlan, Site
from qcompiler.rewrite import Refusal
from qcompiler.search.algorithms import Algorithms
from qcompiler.search.conditioned import conditioned
from qcompiler.search.put import assigned, reasoned, set_apart

Rows = Mapping[str, npt.NDArray[np.float64]]


@dataclass(frozen=True, eq=False)
class Candidate:
    """A model that could be shipped.

    Attributes:
        precision, method: what was tried.
        planned: the graph that the plan speaks of: the prepared model with the target's rewrites.
        model, plan, trace: ready to run, what it was made from, and by which passes from the prepared model.
        placed: what the search put where (`Drafter.placed`); empty where it had no say.
        simulated: what ONNX Runtime runs in its place; None for the model itself.
        methods: other range methods by tensor pattern, where that was found better.
        algorithms, rows: what it was made with, see `Drafter`.
        refused: why the backend did not take it; empty where it did, or was not asked.
    """

    precision: Precision
    method: str
    planned: ir.Model
    model: ir.Model
    plan: QuantPlan
    trace: Trace = field(default_factory=Trace)
    placed: Mapping[str, NodePlan] = field(default_factory=dict)
    simulated: ir.Model | None = None
    methods: Mapping[str, str] = field(default_factory=dict)
    algorithms: Algorithms = field(default_factory=Algorithms)
    rows: Rows = field(default_factory=dict)
    refused: str = ""

    @property
    def runs(self) -> ir.Model:
        """What ONNX Runtime runs, to judge it."""
        return self.model if self.simulated is None else self.simulated


@dataclass(frozen=True, eq=False)
class Draft:
    """A model with its sites chosen, before there are numbers.

    Attributes:
        model: the prepared model with the target's rewrites.
        plan: sites without encodings, but for given ones.
        trace: passes so far.
        aliases: the tensor of the prepared model that holds the values of a new one.
        annotate: what chose the sites.
    """

    precision: Precision
    model: ir.Model
    plan: QuantPlan
    trace: Trace
    aliases: Mapping[str, str]
    annotate: Annotate

    @property
    def wanted(self) -> tuple[str, ...]:
        """Tensors of the prepared model whose ranges the plan needs."""
        return tuple(dict.fromkeys(self.aliases.get(name, name) for name in wanted(self.model, self.plan)))

    @property
    def quantizes(self) -> bool:
        """Whether anything is quantized at all."""
        return any(True for _ in self.plan.quantized())

    @property
    def mixes(self) -> bool:
        """Whether some nodes are quantized with fixed ranges and some by the runtime."""
        return {plan.precision for plan in self.plan.nodes.values()} >= {"int8", "w8"}


@dataclass(frozen=True, eq=False)
class Drafter:
    """Makes drafts and candidates for one prepared model and one backend.

    Attributes:
        prepared: after prepare and fusion; the float candidate.
        backend: the target.
        keep_float: patterns of what stays float.
        given: encodings that the model came with.
        only_given: there is no calibration data.
        instruments: called after each pass.
        placed: nodes of the prepared graph that the search put in float or in one of the precisions that the target
            takes side by side, each with the reason; float ones that the target rewrote are passed over.
        algorithms: the accuracy algorithms to use.
        same: checks that rewrites change nothing.
        rows: of values that matrix products read, by name, for `smooth-quant`.
        promised: what folded normalizations say of values, for where there is no data.
    """

    prepared: ir.Model
    backend: Backend
    keep_float: tuple[str, ...] = ()
    given: Mapping[Site, Encoding] = field(default_factory=dict)
    only_given: bool = False
    instruments: tuple[Instrument, ...] = ()
    placed: Mapping[str, NodePlan] = field(default_factory=dict)
    algorithms: Algorithms = field(default_factory=Algorithms)
    same: SameFunction = field(default_factory=SameFunction)
    rows: Rows = field(default_factory=dict)
    promised: Mapping[str, Moments] = field(default_factory=dict)
    _equalized: dict[object, tuple[Draft, Statistics, Rows, Draft, Ranges]] = field(default_factory=dict)

    def draft(self, precision: Precision) -> Draft:
        """Chooses nodes and sites for a precision."""
        keep = (*self.keep_float, *set_apart(self.prepared, self.placed, self.backend.spec))
        formed = conditioned(self.prepared, self.backend, precision, keep, self.same, self.instruments)
        pipeline, model, conditioning = formed.pipeline, formed.model, formed.conditioning
        present = {node.name for node in model.nodes}
        floats = (name for name, put in self.placed.items() if put.precision == "float" and name in present)
        keep = (*self.keep_float, *floats)
        given = {**self.given, **renamed(self.given, conditioning.aliases), **conditioning.given}
        only_given = self.only_given and precision in self.backend.spec.needs_data
        put = assigned(self.prepared, model, self.placed)
        step = Annotate(self.backend.spec, precision, keep, given, only_given, put)
        plan = self._planned(pipeline, model, step)
        return Draft(precision, model, plan, pipeline.trace, conditioning.aliases, step)

    def _planned(self, pipeline: Pipeline, model: ir.Model, step: Annotate) -> QuantPlan:
        return reasoned(pipeline.plan(model, QuantPlan(), [step]), self.placed)

    def statistics(self, draft: Draft) -> dict[str, tuple[Kind, ...]]:
        """What a draft needs to know of tensors of the prepared model: ranges, and for some whose values they hold."""
        matters, axes = importance(draft.model), dict[str, int]()
        found = dict.fromkeys(draft.wanted, (HISTOGRAM,))
        for name in wanted(draft.model, draft.plan):
            if name in matters:
                axes[draft.aliases.get(name, name)] = matters[name].axis
        present = {tensor.name for tensor in self.prepared.inputs}
        present |= {tensor.name for node in self.prepared.nodes for tensor in node.outputs}
        for name, axis in corrected_by(draft.model, draft.plan).items():
            if name in present:
                axes.setdefault(name, axis)
        kinds: dict[str, tuple[Kind, ...]] = {**found}
        kinds.update({name: (HISTOGRAM, ChannelHistogramKind(axis)) for name, axis in axes.items()})
        stretched = [name for name in wanted_ranges(draft.model, draft.plan) if name in present]
        kinds.update({name: (HISTOGRAM, ChannelHistogramKind(1), CHANNEL_RANGE) for name in stretched})
        if draft.precision in self.backend.spec.scans:
            floats = [t for node in self.prepared.nodes for t in node.outputs if t.name and t.dtype == np.float32]
            kinds = {**dict.fromkeys((t.name for t in [*self.prepared.inputs, *floats]), (HISTOGRAM,)), **kinds}
        for name, several in self.backend.spec.observes(self.prepared).items():
            kinds[name] = (*kinds.get(name, (HISTOGRAM,)), ChannelRangeKind(several))
        places = list(stretches(draft.model, draft.plan)) if self.algorithms.equalize_layers else []
        if self.algorithms.smooth_quant:
            places += smoothable(draft.model, draft.plan, self.backend.spec.channel_mul)
        for place in places:
            if (name := place.tensor.name) in present:
                kinds[name] = (HISTOGRAM, ChannelHistogramKind(place.axis), ChannelRangeKind(place.axis))
        return kinds

    def equalized(self, draft: Draft, stats: Statistics) -> tuple[Draft, Ranges]:
        """The draft with channels stretched where that is for nothing, and its statistics; once for several tries."""
        using = self.algorithms
        wanted = (using.equalize_depthwise, using.smooth_quant, using.equalize_layers)
        key = (id(draft), id(stats), id(self.rows), wanted)
        if key not in self._equalized:
            if len(self._equalized) > 3:  # forms are kept of a few drafts only
                self._equalized.clear()
            self._equalized[key] = (draft, stats, self.rows, *self._stretched(draft, stats))
        return self._equalized[key][3:]

    def _stretched(self, draft: Draft, stats: Statistics) -> tuple[Draft, Ranges]:
        pipeline = Pipeline(Trace(list(draft.trace.records)), self.instruments)
        found, renamed, octaves, axes = draft, dict[str, str](), dict[str, npt.NDArray[np.int64]](), dict[str, int]()
        steps: list[EqualizeDepthwise | EqualizeLayers] = []
        steps += [EqualizeDepthwise(draft.plan, stats)] if self.algorithms.equalize_depthwise else []
        nodes = self.backend.spec.channel_mul
        steps += [SmoothQuant(draft.plan, stats, rows=self.rows, nodes=nodes)] if self.algorithms.smooth_quant else []
        steps += [EqualizeLayers(draft.plan, stats)] if self.algorithms.equalize_layers else []
        for step in steps:
            model = found.model.copy()
            if not pipeline.graph(model, [step]):
                continue
            reason = self.same.difference(found.model, model) or self.same.note
            if reason:
                pipeline.trace.records[-1].refusals.append(Refusal(step.name, "", f"taken back: {reason}"))
                pipeline.trace.records[-1].changes = 0
                continue
            found = replace(found, model=model)
            renamed, octaves = {**renamed, **step.renamed}, {**octaves, **step.octaves}
            axes = {**axes, **(step.axes if isinstance(step, EqualizeLayers) else {})}
        if found is draft:
            return replace(draft, trace=pipeline.trace), stats
        plan = self._planned(pipeline, found.model, draft.annotate)
        return replace(found, plan=plan, trace=pipeline.trace), Stretched(stats, renamed, octaves, axes)

    def candidate(
        self,
        draft: Draft,
        known: Statistics | None,
        method: str,
        methods: Mapping[str, str],
        rounding: Sequence[PlanPass] = (),
    ) -> Candidate:
        """Gives a draft its numbers and turns it into nodes.

        Args:
            draft: the sites.
            known: statistics; None where all encodings are given.
            method, methods: range method, and others by tensor pattern.
            rounding: passes that choose codes of weights, once scales are final.
        """
        stats: Ranges | None = known
        if known is not None:
            draft, stats = self.equalized(draft, known)
        pipeline = Pipeline(Trace(list(draft.trace.records)), self.instruments)
        model, spec = draft.model.copy(), self.backend.spec
        pairs = [AvoidSaturation()] if spec.int16_pairs else []
        if self.algorithms.round_kernels:
            rounding = (*rounding, RoundKernels(stats, draft.aliases))
        if spec.int16_pairs:
            rounding = (*rounding, KeepPairs())
        clipping = [ClipWeights()] if self.algorithms.clip_weights else []
        correction = [CorrectBias(stats, draft.aliases)] if self.algorithms.correct_bias else []
        steps = [
            Encode(stats, method, methods, draft.aliases), ShareConcat(spec.concat_ratio, spec.sharing), *clipping,
            *pairs, DeriveBias(), *rounding, *correction,
        ]  # fmt: skip
        plan = pipeline.plan(model, draft.plan, steps)
        legal = self.backend.legalise(plan, stats, draft.precision)
        blind = known is None and self.algorithms.correct_bias
        floats = [CorrectFloatBias(plan, self.promised)] if blind else []
        pipeline.graph(model, [*floats, Materialise(plan), *legal, EliminateDead()])
        simulated = self.backend.simulate(model)
        return Candidate(
            draft.precision, method, draft.model, model, plan, pipeline.trace, self.placed, simulated,
            algorithms=self.algorithms, rows=self.rows,
        )  # fmt: skip

    def reshaped(
        self, prepared: ir.Model, shipped: Candidate, known: Statistics | None, methods: Mapping[str, str]
    ) -> ir.Model:
        """What ships, for the model as prepared at other shapes: the same decisions from the same statistics."""
        drafter = replace(
            self, prepared=prepared, placed=shipped.placed, algorithms=shipped.algorithms, rows=shipped.rows
        )
        if shipped.precision == "float":
            return drafter.floating(prepared)[0].model
        draft, codes = drafter.draft(shipped.precision), (TakeCodes(shipped.plan),)
        return drafter.candidate(draft, known, shipped.method, {**methods, **shipped.methods}, codes).model

    def floating(self, original: ir.Model) -> tuple[Candidate, Candidate]:
        """The prepared model in the target's forms, and as given: where that is half as large, both are as given."""
        given = Candidate("float", "as given", original, original, QuantPlan({}, float_nodes(original)))
        if stored_short(original) and not stored_short(self.prepared):
            return given, given
        pipeline, model = Pipeline(instruments=self.instruments), self.prepared.copy()
        if not any(node.op == "DequantizeLinear" for node in model.all_nodes()):  # no plan speaks of given Q and DQ
            pipeline.graph(model, self.backend.legalise(QuantPlan(), None, "float"))
        plan = QuantPlan({}, float_nodes(self.prepared))
        return Candidate("float", "fused", self.prepared, model, plan, pipeline.trace), given


def float_nodes(model: ir.Model) -> dict[str, NodePlan]:
    """The decision for every node of a model that is not quantized."""
    return {node.name: NodePlan("float", "float", "the compile ships float") for node in model.nodes}
