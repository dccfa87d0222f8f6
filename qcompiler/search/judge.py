"""Runs the candidates beside the model as given: accuracy on samples, latency in alternating blocks."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from qcompiler import ir
from qcompiler.analysis import (
    Evaluation,
    SessionConfig,
    Timing,
    TimingCache,
    first_broken,
    measure_each,
    speedup,
)
from qcompiler.analysis.inputs import agreeing
from qcompiler.analysis.measures import Fidelity
from qcompiler.analysis.session import config_of
from qcompiler.data import InputInfo, Sample
from qcompiler.quant import Precision
from qcompiler.search.candidates import Candidate
from qcompiler.search.choose import Choice, choose
from qcompiler.search.contest import Contract, Result, contest
from qcompiler.search.deadline import NEVER, Deadline
from qcompiler.search.evaluations import Evaluations
from qcompiler.search.evaluations_on_disk import Spoken, Streamed
from qcompiler.search.objectives import Objective
from qcompiler.search.promise import Judged, Promise
from qcompiler.search.served import Served, ready

CLEARLY = 2.0

FeedArrays = dict[str, npt.NDArray[Any]]
Tell = Callable[[int, int | None], None]


@dataclass(frozen=True, eq=False)
class Outcome:
    """What was measured of one candidate.

    Attributes:
        result: beside the float model; None without samples.
        timing: of its runs; None where nothing was timed.
        judged: the figures that decide.
        broken_at: the first tensor whose SQNR is under the floor, with the node that computes it.
        spoken: of a language model on disk, see `Streamed`; None where models can be asked.
    """

    result: Result | None
    timing: Timing | None
    judged: Judged
    broken_at: str = ""
    spoken: Spoken | None = None

    @property
    def evaluation(self) -> Evaluation | None:
        """What the samples said; None without samples."""
        return None if self.result is None else self.result.evaluation


@dataclass(frozen=True, eq=False)
class Verdicts:
    """The judgement of all candidates.

    Attributes:
        outcomes: one for each candidate, in order.
        float_timing: of the model as given.
        choice: what to ship.
        promise: what the choice was made under.
    """

    outcomes: tuple[Outcome, ...]
    float_timing: Timing | None
    choice: Choice
    promise: Promise


@dataclass(frozen=True, eq=False)
class First:
    """The first samples of a source."""

    source: Iterable[Sample]
    samples: int

    def __iter__(self) -> Iterator[Sample]:
        return itertools.islice(iter(self.source), self.samples)


def judge(
    original: ir.Model,
    candidates: Sequence[Candidate],
    *,
    evaluations: Evaluations | Streamed | None,
    config: SessionConfig,
    contract: Contract,
    insist: bool = False,
    floor: float,
    seconds: float,
    bench_feeds: Sequence[FeedArrays],
    tell: Tell,
    cache: TimingCache | None = None,
    deadline: Deadline = NEVER,
    objective: Objective | None = None,
    by_name: Collection[Precision] = (),
    on_disk: bool = False,
) -> Verdicts:
    """Measures every candidate and chooses.

    Args:
        original: the model as given.
        candidates: the last ones are the float model and the model as given.
        evaluations: of the model as given on the samples to judge by; None measures no accuracy.
        config: session settings of the candidates.
        contract: what is promised; evaluation stops once every verdict on it is clear.
        insist: quantized is wanted by name; without a stated promise float is no way out of a small loss.
        floor: as in the recipe.
        seconds: time for the latency comparison in all, about; 0 measures none.
        bench_feeds: what latency is measured on, each alone; the geometric mean of the speed-ups decides.
        tell: called after every sample.
        cache: of the timings.
        deadline: of the search.
        objective: what counts, if not the time.
        by_name: precisions of the target that are for size alone.
        on_disk: the models are larger than memory: none is loaded whole.

    Raises:
        ModelError: ONNX Runtime refuses a model.
        DataError: samples, labels or the metric do not fit.
    """
    served: dict[str, Served] = {}
    if not on_disk:
        known = evaluations.reference if isinstance(evaluations, Evaluations) else None
        given = known or Served.of(original, config_of(original, config.threads))
        served = {
            str(i): given if candidate.model is original else Served.of(candidate.runs, config)
            for i, candidate in enumerate(candidates)
        }
    results: Mapping[str, Result] = {}
    spoken: Mapping[str, Spoken] = {}
    if evaluations is not None:
        floats = [str(i) for i, candidate in enumerate(candidates) if candidate.precision == "float"]
        running: dict[str, Any] = dict(served)
        if isinstance(evaluations, Streamed):
            running = {str(i): candidate.runs for i, candidate in enumerate(candidates)}
            rounds, spoken = evaluations.rounds(dict(running), tell), evaluations.spoken
        else:
            rounds = evaluations.rounds(running, deadline, tell)
        results = contest(rounds, running, contract, total=evaluations.count, keep=floats)
    timings: Mapping[str, Timing] = {}
    if seconds > 0 and bench_feeds:
        others = {name: ready(model) for name, model in served.items() if model is not given}
        each = deadline.within(seconds) / (len(others) + 1)
        timings = measure_each({"given": ready(given), **others}, bench_feeds, seconds=each, cache=cache)
    elif evaluations is None:
        for model in served.values():
            ready(model)
    outcomes = []
    for i, candidate in enumerate(candidates):
        name = "given" if candidate.model is original else str(i)
        result, timing = results.get(str(i)), timings.get(name)
        judged = judged_of(candidate.precision, result, timings.get("given"), timing, by_name)
        judged = replace(judged, refused=candidate.refused)
        broken_at = ""
        if isinstance(evaluations, Evaluations) and judged.worst_sqnr_db is not None and judged.worst_sqnr_db < floor:
            broken_at = name_of_break(candidates[-2].model, candidate.runs, evaluations.source, floor, config)
        outcomes.append(Outcome(result, timing, judged, broken_at, spoken.get(str(i))))
    seen = longest(results.values())
    limit = None if seen is None else seen.max_drop
    if seen is None and contract.limit.promised:
        limit = contract.limit.amount
    promise = Promise(limit, contract.limit.stated, insist)
    figures = [outcome.judged for outcome in outcomes]
    if objective is not None:
        weights = [objective.whole(candidate) for candidate in candidates]
        # a model as given may have no shapes to count by: then it is like the fused one
        whole = max([1.0, *(w for w, one in zip(weights, candidates, strict=True) if one.precision == "float")])
        sizes = [weight or whole for weight in weights]
        figures = [replace(one, speedup=whole / size, noise=0.0) for one, size in zip(figures, sizes, strict=True)]
    choice = choose(figures, promise, floor, sizes=objective is not None)
    return Verdicts(tuple(outcomes), timings.get("given"), choice, promise)


def longest(results: Iterable[Result]) -> Result | None:
    """The result on the most samples; None of none."""
    return max(results, key=lambda result: result.evaluation.samples, default=None)


def judged_of(
    precision: str,
    result: Result | None,
    given: Timing | None,
    timing: Timing | None,
    by_name: Collection[Precision] = (),
) -> Judged:
    """The figures that decide, of one candidate."""
    fields: dict[str, Any] = {}
    if result is not None:
        evaluation, loss = result.evaluation, result.loss
        fields |= {"drop": loss.drop, "ci_low": loss.ci_low, "ci_high": loss.ci_high}
        fields |= {"agreement": evaluation.measure.against_float, "unit": evaluation.measure.unit}
        if evaluation.output_sqnr_db:
            worst = min(evaluation.output_sqnr_db, key=evaluation.output_sqnr_db.__getitem__)
            fields |= {"worst_output": worst, "worst_sqnr_db": evaluation.output_sqnr_db[worst]}
    if given is not None and timing is not None:
        gain = speedup(given, timing)
        fields |= {"speedup": gain.ratio, "noise": gain.noise}
    return Judged(precision, for_size=precision in by_name, **fields)


def name_of_break(
    reference: ir.Model, broken: ir.Model, source: Iterable[Sample], floor: float, config: SessionConfig
) -> str:
    """The first tensor that is under the floor, and its node, on a few samples."""
    found = first_broken(reference, broken, First(source, 4), floor_db=floor, config=config)
    if found is None:
        return ""
    where = f"{found.op} {found.node!r}" if found.node else "an input"
    return f"{found.tensor!r} ({where}, {found.sqnr_db:.1f} dB)"


def best_method(evaluations: Evaluations, candidates: Sequence[Candidate], samples: int = 32) -> Candidate:
    """The first candidate, unless the worst output of another has a clearly higher SQNR on the first samples.

    Clearly is by `CLEARLY` dB: ranges were made from the same samples, which flatters those that clip most, and other
    ranges of the same kind differ by 1 dB.
    """
    models = {str(i): candidate.runs for i, candidate in enumerate(candidates)}
    found = evaluations.evaluate(models, first=samples, measure=Fidelity())

    def quality(i: int) -> float:
        ratios = found[str(i)].output_sqnr_db.values()
        return min(ratios, default=math.inf)

    best = max(range(len(candidates)), key=quality)
    return candidates[best if quality(best) >= quality(0) + CLEARLY else 0]


def synthetic_feed(inputs: Sequence[InputInfo]) -> FeedArrays:
    """A feed for timing and for a trial run where there is no data: ones, unknown dimensions 1, what follows from them.

    Never used to calibrate or to judge accuracy.
    """
    ones = {
        info.name: np.ones([d if isinstance(d, int) else 1 for d in info.shape or ()], info.dtype) for info in inputs
    }
    return agreeing(ones, inputs)
