"""Algorithms that run the model: each is tried on a candidate and kept if the model's outputs come closer to float.

    candidate -> smooth-quant -> equalize-layers -> clip-activations -> without round-kernels, correct-bias
              -> clip-weights -> adaround -> reconstruct -> candidate

What is measured is the lowest SQNR of the outputs over samples spread evenly over the calibration data. A step that
does not gain `GAIN` dB there is left out, and the trace says so. Rounding weights otherwise is tried only where it can
gain: where the model with rounded weights and float activations is not `MARGIN` dB nearer to float than the candidate.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from qcompiler import ir
from qcompiler.analysis import SessionConfig
from qcompiler.analysis.measures import Fidelity
from qcompiler.analysis.patch_moments import Layer, Moments
from qcompiler.analysis.tap import Seen, Shed, Tap, known_count
from qcompiler.data import Sample
from qcompiler.passes.condition.smooth_quant import smoothable
from qcompiler.passes.lower.materialise import Materialise
from qcompiler.passes.plan.ada_round import AdaRound, layers_of
from qcompiler.passes.plan.stretched import Statistics
from qcompiler.passes.plan.take_codes import TakeCodes
from qcompiler.pipeline import PassRecord, Pipeline, PlanPass
from qcompiler.quant import QuantPlan
from qcompiler.search.candidates import Candidate, Draft, Drafter
from qcompiler.search.clip_activations import ClipActivations
from qcompiler.search.evaluations import Evaluations
from qcompiler.search.means import Means
from qcompiler.search.moments_by import moments_by
from qcompiler.search.reconstruct import Reconstruction
from qcompiler.search.served import Served

# A smaller gain is within what other samples would say.
GAIN = 0.3
# Noise this much lower makes a fifth of all noise: a decibel if it could be had whole.
MARGIN = 6.0
SAMPLES = 32
# Rows of each sample that alpha is found by.
ROWS = 4
# Every so many of them choose ranges, which the others then judge; fewer others say nothing.
PART = 4
LEAST_HELD = 6
# Times the runs of the calibration that choosing ranges may take.
RUNS = 4.0
# What is tried off, and what on. The first two work together, so they may do harm that neither alone does.
SWITCHES: tuple[tuple[tuple[str, ...], bool], ...] = (
    (("round-kernels", "correct-bias"), False), (("round-kernels",), False), (("correct-bias",), False),
    (("clip-weights",), True),
)  # fmt: skip


@dataclass(eq=False)
class Improver:
    """Improves candidates of one model.

    Attributes:
        original: the model as given.
        source: calibration samples.
        config: session settings.
        means: who runs models, and what is known.
    """

    original: ir.Model
    source: Iterable[Sample]
    config: SessionConfig = field(default_factory=SessionConfig)
    means: Means = field(default_factory=Means)
    _samples: list[Sample] = field(default_factory=list)
    _evaluations: dict[bool, Evaluations] = field(default_factory=dict)
    _moments: dict[tuple[object, ...], Moments] = field(default_factory=dict)

    def improved(
        self, drafter: Drafter, draft: Draft, base: Candidate, stats: Statistics | None, methods: Mapping[str, str]
    ) -> Candidate:
        """The candidate, or a better one made of the same draft."""
        wanted, using = drafter.algorithms, replace(drafter, algorithms=drafter.algorithms.sure)
        if wanted.smooth_quant:
            using = replace(using, rows=self.rows(draft, drafter.backend.spec.channel_mul))
            if using.rows:
                base, using = self._switched(using, draft, base, stats, methods, ("smooth-quant",), True)
        if wanted.equalize_layers:
            base, using = self._switched(using, draft, base, stats, methods, ("equalize-layers",), True)
        if wanted.clip_activations and stats is not None:
            base, methods = self._clipped(using, draft, base, stats, methods)
        if wanted == wanted.sure:
            return base
        layers = layers_of(base.planned, base.plan)
        if not layers or not self.weights_matter(base):
            return base
        for names, on in SWITCHES:
            if all(getattr(using.algorithms if not on else wanted, name.replace("-", "_")) for name in names):
                base, using = self._switched(using, draft, base, stats, methods, names, on)
        if wanted.adaround:
            step = AdaRound(
                self.seen(base.planned, layers_of(base.planned, base.plan)), centred=using.algorithms.correct_bias
            )
            base = self._better(base, again(using, draft, base, stats, methods, step), AdaRound.name)
        if wanted.reconstruct:
            samples, held = self.fitting()
            fitted = Reconstruction(base.planned, samples, self.config, using.algorithms.correct_bias)
            codes = TakeCodes(fitted.plan(base.plan))
            base = self._better(base, again(using, draft, base, stats, methods, codes), "reconstruct", held=held)
        return base

    def _switched(
        self,
        using: Drafter,
        draft: Draft,
        base: Candidate,
        stats: Statistics | None,
        methods: Mapping[str, str],
        names: tuple[str, ...],
        on: bool,
    ) -> tuple[Candidate, Drafter]:
        """The better of a candidate and the same with some algorithms switched, and what made it."""
        if not on and not applied(base, names):
            return base, using
        other = replace(using, algorithms=using.algorithms.updated(dict.fromkeys(names, on)))
        made = again(other, draft, base, stats, methods)
        if on and not applied(made, names):
            return base, using
        said = ", ".join(names)
        better = self._better(base, made, said if on else f"no {said}")
        return better, other if better.model is made.model else using

    def _clipped(
        self, using: Drafter, draft: Draft, base: Candidate, stats: Statistics, methods: Mapping[str, str]
    ) -> tuple[Candidate, Mapping[str, str]]:
        """The better of a candidate and the same with other ranges for some activations, and its range methods.

        Ranges are chosen on some samples and kept for what they do on the others.
        """
        if len(self.held()) < LEAST_HELD:
            return base, methods
        chosen = self.ranges(using, draft, base, stats, methods)
        if not chosen:
            return base, methods
        # what the user has chosen comes first
        ranges = {**methods, **chosen}
        made = replace(using.candidate(draft, stats, base.method, ranges), methods=chosen)
        better = self._better(base, made, "clip-activations", held=True)
        return better, ranges if better.model is made.model else methods

    def ranges(
        self, using: Drafter, draft: Draft, base: Candidate, stats: Statistics, methods: Mapping[str, str]
    ) -> dict[str, str]:
        """Other range methods, by pattern of the tensor, that bring the outputs closer to float on some samples."""
        runs = math.ceil(RUNS * max(known_count(self.source) or 0, len(self.samples())))
        steps = ClipActivations(*using.equalized(draft, stats), self.config, runs)
        return steps.chosen(base, methods, self.original, self.samples()[::PART])

    def weights_matter(self, base: Candidate) -> bool:
        """Whether rounded weights make a good part of a candidate's noise."""
        model, plan = base.planned.copy(), weights_alone(base.planned, base.plan)
        Pipeline().graph(model, [Materialise(plan)])
        found = self.quality({"all": base.runs, "weights": model}, plain=("weights",))
        return found["weights"] < found["all"] + MARGIN

    def quality(
        self, candidates: Mapping[str, ir.Model], plain: Collection[str] = (), *, held: bool = False
    ) -> dict[str, float]:
        """Lowest SQNR of the outputs of some models, dB.

        Args:
            candidates: by name.
            plain: names of those that are run without optimisation.
            held: only on samples that no range was chosen on.
        """
        if held not in self._evaluations:
            self._evaluations[held] = Evaluations(
                self.original, self.held() if held else self.samples(), config=self.config, crew=self.means.crew,
                journal=self.means.journal,
            )  # fmt: skip
        off = replace(self.config, level="off")
        models = {n: Served.of(model, off if n in plain else self.config) for n, model in candidates.items()}
        found = self._evaluations[held].evaluate(models, measure=Fidelity())
        return {name: min(result.output_sqnr_db.values(), default=math.inf) for name, result in found.items()}

    def samples(self) -> list[Sample]:
        """Some samples from all over the data."""
        if not self._samples:
            self._samples = self._spread(0)
        return self._samples

    @property
    def _step(self) -> int:
        """How many samples of the data one that is looked at stands for."""
        return max(1, (known_count(self.source) or 0) // SAMPLES)

    def _spread(self, first: int) -> list[Sample]:
        step = self._step
        return [sample for number, sample in enumerate(self.source) if number % step == first][:SAMPLES]

    def fitting(self) -> tuple[list[Sample], bool]:
        """Samples to fit codes to, and whether they are some of `samples`, so that only the others may judge."""
        if self._step == 1:
            return self.samples()[::PART], True
        return self._spread(self._step // 2), False

    def held(self) -> list[Sample]:
        """Those of the samples that no range is chosen on."""
        return [sample for number, sample in enumerate(self.samples()) if number % PART]

    def rows(self, draft: Draft, nodes: bool) -> dict[str, npt.NDArray[np.float64]]:
        """Some rows of each sample, of the values that matrix products read."""
        places = [place.tensor.name for place in smoothable(draft.model, draft.plan, nodes)]
        found: dict[str, list[npt.NDArray[np.float64]]] = {name: [] for name in places}
        for event in Tap(draft.model, self.samples(), places, config=self.config) if places else ():
            for name in event.names if isinstance(event, Shed) else ():
                found[name].clear()
            for name, values in event.values.items() if isinstance(event, Seen) else ():
                rows = values.reshape(-1, values.shape[-1])
                found[name].append(rows[:: max(1, len(rows) // ROWS)][:ROWS].astype(np.float64))
        return {name: np.concatenate(parts) for name, parts in found.items() if parts}

    def _better(self, base: Candidate, made: Candidate, name: str, *, held: bool = False) -> Candidate:
        """The better of two; where that is the first, its trace tells of the second."""
        found = self.quality({"base": base.runs, "made": made.runs}, held=held)
        said = f"{found['base']:.1f} dB without, {found['made']:.1f} dB with it at the worst output"
        kept = found["made"] >= found["base"] + GAIN
        record = PassRecord(name, notes=[f"{name}: {'kept' if kept else 'left out'}: {said}"])
        winner = made if kept else base
        return replace(winner, trace=replace(winner.trace, records=[*winner.trace.records, record]))

    def seen(self, model: ir.Model, layers: Mapping[str, Layer]) -> dict[str, Moments]:
        """Moments by layer; what was seen before with the same encoding is not looked at again."""
        keys = {name: _key(name, layer) for name, layer in layers.items()}
        missing = {name: layer for name, layer in layers.items() if keys[name] not in self._moments}
        if missing:
            found = moments_by(self.means.crew, model, self.samples(), missing, self.config)
            self._moments |= {keys[name]: seen for name, seen in found.items()}
        return {name: self._moments[key] for name, key in keys.items() if key in self._moments}


def again(
    using: Drafter,
    draft: Draft,
    base: Candidate,
    stats: Statistics | None,
    methods: Mapping[str, str],
    *rounding: PlanPass,
) -> Candidate:
    """A candidate made anew from its draft, with the range methods that it has."""
    return replace(using.candidate(draft, stats, base.method, methods, rounding), methods=base.methods)


def applied(candidate: Candidate, names: Sequence[str]) -> bool:
    """Whether any of some passes changed anything on the way to a candidate."""
    return any(record.name in names and record.changes for record in candidate.trace.records)


def weights_alone(model: ir.Model, plan: QuantPlan) -> QuantPlan:
    """The plan with constants quantized and nothing else."""
    constants = {constant.name for constant in model.constants()}
    dynamic = {site.consumer for site, decision in plan.quantized() if decision.choice and decision.choice.dynamic}
    return QuantPlan(
        {s: d for s, d in plan.sites.items() if s.tensor in constants and s.consumer not in dynamic}, plan.nodes
    )


def _key(name: str, layer: Layer) -> tuple[object, ...]:
    encoding = layer.encoding
    return name, layer.tensor, layer.window, encoding.scale.tobytes(), encoding.zero_point.tobytes(), encoding.spec
