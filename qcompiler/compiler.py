"""The whole journey, top to bottom: load, prepare, fuse, calibrate, plan, lower, judge, write."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from qcompiler.errors import UsageError
from qcompiler.recipe import Recipe

if TYPE_CHECKING:
    from qcompiler import ir
    from qcompiler.backends.conformance import Conformance
    from qcompiler.data import Data, Source
    from qcompiler.quant import QuantPlan
    from qcompiler.report import Report
    from qcompiler.search.choose import Choice
    from qcompiler.search.means import Means

Progress = Callable[[str, int, "int | None"], None]
"""Called with a stage, how much of it is done, and how much there is in all (None if unknown)."""


@dataclass(frozen=True, eq=False)
class Result:
    """What a compile gives.

    Attributes:
        report: everything that was decided and measured.
        model: the shipped model.
        plan: what it was made from.
        folder: where it was written; None if nowhere.
        exit_status: 0; 3 if the contract or the gate failed; 4 if there were too few samples to say.
    """

    report: Report
    model: ir.Model
    plan: QuantPlan
    folder: Path | None
    exit_status: int


def compile(
    model: str | Path,
    target: str,
    data: Data | None = None,
    *,
    output: str | Path | None = None,
    evaluation: Data | None = None,
    recipe: Recipe | None = None,
    stats: str | Path | None = None,
    dump_passes: str | Path | None = None,
    progress: Progress | None = None,
) -> Result:
    """Compiles a model for a target.

    Args:
        model: an ONNX file.
        target: "NAME" or "NAME:VARIANT".
        data: calibration samples, anything that `qcompiler.data.open_source` takes; labels are used if there are any.
        output: folder to write; None writes nothing.
        evaluation: samples to judge by, like `data`; the calibration samples serve if it is missing.
        recipe: what else is wished.
        stats: statistics from `calibrate`, in place of collecting them.
        dump_passes: folder for the text of the graph after each pass.
        progress: told what goes on.

    Raises:
        UserError: input or request cannot be served; nothing is written.
    """
    from qcompiler.search.means import open_means

    recipe = recipe or Recipe()
    with open_means(recipe.workers, recipe.cluster, recipe.journal, recipe.time_budget) as means:
        return _compiled(model, target, data, output, evaluation, recipe, stats, dump_passes, progress or silent, means)


def _compiled(
    model: str | Path, target: str, data: Data | None, output: str | Path | None, evaluation: Data | None,
    recipe: Recipe, stats: str | Path | None, dump_passes: str | Path | None, tell: Progress, means: Means,
) -> Result:  # fmt: skip
    """The journey itself; arguments as for `compile`."""
    from qcompiler import backends
    from qcompiler.analysis import SessionConfig, Stats, fingerprint
    from qcompiler.analysis.same_function import SameFunction
    from qcompiler.backends.base import Job, configured
    from qcompiler.data import open_source
    from qcompiler.data.calibration_cache import read_cache
    from qcompiler.frontend import read
    from qcompiler.opening import at_other_shapes, check_precision, opened
    from qcompiler.passes.plan.given import from_ranges
    from qcompiler.report.assemble import assemble, write
    from qcompiler.report.folder import check_free, clear, work_folder
    from qcompiler.search.attempts import Attempts
    from qcompiler.search.bench_shapes import bench_feeds
    from qcompiler.search.bits import allot
    from qcompiler.search.candidates import Drafter
    from qcompiler.search.contest import Contract
    from qcompiler.search.device_times import times_of
    from qcompiler.search.evaluations import Evaluations
    from qcompiler.search.evaluations_on_disk import Streamed
    from qcompiler.search.judge import judge
    from qcompiler.search.judge_again import judged_again, rewritten
    from qcompiler.search.mix import ROUNDS, Mixer
    from qcompiler.search.objectives import objective_of
    from qcompiler.search.on_disk import UNCHECKED, stays_on_disk
    from qcompiler.search.tune import tune

    backend = configured(backends.get(target), recipe.options)
    check_precision(backend, recipe, known=data is not None or stats is not None)
    where, dump = (None if path is None else Path(path) for path in (output, dump_passes))
    if where is not None:
        check_free(where)
    latency = None if recipe.latency is None else times_of(Path(recipe.latency))
    tell("prepare", 0, None)
    original = read(Path(model))
    able = stats is None and not recipe.other_shapes
    on_disk = stays_on_disk(original, backend.spec, recipe, able=able, data=data is not None)
    widen = not on_disk and any(known is not None for known in (data, stats, recipe.ranges))
    start = opened(Path(model), backend, recipe, data, dump, widen=widen, original=original)
    frontend, source = start.frontend, start.source
    others = at_other_shapes(Path(model), backend, recipe, widen=widen)
    judged_on = source if evaluation is None else open_source(evaluation, frontend.inputs)
    if means.folder is not None:
        means.about(fingerprint(frontend.original), target)
    first = None if judged_on is None else next((dict(sample.feed) for sample in judged_on), None)
    same = SameFunction(first, UNCHECKED if on_disk else "")
    frontend, elsewhere = frontend.checked(same), [other.checked(SameFunction()).prepared for other in others]
    known = None if stats is None else Stats.load(Path(stats))
    if known is not None:
        known.check(fingerprint(frontend.prepared))
    given = dict(frontend.given)
    if recipe.ranges is not None:
        given = {**from_ranges(frontend.prepared, read_cache(Path(recipe.ranges))), **given}
    with_data = source is not None or known is not None or bool(given)
    drafter = Drafter(
        frontend.prepared, backend, recipe.keep_float, given,
        only_given=source is None and known is None, instruments=tuple(frontend.pipeline.instruments),
        algorithms=recipe.chosen, same=same, promised={} if with_data else frontend.promised,
    )  # fmt: skip
    shelf = None
    if on_disk:
        about = (fingerprint(frontend.original), target, recipe.options, source and source.fingerprint())
        shelf = means.shelve(where, *about)
    feeds = bench_feeds(frontend.inputs, recipe.bench_shapes, first)
    config = SessionConfig(threads=recipe.threads, entries=backend.host.entries)
    seconds, deadline = recipe.bench_seconds if backend.host.indicative and not on_disk else 0.0, means.deadline

    def evaluations(samples: Source | None) -> Evaluations | None:
        if samples is None or on_disk:
            return None
        return Evaluations(
            frontend.original, samples, metric=recipe.metric, config=config, crew=means.crew, journal=means.journal
        )

    on_calibration = evaluations(source)
    on_evaluation = on_calibration if judged_on is source else evaluations(judged_on)
    streamed = Streamed.on(shelf, frontend.original, judged_on, recipe.metric, config)
    attempts = Attempts(
        drafter, source, known, recipe.method, recipe.methods, recipe.memory_mib << 20,
        feeds if seconds else (), config, means, on_calibration, tell, notes=[*start.notes],
        weight_method=recipe.weight_method, shelf=shelf,
    )  # fmt: skip
    if recipe.precision in backend.spec.needs_data and drafter.only_given and not drafter.given:
        raise UsageError(f"precision {recipe.precision!r} needs calibration data", where="--data")
    wished = backend.wished(recipe.precision, frontend.prepared, data=with_data)
    evidence = allot(attempts, recipe.precision)
    quantized, floating = attempts.quantized(wished), drafter.floating(frontend.original)
    candidates = [*quantized, *floating]
    contract = Contract(recipe.max_drop, recipe.confidence, max(len(quantized), 1))
    objective = objective_of(recipe.optimize, for_size=recipe.precision in backend.spec.by_name)
    judging = partial(
        judge, frontend.original, evaluations=on_evaluation or streamed, config=config,
        insist=recipe.precision not in ("auto", "float"), floor=recipe.sqnr_floor, seconds=seconds, bench_feeds=feeds,
        tell=lambda done, total: tell("judge", done, total), cache=means.cache, deadline=deadline,
        objective=objective, by_name=backend.spec.by_name, on_disk=on_disk,
    )  # fmt: skip
    tell("judge", 0, None)
    verdicts = judging(candidates, contract=contract)
    means.keep_best(candidates[verdicts.choice.index].plan)
    if on_evaluation is not None and not backend.spec.average_bits:
        mixer = Mixer(
            attempts, on_evaluation, contract, recipe.sqnr_floor, config, ROUNDS[recipe.preset], feeds[0],
            latency, objective, every=recipe.pareto, wished=wished,
        )  # fmt: skip
        more, evidence = mixer.mix(candidates, verdicts)
        if more and evidence is not None:
            candidates = mixer.ordered(quantized, more, floating)
            contract = replace(contract, tries=len(quantized) + len(evidence.steps))
            verdicts = judging(candidates, contract=contract)
    shipped = candidates[verdicts.choice.index]
    means.keep_best(shipped.plan)
    tell("check", 0, None)
    offered = backend.sessions(shipped.model) if seconds else ()
    tuned = tune(
        frontend.original, shipped.model, offered, feeds, judged_on,
        threads=recipe.threads, seconds=deadline.within(seconds, 0.0), metric=recipe.metric, cache=means.cache,
    )  # fmt: skip
    with work_folder(where) as folder:

        def build() -> Conformance:
            clear(folder)
            job = Job(
                frontend.path.stem, frontend.original, shipped.planned, shipped.model, shipped.plan, shipped.precision,
                attempts.stats, judged_on, tuned.config, feeds[0] if seconds else None, recipe.shape_ranges, folder,
                tell, [drafter.reshaped(other, shipped, attempts.stats, recipe.methods) for other in elsewhere],
                on_disk,
            )  # fmt: skip
            return backend.build(job)

        conformance = build()
        while recipe.precision == "auto" and (made := attempts.yielded(shipped, conformance)) is not None:
            candidates[verdicts.choice.index] = made
            contract = replace(contract, tries=contract.tries + (not made.refused))
            verdicts = judging(candidates, contract=contract)
            shipped = candidates[verdicts.choice.index]
            conformance = build()
        if conformance.instead is not None:
            shipped = candidates[verdicts.choice.index] = rewritten(shipped, conformance.instead)
            verdicts = judged_again(verdicts, candidates, partial(judging, contract=contract))
        report = assemble(
            frontend, backend, recipe.precision, recipe.threads, candidates, verdicts, conformance, attempts.stats,
            contract=contract, source=source, judged_on=judged_on, seconds=attempts.seconds, notes=attempts.notes,
            tuned=tuned, optimized=bool(recipe.options.get("optimized")), bench_shapes=recipe.bench_shapes,
            evidence=evidence,
        )  # fmt: skip
        report = write(folder, report, shipped, attempts.stats, candidates if recipe.pareto else ())
    status = exit_status(recipe, shipped.precision, verdicts.choice, conformance)
    return Result(report, shipped.model, shipped.plan, where, status)


def calibrate(
    model: str | Path,
    target: str,
    data: Data,
    *,
    output: str | Path,
    recipe: Recipe | None = None,
    merge: Sequence[str | Path] = (),
    progress: Progress | None = None,
) -> Path:
    """Collects the statistics that any precision of a target needs, merges older ones in, and writes `stats.npz`.

    Args:
        model, target, data, recipe, progress: as for `compile`.
        output: the file to write.
        merge: statistics of the same model over other samples.

    Raises:
        UserError: input or request cannot be served; nothing is written.
    """
    from qcompiler import backends
    from qcompiler.analysis import Kind, Stats, fingerprint
    from qcompiler.analysis.same_function import SameFunction
    from qcompiler.opening import opened
    from qcompiler.report.folder import check_stats_file
    from qcompiler.search.calibration import calibrated
    from qcompiler.search.candidates import Drafter
    from qcompiler.search.means import open_means

    recipe, tell = recipe or Recipe(), progress or silent
    backend = backends.get(target)
    check_stats_file(Path(output))
    start = opened(Path(model), backend, recipe, data)
    frontend, source = start.frontend, start.samples
    frontend = frontend.checked(same := SameFunction(dict(next(iter(source)).feed)))
    drafter = Drafter(
        frontend.prepared, backend, recipe.keep_float, frontend.given, algorithms=recipe.chosen, same=same
    )
    wanted: dict[str, tuple[Kind, ...]] = {}
    for precision in backend.spec.schemes:
        for name, kinds in drafter.statistics(drafter.draft(precision)).items():
            wanted[name] = tuple(dict.fromkeys((*wanted.get(name, ()), *kinds)))
    with open_means(recipe.workers, recipe.cluster, recipe.journal) as means:
        if means.folder is not None:
            means.about(fingerprint(frontend.original))
        found = calibrated(
            frontend.prepared, source, wanted, memory_budget=recipe.memory_mib << 20, crew=means.crew,
            journal=means.journal, tell=lambda done, total: tell("calibrate", done, total),
        )  # fmt: skip
    for file in merge:
        found = found.merge(Stats.load(Path(file)))
    found.save(Path(output))
    return Path(output)


def silent(stage: str, done: int, total: int | None) -> None:
    """No progress."""


def exit_status(recipe: Recipe, shipped: str, choice: Choice, conformance: Conformance) -> int:
    """0 done; 3 contract or gate failed, or all of a precision that was asked for by name is broken; 4 undecided."""
    promised = recipe.max_drop.promised
    refused = choice.index in choice.broken or (recipe.precision not in ("auto", "float", shipped) and choice.broken)
    if conformance.failures or refused or (promised and choice.verdict == "broken"):
        return 3
    return 4 if promised and choice.verdict == "undecided" else 0
