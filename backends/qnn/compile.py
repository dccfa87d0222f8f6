"""The strict compile: a context binary with no node left to the CPU, or the nodes that stand in the way.

    strict compile  ->  context binary, operator trace
    refused         ->  culprits: from the trace, from the message, else from compiles of single nodes
    culprits        ->  turned to float16 where the chip has it, and the compile is tried again
    still refused   ->  written out in other operators (`decompose`), and again; what has no form is reported

A node that the provider takes at first and refuses after layout transformation fails the session with a message that
names it; a graph that cannot be finalized names nobody, so every node is compiled alone.
docs: QNN fact sheet, rules 1, 3 and 10, sections 2.3 to 2.5.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from qcompiler import ir
from qcompiler.backends.qnn import trace as traces
from qcompiler.backends.qnn.emulate import Ran, Values, ran, running
from qcompiler.backends.qnn.float16 import Float16Islands, open_ports
from qcompiler.backends.qnn.probe import failing
from qcompiler.backends.qnn.runtime import LENIENT, STRICT, Answer, Request, ask, last_line
from qcompiler.backends.qnn.socs import FLOAT16, Soc
from qcompiler.backends.qnn.trace import Trace
from qcompiler.passes.fusion.expand_operators import FORMS
from qcompiler.passes.prepare.purity import GRID
from qcompiler.pipeline import Pipeline

CONTEXT = "model_ctx.onnx"
ROUNDS = 6
NO_FLOAT = "it would need floating point, which the chip does not have"
_NAMED = re.compile(r"Node '([^']+)' OpType:")


@dataclass(frozen=True)
class Settings:
    """How the provider compiles.

    Attributes:
        socs: chips, all in one context.
        embed: the binary goes into the ONNX file.
        optimize: level of finalization, 1 to 3.
    """

    socs: tuple[Soc, ...]
    embed: bool = False
    optimize: int = 3

    def request(
        self, model: Path, context: Path | None, trace: Path | None, *, strict: bool = True, share: str = ""
    ) -> Request:
        """A compile for all chips; with `context` it leaves a context binary, with `trace` an operator trace.

        Args:
            share: "first" or "last" of several graphs that share one binary.
        """
        options = {
            "soc_model": ",".join(str(soc.number) for soc in self.socs),
            "htp_graph_finalization_optimization_mode": str(self.optimize),
        }
        entries = dict(STRICT if strict else LENIENT)
        if trace is not None:
            options |= {"enable_framework_op_trace": "1", "framework_op_trace_dir": str(trace.resolve())}
        if context is not None:
            entries |= {"ep.context_enable": "1", "ep.context_file_path": str(context.resolve())}
            entries |= {"ep.context_embed_mode": "1" if self.embed else "0"}
        if share:
            entries |= {"ep.share_ep_contexts": "1"}
            entries |= {"ep.stop_share_ep_contexts": "1"} if share == "last" else {}
        return {"task": "compile", "model": str(model.resolve()), "options": options, "entries": entries}


@dataclass(frozen=True, eq=False)
class Compiled:
    """What became of a compile.

    Attributes:
        model: the graph that was compiled in the end.
        ok: whether everything runs on the processor.
        trace: what the provider made of it.
        error: why not, in its words.
        refused: reason by name of each node that it does not take, as far as known.
        turned: reason by name of each node that was turned to float16 on the way.
        written: reason by name of each node that was written out in others.
        seconds: of the last compile.
    """

    model: ir.Model
    ok: bool
    trace: Trace
    error: str = ""
    refused: Mapping[str, str] = field(default_factory=dict)
    turned: Mapping[str, str] = field(default_factory=dict)
    written: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 0.0


WriteOut = Callable[[frozenset[str]], "ir.Model | None"]


def compiled(model: ir.Model, settings: Settings, write_out: WriteOut, folder: Path, work: Path) -> Compiled:
    """Compiles until nothing is refused, or nothing more can be done.

    Args:
        model: with Q and DQ.
        settings: see there.
        write_out: the model with some nodes written out in others; None where one of them cannot be.
        folder: where the context goes.
        work: an empty folder for what is not kept.
    """
    turned: dict[str, str] = {}
    written: dict[str, str] = {}
    original, half = model, min(soc.arch for soc in settings.socs) >= FLOAT16
    for number in range(ROUNDS):
        found = replace(once(model, settings, folder, work / str(number)), turned=dict(turned), written=dict(written))
        wrong = found.refused if not found.ok else {} if half else dict.fromkeys(found.trace.islands, NO_FLOAT)
        nodes = {node.name: node for node in model.all_nodes()}
        for name, why in wrong.items():
            if half and name not in turned and any(open_ports(model, nodes[name])):
                turned[name] = why
            elif nodes[name].op in FORMS:
                written[name] = turned.pop(name, why)
        if (turned, written) == (found.turned, found.written):
            break
        other = remedied(original, turned, written, write_out)
        if other is None:
            break
        model = other
    if not found.ok:
        lenient(found.model, settings, folder, work / "lenient")
    return found


def remedied(
    model: ir.Model, turned: Mapping[str, str], written: Mapping[str, str], write_out: WriteOut
) -> ir.Model | None:
    """The model with nodes written out, and others in float16."""
    base = write_out(frozenset(written)) if written else model
    if base is not None and turned:
        base = base.copy()
        Pipeline().graph(base, [Float16Islands(frozenset(turned))])
    return base


def shared(
    models: Sequence[ir.Model], feeds: Sequence[Sequence[Values]], settings: Settings, folder: Path, work: Path
) -> tuple[str, list[Ran]]:
    """Contexts of several graphs in one binary, which holds their weights once, and what each graph computes.

    The graphs run in the sessions that write the binary: the emulator cannot load one that holds several.

    Returns:
        Why it could not be, in the library's words; the outputs of the feeds of each graph.
    """
    work.mkdir(parents=True)
    remove(folder)
    requests = []
    for number, model in enumerate(models):
        file = work / f"{number}.onnx"
        ir.save(model, file)
        share = "last" if number == len(models) - 1 else "first"
        request = settings.request(file, folder / context_name(number), None, share=share)
        requests.append({**request, **running(feeds[number], work / f"run {number}")})
    answers = ask(requests, work / "ask")
    why = next((last_line(answer) for answer in answers if not answer.ok), "")
    return why, [ran(answer, work / f"run {number}") for number, answer in enumerate(answers)]


def context_name(number: int) -> str:
    """The context of a set of shapes; the first is that of the samples."""
    return CONTEXT if not number else f"model_{number + 1}_ctx.onnx"


def once(model: ir.Model, settings: Settings, folder: Path, work: Path) -> Compiled:
    """One strict compile; where it is refused, who is in the way."""
    work.mkdir(parents=True)
    file = work / "model.onnx"
    ir.save(model, file)
    remove(folder)
    answer = ask([settings.request(file, folder / CONTEXT, work)], work / "ask")[0]
    trace = traces.read(work, model) or Trace()
    if answer.ok:
        return Compiled(model, True, trace, seconds=float(answer.facts.get("seconds", 0.0)))
    remove(folder)
    return Compiled(model, False, trace, last_line(answer), culprits(model, settings, answer, trace, work))


def culprits(model: ir.Model, settings: Settings, answer: Answer, trace: Trace, work: Path) -> Mapping[str, str]:
    """The nodes in the way, each with the reason."""
    named = {traces.ours(name): "refused after layout transformation" for name in _NAMED.findall(answer.error)}
    known = {node.name: node for node in model.all_nodes() if node.op not in GRID}
    found = {name: why for name, why in (named or trace.refused).items() if name in known}
    if found and len(found) < len(known):
        return found
    # several chips are compiled for a context only
    alone = replace(settings, socs=(min(settings.socs, key=lambda soc: soc.arch),))
    return failing(model, alone.request, work / "probes")


def lenient(model: ir.Model, settings: Settings, folder: Path, work: Path) -> None:
    """Leaves what can be compiled, with the rest on the CPU: the best result is kept, though the gate has failed."""
    work.mkdir(parents=True)
    ir.save(model, work / "model.onnx")
    answer = ask([settings.request(work / "model.onnx", folder / CONTEXT, None, strict=False)], work / "ask")[0]
    if not answer.ok:
        remove(folder)


def remove(folder: Path) -> None:
    """A context that is there already would be taken as it is."""
    for file in folder.glob("model*_ctx*"):
        file.unlink()


def binaries(folder: Path) -> Sequence[Path]:
    """The files of the context."""
    return sorted(folder.glob("model*_ctx*"))
