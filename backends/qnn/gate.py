"""The gate: writes what is shipped, has Qualcomm's library compile it, emulates it, and says who runs where."""

from __future__ import annotations

import itertools
import json
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import Any

from qcompiler import ir
from qcompiler.backends.base import Job
from qcompiler.backends.conformance import Conformance, Fallback
from qcompiler.backends.qnn import legal
from qcompiler.backends.qnn.cache import Border, store
from qcompiler.backends.qnn.compile import CONTEXT, Compiled, Settings, binaries, compiled, shared
from qcompiler.backends.qnn.decompose import WrittenOut
from qcompiler.backends.qnn.emulate import Emulation, OutputCheck, Ran, Values, check, emulated, outputs_of
from qcompiler.backends.qnn.encodings import to_aimet
from qcompiler.backends.qnn.facts import against, facts, finite, planned
from qcompiler.backends.qnn.float16 import Float16Islands
from qcompiler.backends.qnn.runtime import versions
from qcompiler.backends.qnn.samples import write_samples
from qcompiler.backends.qnn.socs import Soc
from qcompiler.backends.qnn.trace import FILE
from qcompiler.passes.prepare.purity import GRID
from qcompiler.pipeline import Pipeline
from qcompiler.targets import TargetSpec

MODEL, ENCODINGS, MANIFEST = "model.qdq.onnx", "model.encodings.json", "manifest.json"
ISLAND = "rule 7: without a Q and DQ that fit the operator computes in float16"


@dataclass(frozen=True, eq=False)
class Outcome:
    """What the backend made of a model; `apart` says why several shapes do not share a binary."""

    compiled: Compiled
    emulations: Sequence[Emulation] = ()
    compatibility: str = ""
    bytes: int = 0
    apart: str = ""


def gate(job: Job, settings: Settings, spec: TargetSpec, *, emulate: int, allow: tuple[str, ...]) -> Conformance:
    """See `Backend.build`."""
    ir.save(job.model, job.folder / MODEL)
    (job.folder / ENCODINGS).write_text(to_aimet(job.planned, job.plan), encoding="utf-8")
    floats, border = first(job, emulate), Border.of(job.model)
    feeds = [border.codes(feed) for feed in floats]
    wanted = outputs_of(job.model, feeds)
    write_samples(job.folder, feeds, wanted)
    known = versions()
    if isinstance(known, str):
        write_manifest(job.folder, settings, {}, None)
        return unchecked(job, f"nothing was compiled: {known}")
    with tempfile.TemporaryDirectory() as work:
        job.tell("compile", 0, None)
        apart = ""
        spelled = WrittenOut(job, spec)
        write_out = partial(written_out, spelled, store_cache=bool(border.grids))
        made = compiled(job.model, settings, write_out, job.folder, Path(work) / "compile")
        if made.written and spelled.job is not None:
            job = spelled.job
            (job.folder / ENCODINGS).write_text(to_aimet(job.planned, job.plan), encoding="utf-8")
        if made.turned or made.written:
            ir.save(made.model, job.folder / MODEL)
            wanted = outputs_of(made.model, feeds)
            shutil.rmtree(job.folder / "samples", ignore_errors=True)
            write_samples(job.folder, feeds, wanted)
        emulations = []
        if made.ok and feeds:
            real = outputs_of(job.original, floats)
            for soc in settings.socs:
                file = job.folder / (CONTEXT if len(settings.socs) == 1 else MODEL)
                got, seconds, error = emulated(file, feeds, soc, Path(work) / soc.name, job.tell)
                checks = {} if error else checked(border, got, wanted, real)
                emulations.append(Emulation(soc, checks, len(got), seconds, error))
        keep_trace(Path(work), job.folder)
        if made.ok and job.others and made.written:
            apart = f"{legal.shown([*made.written])} had to be written out at one of them"
        elif made.ok and job.others:
            others = [turned_alike(other, made.turned) for other in job.others]
            fitting = [floats, *([fitted(feed, other) for feed in floats] for other in others)]
            coded = [[border.codes(feed) for feed in some] for some in fitting]
            apart, results = shared([made.model, *others], coded, settings, job.folder, Path(work) / "shared")
            for number, other in enumerate(others, 2):
                ir.save(other, job.folder / f"model_{number}.qdq.onnx")
            if feeds:
                models = (made.model, *others)
                emulations = [*map(partial(emulation_of, job, settings.socs[0]), models, fitting, results)]
                emulations[0] = replace(emulations[0], shape="")
    size = sum(file.stat().st_size for file in binaries(job.folder))
    outcome = Outcome(made, emulations, compatibility(job.folder / CONTEXT), size, apart)
    write_manifest(job.folder, settings, known, outcome)
    return conformance(job, settings, outcome, allow)


def first(job: Job, count: int) -> list[Values]:
    """The first samples."""
    return [] if job.samples is None else [dict(sample.feed) for sample in itertools.islice(iter(job.samples), count)]


def emulation_of(job: Job, soc: Soc, model: ir.Model, feeds: Sequence[Values], result: Ran) -> Emulation:
    """What was run at one of several sets of shapes, beside the same in ONNX Runtime."""
    (got, seconds, error), border = result, Border.of(model)
    wanted = outputs_of(model, [border.codes(feed) for feed in feeds])
    checks = {} if error else checked(border, got, wanted, outputs_of(job.original, feeds))
    shape = ", ".join(f"{tensor.name}={'x'.join(map(str, tensor.shape))}" for tensor in model.inputs)
    return Emulation(soc, checks, len(got), seconds, error, shape)


def checked(
    border: Border, got: Sequence[Values], quantized: Sequence[Values], real: Sequence[Values]
) -> Mapping[str, OutputCheck]:
    """Compares outputs in numbers."""
    return check(list(map(border.numbers, got)), list(map(border.numbers, quantized)), real)


def written_out(spelled: WrittenOut, names: frozenset[str], *, store_cache: bool) -> ir.Model | None:
    """The model with some nodes written out, its border as it was."""
    model = spelled.model(names)
    return store(model).model if model is not None and store_cache else model


def fitted(feed: Values, model: ir.Model) -> Values:
    """The values of a feed, repeated or cut along each axis to the sizes of a model's inputs."""
    found = {}
    for tensor in model.inputs:
        values = feed[tensor.name]
        for axis, size in enumerate(tensor.shape):
            values = values.take(range(size), axis=axis, mode="wrap")
        found[tensor.name] = values
    return found


def turned_alike(model: ir.Model, turned: Mapping[str, str]) -> ir.Model:
    """The model at another shape with the same nodes in float16."""
    if turned:
        Pipeline().graph(model, [Float16Islands(frozenset(turned))])
    return model


def keep_trace(work: Path, folder: Path) -> None:
    """The operator trace of the last compile goes beside the context."""
    traces = sorted(work.glob(f"compile/*/{FILE}"))
    if traces:
        shutil.copyfile(traces[-1], folder / FILE)


def compatibility(context: Path) -> str:
    """What the provider notes in a context about what it was made for."""
    if not context.is_file():
        return ""
    import onnx

    proto = onnx.load(context, load_external_data=False)
    return next((entry.value for entry in proto.metadata_props if entry.key.startswith("ep_compatibility_info")), "")


# ---- what is said
def conformance(job: Job, settings: Settings, outcome: Outcome, allow: tuple[str, ...]) -> Conformance:
    """The outcome in the words of the report."""
    made, trace, plan = outcome.compiled, outcome.compiled.trace, job.plan.nodes
    nodes = {node.name: node for node in made.model.all_nodes() if node.op not in GRID}
    islands = [name for name in trace.islands if nodes[name].op != "Cast"]
    quantized = any(True for _ in job.plan.quantized())
    unplanned = [name for name in islands if quantized and against(plan, name) and name not in made.turned]
    unplanned = [name for name in unplanned if not allowed(name, allow)]
    fallback = [Fallback(name, "CPU", why) for name, why in made.refused.items() if not allowed(name, allow)]
    failures = legal.failures(settings.socs, islands if made.ok else ()) + legal.shifted(job.plan)
    if unplanned:
        failures.append(f"float16 where integers were planned: {legal.shown(unplanned)} ({ISLAND})")
    if not made.ok and (fallback or not made.refused):
        failures.append(f"the strict compile is refused{because(made)}")
    if outcome.apart:
        failures.append(f"several shapes do not go into one binary: {outcome.apart}")
    bits = 16 if any(decision.choice.qtype.bits == 16 for _, decision in job.plan.quantized() if decision.choice) else 8
    for emulation in outcome.emulations:
        failures += emulation.failures(bits)
    notes = [*legal.notes(settings.socs, islands), *map(said, outcome.emulations)]
    notes += [f"{name} was turned to float16: {why}" for name, why in made.turned.items()]
    notes += [f"{name} was written out in other operators: {why}" for name, why in made.written.items()]
    return Conformance(
        ops=trace.ops,
        integer_nodes=sum(name in nodes and planned(plan, name) and name not in islands for name in trace.nodes)
        if quantized
        else 0,
        float_nodes=len(islands),
        boundaries=len(trace.borders) + len(trace.converts),
        fallback=tuple(fallback),
        surprises=tuple(Fallback(name, "float16", ISLAND) for name in unplanned),
        failures=tuple(failures),
        notes=tuple(notes),
        facts=facts(settings, made, outcome.emulations, outcome.bytes, plan, nodes, islands),
        compiled=made.ok,
        executed=bool(outcome.emulations) and not any(emulation.error for emulation in outcome.emulations),
        instead=(job.planned, made.model, job.plan) if made.turned or made.written else None,
    )


def said(emulation: Emulation) -> str:
    """The emulation in one sentence."""
    if not emulation.outputs:
        return f"nothing was emulated on {emulation.where}"
    name, check = min(emulation.outputs.items(), key=lambda item: item[1].qdq)
    return (
        f"emulated on {emulation.where}: samples {emulation.samples}, {emulation.seconds:.2g} s each; output "
        f"{name!r} is {check.qdq:.1f} dB from the QDQ model and {check.real:.1f} dB from float"
    )


def because(made: Compiled) -> str:
    """Who is in the way, or what the library says."""
    if made.refused:
        return ": " + "; ".join(f"{name!r}: {why}" for name, why in list(made.refused.items())[: legal.EXAMPLES])
    return f": {made.error}"


def allowed(name: str, patterns: Iterable[str]) -> bool:
    """Whether the user lets a node run where it runs."""
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def unchecked(job: Job, why: str) -> Conformance:
    """What can be said where nothing was compiled."""
    integer = sum(node.precision != "float" for node in job.plan.nodes.values())
    ops: dict[str, int] = {}
    for node in job.model.nodes:
        ops[node.op] = ops.get(node.op, 0) + 1
    return Conformance(
        dict(sorted(ops.items())),
        integer,
        len(job.plan.nodes) - integer,
        0,
        notes=(why,),
        compiled=False,
        executed=False,
    )


def write_manifest(folder: Path, settings: Settings, known: Mapping[str, str], outcome: Outcome | None) -> None:
    """What the context was made for, by what, and how."""
    data: dict[str, Any] = {
        "socs": [asdict(soc) for soc in settings.socs],
        "versions": dict(known),
        "options": {"embed": settings.embed, "htp_graph_finalization_optimization_mode": settings.optimize},
        "model": MODEL,
        "context": "",
        "ep_compatibility_info": "",
        "emulation": [],
    }
    if outcome is not None:
        data["context"] = CONTEXT if outcome.compiled.ok else ""
        data["ep_compatibility_info"] = outcome.compatibility
        data["emulation"] = [
            {"soc": emulation.soc.name, "samples": emulation.samples, "worst_qdq_db": finite(emulation.worst or 0.0)}
            for emulation in outcome.emulations
        ]
    text = json.dumps(data, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    (folder / MANIFEST).write_text(text, encoding="utf-8")
