"""The short table that a compile prints: what was gained, what it cost, what stayed float and why."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import PurePath
from typing import Any

from qcompiler.report.columns import (
    NO_BREAK,
    Line,
    Style,
    blocks,
    milliseconds,
    plural,
    shortened,
    size,
    table,
    wrapped,
)
from qcompiler.report.language_text import language_rows
from qcompiler.report.reasons import stayed_float
from qcompiler.report.record import Accuracy, CandidateLine, Latency, Report
from qcompiler.report.search_facts import exception_lines
from qcompiler.report.session_facts import finding_lines, session_lines

SHOWN = 5
_STYLES: dict[str, Style] = {"holds": "good", "broken": "bad", "undecided": "bad"}


def lines(report: Report, folder: str = "", *, shown: int = SHOWN) -> list[Line]:
    """The table, at most 80 characters wide.

    Args:
        report: the record.
        folder: where the artifacts are, as the user would write it; empty if nothing was written.
        shown: groups of float nodes, candidates and notes to show at most.
    """
    found = [Line(_title(report), "title"), Line("")]
    found += _figures(report)
    found.append(Line(""))
    found += _nodes(report, folder, shown)
    found += exception_lines(report, shown)
    found += finding_lines(list(report.backend.get("findings") or ()), shown)
    found += _tried(report, shown)
    found += session_lines(report.session)
    found += _notes(report, shown)
    found += _artifacts(report, folder)
    return found


def summary(report: Report, folder: str = "", *, shown: int = SHOWN) -> str:
    """`lines` without styles, one string."""
    return "".join(f"{line.text}\n" for line in lines(report, folder, shown=shown))


def _title(report: Report) -> str:
    """ "model.onnx -> onnxruntime:vnni, int8, mse ranges from 256 samples"."""
    target, chosen = report.target, shipped(report)
    where = ":".join(str(target[key]) for key in ("name", "variant") if target.get(key))
    parts = [where, chosen.precision if chosen else str(target.get("precision", ""))]
    samples = int(report.calibration.get("samples") or 0)
    method = chosen.method.split(",")[0] if chosen and chosen.method[:1].isalpha() else ""  # not "3 nodes float"
    if samples and method and report.tensors and all(line.method != "dynamic" for line in report.tensors):
        parts.append(f"{method} ranges from {plural(samples, 'sample')}")
    name = PurePath(str(report.model.get("name") or report.model.get("path") or "model")).name
    return shortened(f"{name} -> {', '.join(part for part in parts if part)}", 80)


def shipped(report: Report) -> CandidateLine | None:
    """The candidate that is in the output."""
    return next((line for line in report.candidates if line.shipped), None)


def _figures(report: Report) -> Iterator[Line]:
    accuracy, latency = report.accuracy, report.latency
    before, after = int(report.size["float_bytes"]), int(report.size["quantized_bytes"])
    ratio = f"{before / after:.2f}x smaller" if 0 < after <= before else f"{after / max(before, 1):.2f}x larger"
    rows = [["", "float", "quantized", ""], _accuracy(accuracy)]
    rows += [*_fidelity(accuracy), *language_rows(report.language)]
    rows += [_latency(latency), *map(_shape, latency.shapes), ["weights", size(before), size(after), ratio]]
    style = _STYLES.get(accuracy.verdict, "")
    kept = shipped(report)
    said = "holds: what ships is float" if kept and kept.precision == "float" else contract(accuracy)
    rows += [["contract", "", "", said]] if style else []
    for row, block in zip(rows, blocks(rows, right=(1, 2)), strict=True):
        yield from (Line(line, style if row[0] == "contract" else "") for line in block)


def contract(accuracy: Accuracy) -> str:
    """The verdict in words: of what, how sure, and what would settle it."""
    if accuracy.limit == "none":  # an older report does not say
        return accuracy.verdict
    limit = accuracy.limit if accuracy.stated else f"{accuracy.limit} (the default)"
    sure = "" if accuracy.confidence is None else f", {100 * accuracy.confidence:g}% sure"
    match accuracy.verdict:
        case "holds":
            return f"holds: within {limit}{sure if accuracy.ci_high is not None else ''}"
        case "broken":
            return f"broken: the metric falls by more than {limit}"
    if accuracy.samples_needed is None:
        return f"undecided: within {limit} or not, too few samples to say"
    return f"undecided: within {limit} or not, about {accuracy.samples_needed} samples would tell"


def _accuracy(accuracy: Accuracy) -> list[str]:
    if accuracy.drop is None or accuracy.unit == "noise":
        return _noise(accuracy) if accuracy.drop is not None else ["accuracy", "-", "-", "not measured"]
    title = "agreement" if accuracy.metric.startswith("top-1 agreement") else shortened(accuracy.metric, 22)
    drop = f"drop {loss(accuracy, accuracy.drop)}{' points' if is_share(accuracy) else ''}"
    if accuracy.ci_low is not None and accuracy.ci_high is not None:
        drop += f" ({loss(accuracy, accuracy.ci_low)} to {loss(accuracy, accuracy.ci_high)})"
    values = [metric_value(accuracy, value) for value in (accuracy.float, accuracy.quantized)]
    return [title, *values, f"{drop}, {plural(accuracy.samples, 'sample')}"]


def _noise(accuracy: Accuracy) -> list[str]:
    """Where neither labels nor classes are to be had."""
    most = "" if accuracy.ci_high is None else f" (at most {100 * accuracy.ci_high:.3g}%)"
    text = f"noise {100 * (accuracy.drop or 0.0):.3g}% of the signal{most}, {plural(accuracy.samples, 'sample')}"
    return ["accuracy", "-", "-", text]


def loss(accuracy: Accuracy, value: float) -> str:
    """A loss of the metric, in points where it is a share."""
    return f"{100 * value:.2f}" if is_share(accuracy) else f"{value:.4g}"


def is_share(accuracy: Accuracy) -> bool:
    """Whether the metric is a share, shown in percent."""
    return accuracy.unit == "share" or (not accuracy.unit and accuracy.metric.split(" ")[0] == "top-1")


def metric_value(accuracy: Accuracy, value: float | None) -> str:
    """A value of the metric for a person."""
    if value is None:
        return "-"
    unit = " dB" if accuracy.unit in ("dB", "noise") else ""
    return f"{100 * value:.2f}%" if is_share(accuracy) else f"{value:.4g}{unit}"


def _fidelity(accuracy: Accuracy) -> list[list[str]]:
    """The worst output; exact ones (None) are better than any number."""
    measured = {name: value for name, value in accuracy.output_sqnr_db.items() if value is not None}
    if measured:
        worst = min(measured, key=lambda name: measured[name])
        of = f" of {len(accuracy.output_sqnr_db)}" if len(accuracy.output_sqnr_db) > 1 else ""
        return [["signal/noise", "", f"{measured[worst]:.1f} dB", f"at output {shortened(worst, 30)}, the worst{of}"]]
    return [["signal/noise", "", "exact", "every output equals the float model's"]] if accuracy.output_sqnr_db else []


def _latency(latency: Latency) -> list[str]:
    if latency.float_ms is None or latency.quantized_ms is None or latency.speedup is None:
        return ["latency", "-", "-", "modelled, not measured" if latency.modelled else "not measured"]
    noise = "" if latency.noise is None else f" (+- {latency.noise:.2f})"
    words = f"{latency.speedup:.2f}x as fast{noise}, {plural(latency.threads, 'thread')}"
    words += "; on this machine, which is not the target" if latency.modelled else ""
    return ["latency", milliseconds(latency.float_ms), milliseconds(latency.quantized_ms), words]


def _shape(entry: Mapping[str, Any]) -> list[str]:
    """The latency of one of the shapes that were asked for."""
    before, after, ratio = entry["float_ms"], entry["quantized_ms"], entry["speedup"]
    if before is None or after is None or ratio is None:
        return [f"  {entry['shape']}", "-", "-", "not measured"]
    return [f"  {entry['shape']}", milliseconds(before), milliseconds(after), f"{ratio:.2f}x as fast"]


def _nodes(report: Report, folder: str, shown: int) -> Iterator[Line]:
    backend = report.backend
    planned = sum(node.precision != "float" for node in report.nodes)
    integer, floats = backend.get("integer_nodes"), backend.get("float_nodes")
    ran = isinstance(integer, int) and isinstance(floats, int)
    by = f" as {backend.get('name', 'the backend')} runs it" if ran else ""
    if not ran:
        integer, floats = planned, len(report.nodes) - planned
        by = f" as planned, what {backend['name']} makes of them is not known" if "compiled" in backend else ""
    yield Line(f"nodes{by}: {integer} integer, {floats} float")
    fallback = _fallback(report)
    for text in fallback[:shown]:
        yield from (Line(line, "bad") for line in wrapped("  ", text))
    yield from _more(len(fallback) - shown, "node", folder)
    for text in backend.get("failures") or ():
        yield from (Line(line, "bad") for line in wrapped("  gate failed: ", text))
    groups = stayed_float(report.nodes) if planned else []
    if groups:
        yield Line("stayed float:")
        rows = [[str(len(g.nodes)), f"{g.reason} (e.g. {shortened(g.nodes[0], 40)})"] for g in groups[:shown]]
        yield from map(Line, table(rows, right=(0,), indent=2))
        yield from _more(len(groups) - shown, "reason", folder)


def _fallback(report: Report) -> list[str]:
    """Nodes that the backend computes in float although the plan has them in integers."""
    return [
        f"{entry.get('node')} was planned as quantized and runs as {entry.get('runs_as')}: {entry.get('rule')}"
        for entry in report.backend.get("fallback") or ()
    ]


def _more(left: int, word: str, folder: str) -> Iterator[Line]:
    if left > 0:
        yield Line(f"  and {left} more {word}{'s' * (left > 1)}: qcompile explain {folder or 'OUT'}", "faint")


def _tried(report: Report, shown: int) -> Iterator[Line]:
    """Why this candidate; said only where there was a choice."""
    if len(report.candidates) < 2:
        return
    yield Line("tried:")
    lines_of = blocks([_candidate(line, report.accuracy) for line in report.candidates], right=(1, 2, 3), indent=2)
    for i, (candidate, block) in enumerate(zip(report.candidates, lines_of, strict=True)):
        if candidate.shipped or i < shown:
            yield from (Line(line, "good" if candidate.shipped else "") for line in block)


def _candidate(line: CandidateLine, accuracy: Accuracy) -> list[str]:
    drop = "-" if line.drop is None else loss(accuracy, line.drop) + (" pt" if is_share(accuracy) else "")
    if line.drop is not None and accuracy.unit == "noise":
        drop = f"{100 * line.drop:.3g}%"
    speed = "-" if line.speedup is None else f"{line.speedup:.2f}x"
    name = " ".join(word for word in (line.precision, line.method) if word)
    said = line.reason if not line.shipped or line.reason.startswith("shipped") else f"shipped: {line.reason}"
    return [name, drop, speed, size(line.bytes), said]


def _notes(report: Report, shown: int) -> Iterator[Line]:
    said = _fallback(report)
    notes = [note for note in report.notes if note not in said]
    if notes:
        yield Line("notes:")
    for note in notes[:shown]:
        yield from map(Line, wrapped("  - ", note))
    if len(notes) > shown:
        yield Line(f"  and {len(notes) - shown} more in report.json", "faint")


def _artifacts(report: Report, folder: str) -> Iterator[Line]:
    if folder:
        inside: dict[str, list[int]] = {}
        for artifact in report.artifacts:
            top, slash, _ = artifact.path.partition("/")
            inside.setdefault(top + slash, []).append(artifact.bytes)
        files = [
            f"{name} ({plural(len(sizes), 'file') + ', ' if name.endswith('/') else ''}{size(sum(sizes))})"
            for name, sizes in inside.items()
        ]
        words = [file.replace(" ", NO_BREAK) for file in files]
        yield from map(Line, wrapped(f"written to {folder}: ", ", ".join([*words, "report.json"])))
