"""Puts the record of a compile together, and writes the output folder."""

from __future__ import annotations

import platform
import resource
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from qcompiler import ir
from qcompiler._version import __version__
from qcompiler.analysis import SessionConfig, Stats, Timing, speedup
from qcompiler.backends.base import Backend
from qcompiler.backends.conformance import Conformance
from qcompiler.data import Source
from qcompiler.frontend import Frontend
from qcompiler.passes.prepare.widen_half import stored_short
from qcompiler.quant.plan_file import plan_to_json
from qcompiler.report.build import backend_lines, finite, node_lines, pass_lines, tensor_lines
from qcompiler.report.columns import plural
from qcompiler.report.folder import REPORT, artifacts, sha256
from qcompiler.report.language_facts import language_facts
from qcompiler.report.record import Accuracy, CandidateLine, Latency, Report
from qcompiler.report.search_facts import search_facts, write_front
from qcompiler.report.session_facts import session_facts
from qcompiler.search.candidates import Candidate
from qcompiler.search.contest import Contract
from qcompiler.search.front import Point, front
from qcompiler.search.judge import Outcome, Verdicts
from qcompiler.search.mix import Evidence
from qcompiler.search.tune import Tuned

PLAN, STATS = "plan.json", "stats.npz"
BOUNDS = {
    "pairs": "exact, from discordant pairs",
    "share": "exact, from disagreements",
    "draws": "paired bootstrap",
}


def assemble(
    frontend: Frontend,
    backend: Backend,
    asked: str,
    threads: int,
    candidates: Sequence[Candidate],
    verdicts: Verdicts,
    conformance: Conformance,
    stats: Stats | None,
    *,
    contract: Contract,
    source: Source | None,
    judged_on: Source | None,
    seconds: float,
    notes: Sequence[str],
    tuned: Tuned,
    optimized: bool,
    bench_shapes: Sequence[str] = (),
    evidence: Evidence | None = None,
) -> Report:
    """The record, before anything is written."""
    index = verdicts.choice.index
    best = front([point(c, o) for c, o in zip(candidates, verdicts.outcomes, strict=True)])
    shipped, outcome = candidates[index], verdicts.outcomes[index]
    records = [*frontend.pipeline.trace.records, *shipped.trace.records]
    said = [*frontend.pipeline.trace.notes, *shipped.trace.notes, *notes]
    said += [
        f"{c.precision} broke first at {o.broken_at}"
        for c, o in zip(candidates, verdicts.outcomes, strict=True)
        if o.broken_at
    ]
    if backend.host.modelled:
        said.insert(0, backend.host.modelled)
    if judged_on is None:
        timed = "; latency was measured on an input of ones" if outcome.timing is not None else ""
        said.append(f"accuracy was not measured: there is no data{timed}")
    elif judged_on is source:
        said.append("accuracy was measured on the calibration samples; give --eval for others")
    said += accuracy_notes(outcome, verdicts, contract)
    said += [f"{f.node} was planned as quantized and runs as {f.runs_as}: {f.rule}" for f in conformance.fallback]
    said += [f"{s.node} runs as {s.runs_as}: {s.rule}" for s in conformance.surprises]
    said += conformance.notes
    said += size_notes(frontend.original, shipped.model)
    config = SessionConfig(threads=threads, entries=backend.host.entries)
    return Report(
        tool={"name": "qcompiler", "version": __version__, "python": platform.python_version()},
        model=describe(frontend),
        target={"name": backend.spec.name, "variant": backend.variant, "asked": asked, "shipped": shipped.precision},
        calibration={
            "samples": stats.samples if stats is not None else 0,
            "method": shipped.method,
            "source": source.description if source is not None else "",
            "seconds": round(seconds, 3),
            "peak_rss_mib": round(peak_rss_mib(), 1),
        },
        passes=pass_lines(records),
        nodes=node_lines(shipped.planned, shipped.plan),
        tensors=tensor_lines(shipped.plan, stats),
        accuracy=accuracy(outcome, verdicts, contract),
        latency=latency(outcome, verdicts, threads, bench_shapes, modelled=bool(backend.host.modelled)),
        size={"float_bytes": frontend.original.weights_bytes(), "quantized_bytes": shipped.model.weights_bytes()},
        backend=backend_lines(backend.spec.name, backend.version, conformance),
        candidates=tuple(
            candidate_line(c, o, reason, i == index, front=i in best)
            for i, (c, o, reason) in enumerate(zip(candidates, verdicts.outcomes, verdicts.choice.reasons, strict=True))
        ),
        notes=tuple(dict.fromkeys(said)),
        artifacts=(),
        session=session_facts(tuned, optimized=optimized),
        search=search_facts(evidence),
        language=language_facts(frontend.original, shipped.runs, outcome, judged_on, config),
    )


def size_notes(given: ir.Model, made: ir.Model) -> list[str]:
    """What a reader should know where weights that came in a short type take more space than they did."""
    before, after = given.weights_bytes(), made.weights_bytes()
    grown = stored_short(given) and after > before
    return [f"weights take {after} bytes, more than the {before} of the model as given"] if grown else []


def describe(frontend: Frontend) -> dict[str, object]:
    """The model's part of the report."""
    model = frontend.original
    return {
        "name": frontend.path.name,
        "sha256": sha256(frontend.path),
        "opset": model.opset,
        "inputs": {i.name: [str(i.dtype), list(i.shape) if i.shape is not None else None] for i in frontend.inputs},
        "outputs": [tensor.name for tensor in model.outputs],
        "nodes": sum(1 for _ in model.all_nodes()),
    }


def accuracy(outcome: Outcome, verdicts: Verdicts, contract: Contract) -> Accuracy:
    """The accuracy of the shipped candidate."""
    result, verdict = outcome.result, verdicts.choice.verdict
    said = Accuracy(
        "", None, None, None, None, None, 0, verdict,
        confidence=contract.confidence, limit=str(contract.limit), stated=contract.limit.stated,
    )  # fmt: skip
    if result is None:
        return said
    evaluation, loss = result.evaluation, result.loss
    return replace(
        said,
        metric=evaluation.metric,
        float=finite(evaluation.float_value, 6),
        quantized=finite(evaluation.value, 6),
        drop=finite(loss.drop, 6),
        ci_low=finite(loss.ci_low, 6),
        ci_high=finite(loss.ci_high, 6),
        samples=evaluation.samples,
        output_sqnr_db={name: finite(db) for name, db in evaluation.output_sqnr_db.items()},
        unit=evaluation.measure.unit,
        bound=BOUNDS[evaluation.measure.bound],
        max_drop=finite(result.max_drop, 6),
        samples_needed=result.needed if verdict == "undecided" else None,
        stopped_early=result.early,
    )


def accuracy_notes(outcome: Outcome, verdicts: Verdicts, contract: Contract) -> list[str]:
    """Why fewer samples were judged than there are; and a limit that nobody asked for fails nothing, so it warns."""
    result, limit = outcome.result, contract.limit
    if result is None or result.max_drop is None:
        return []
    seen = plural(result.evaluation.samples, "sample")
    said = [f"evaluation stopped after {seen}: the verdict was clear"] if result.early else []
    match verdicts.choice.verdict:
        case "undecided" if not limit.stated:
            more = f"about {result.needed} would do" if result.needed else "no number of them would do"
            said.append(f"{seen} cannot show that the loss is within {limit}: {more}")
        case "broken" if not limit.stated:
            said.append(f"the loss is more than {limit}; --max-drop says what is allowed")
    return said


def latency(
    outcome: Outcome, verdicts: Verdicts, threads: int, shapes: Sequence[str] = (), *, modelled: bool
) -> Latency:
    """The latency of the shipped candidate beside the model as given, in all and for each shape."""
    if outcome.timing is None or verdicts.float_timing is None:
        return Latency(None, None, None, None, threads, modelled)
    return Latency(
        finite(verdicts.float_timing.median_ms, 4),
        finite(outcome.timing.median_ms, 4),
        finite(outcome.judged.speedup),
        finite(outcome.judged.noise),
        threads,
        modelled,
        shape_lines(shapes, verdicts.float_timing, outcome.timing),
    )


def shape_lines(shapes: Sequence[str], given: Timing, shipped: Timing) -> tuple[dict[str, object], ...]:
    """Latency before and after of each shape that was asked for."""
    return tuple(
        {
            "shape": shape,
            "float_ms": finite(before.median_ms, 4),
            "quantized_ms": finite(after.median_ms, 4),
            "speedup": finite(speedup(before, after).ratio),
        }
        for shape, before, after in zip(shapes, given.parts or (given,), shipped.parts or (shipped,), strict=False)
    )


def point(candidate: Candidate, outcome: Outcome) -> Point:
    """One candidate on the Pareto front, or off it."""
    judged = outcome.judged
    noise = None if judged.worst_sqnr_db is None else -judged.worst_sqnr_db
    time = None if judged.speedup is None else 1 / judged.speedup
    return Point(judged.drop, noise, time, candidate.model.weights_bytes())


def candidate_line(
    candidate: Candidate, outcome: Outcome, reason: str, shipped: bool, *, front: bool = False
) -> CandidateLine:
    """One candidate."""
    judged, evaluation = outcome.judged, outcome.evaluation
    methods = {decision.encoding.method for _, decision in candidate.plan.quantized() if decision.encoding is not None}
    shown = [candidate.method] if candidate.precision == "float" or candidate.method in methods else []
    put = Counter(where.precision for where in candidate.placed.values())
    shown += [f"{plural(count, 'node')} {precision}" for precision, count in sorted(put.items())]
    return CandidateLine(
        candidate.precision,
        ", ".join(shown),
        finite(evaluation.value, 6) if evaluation else None,
        finite(judged.drop, 6),
        finite(judged.worst_sqnr_db),
        finite(judged.speedup),
        candidate.model.weights_bytes(),
        shipped,
        reason,
        front,
    )


def peak_rss_mib() -> float:
    """Largest memory of this process so far, in MiB; Linux counts in KiB, macOS in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


def write(
    folder: Path, report: Report, shipped: Candidate, stats: Stats | None, points: Sequence[Candidate] = ()
) -> Report:
    """Writes plan, statistics and report beside what the backend built; of `points` those on the Pareto front, too.

    Returns:
        The report with its artifacts.
    """
    (folder / PLAN).write_text(plan_to_json(shipped.plan), encoding="utf-8")
    if stats is not None:
        stats.save(folder / STATS)
    if points:
        write_front(folder, report, points)
    report = replace(report, artifacts=artifacts(folder))
    (folder / REPORT).write_text(report.to_json(), encoding="utf-8")
    return report
