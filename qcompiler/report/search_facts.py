"""What a search for mixed precision learnt: for report.json, for the table, and for the plans of the Pareto front."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qcompiler.quant.plan_file import plan_to_json
from qcompiler.report.columns import Line, plural, shortened, table
from qcompiler.report.record import CandidateLine, Report

if TYPE_CHECKING:
    from qcompiler.search.candidates import Candidate
    from qcompiler.search.mix import Evidence

SCHEMA = 1
PARETO = "pareto"
PLACED = "placement"
"""The rule of nodes that the search or the times left float (see `search.candidates`)."""


def search_facts(evidence: Evidence | None) -> dict[str, object]:
    """The `search` key of the report; empty where nothing was searched."""
    if evidence is None:
        return {}
    return {
        "base": evidence.base,
        "why": evidence.why,
        "samples": evidence.samples,
        "times": evidence.times,
        "groups": [asdict(group) for group in evidence.groups],
        "steps": [
            {
                "float_groups": len(step.proposal.floats),
                "predicted_us": round(step.proposal.microseconds, 3),
                "predicted_damage": step.proposal.damage,
                "kept": step.kept,
                "drop": step.drop,
            }
            for step in evidence.steps
        ],
    }


def exceptions(report: Report) -> list[Mapping[str, Any]]:
    """The groups of the search that the shipped plan leaves float, most harmful first."""
    floats = {node.name for node in report.nodes if node.precision == "float" and node.rule == PLACED}
    return [group for group in report.search.get("groups", ()) if floats & set(group["nodes"])]


def exception_lines(report: Report, shown: int) -> Iterator[Line]:
    """The table of exceptions: what stays float, what harm that avoids, what it costs in time."""
    found = exceptions(report)
    if not found:
        return
    yield Line(f"left float by the search ({plural(len(found), 'group')}; harm of each alone, times):")
    rows = [
        [
            shortened(str(group["name"]), 30),
            str(group["op"]),
            "exact" if group["sqnr_db"] is None else f"{group['sqnr_db']:.1f} dB",
            _times(group),
        ]
        for group in found[:shown]
    ]
    yield from map(Line, table(rows, right=(2,), indent=2))
    if len(found) > shown:
        yield Line(f"  and {plural(len(found) - shown, 'more group')}: report.json", "faint")


def _times(group: Mapping[str, Any]) -> str:
    if group["quantized_us"] is None:
        return ""
    return f"{group['quantized_us']:.0f} us in {group['precision']}, {group['float_us']:.0f} us in float"


def evidence_for(report: Report, node: str) -> Mapping[str, Any] | None:
    """What the search measured of the group of a node; None where it measured nothing."""
    return next((group for group in report.search.get("groups", ()) if node in group["nodes"]), None)


def write_front(folder: Path, lines: Sequence[CandidateLine], candidates: Sequence[Candidate]) -> None:
    """The Pareto front, `pareto/front.json`, and the plan of each point beside it."""
    place = folder / PARETO
    place.mkdir()
    points = []
    for number, (line, candidate) in enumerate(zip(lines, candidates, strict=True)):
        if not line.front:
            continue
        name = f"plan-{number}.json"
        (place / name).write_text(plan_to_json(candidate.plan), encoding="utf-8")
        points.append({**asdict(line), "plan": name})
    text = json.dumps({"schema": SCHEMA, "points": points}, indent=1, sort_keys=True, allow_nan=False)
    (place / "front.json").write_text(text + "\n", encoding="utf-8")
