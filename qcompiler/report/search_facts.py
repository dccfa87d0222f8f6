"""What a search for mixed precision learnt: for report.json, for the table, and for the plans of the Pareto front."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qcompiler.quant.plan_file import plan_to_json
from qcompiler.report.columns import Line, plural, shortened, table
from qcompiler.report.record import Report

if TYPE_CHECKING:
    from qcompiler.search.candidates import Candidate
    from qcompiler.search.costs import Unit
    from qcompiler.search.mix import Evidence

SCHEMA = 1
PARETO = "pareto"
IN_PLACE = " in place of "
PLACED = "placement"
"""The rule of nodes that the search or the times left float (see `search.candidates`)."""


def search_facts(evidence: Evidence | None) -> dict[str, object]:
    """The `search` key of the report; empty where nothing was searched."""
    if evidence is None:
        return {}
    return {
        "base": evidence.base,
        "options": list(evidence.options),
        "why": evidence.why,
        "samples": evidence.samples,
        "times": evidence.times,
        "unit": evidence.unit,
        "groups": [asdict(group) for group in evidence.groups],
        "steps": [
            {
                "float_groups": len(step.proposal.floats),
                "chosen": {name: option for name, option in step.proposal.chosen if option != evidence.options[0]},
                "predicted_us": round(step.proposal.microseconds, 3),
                "predicted_damage": step.proposal.damage,
                "kept": step.kept,
                "drop": step.drop,
            }
            for step in evidence.steps
        ],
    }


def exceptions(report: Report) -> list[tuple[Mapping[str, Any], str]]:
    """The groups of the search that are not in their preferred precision, as measured in that, and what they are in."""
    nodes = {node.name: node for node in report.nodes}
    options = report.search.get("options") or ()
    found, seen = [], set[str]()
    for group in sorted(report.search.get("groups", ()), key=lambda group: _rank(group, options)):
        inside = [nodes[name] for name in group["nodes"] if name in nodes]
        put = {n.precision for n in inside if n.rule == PLACED or f"{n.precision}{IN_PLACE}" in n.reason}
        if group["name"] not in seen and put - {group["precision"]}:
            found.append((group, min(put - {group["precision"]}, key=lambda name: (name == "float", name))))
        seen.add(group["name"])
    return sorted(found, key=lambda entry: entry[0]["damage"], reverse=True)


def _rank(group: Mapping[str, Any], options: Sequence[str]) -> int:
    return options.index(group["precision"]) if group["precision"] in options else 0


def exception_lines(report: Report, shown: int) -> Iterator[Line]:
    """The table of exceptions: what is float or in another precision, what harm that avoids, what it costs in time."""
    found = exceptions(report)
    if not found:
        return
    others = any(put != "float" for _, put in found)
    what = "put in another precision by the search" if others else "left float by the search"
    yield Line(f"{what} ({plural(len(found), 'group')}; harm of each alone, times):")
    rows = [
        [shortened(str(group["name"]), 30), str(group["op"]), *([put] if others else []), *_figures(report, group, put)]
        for group, put in found[:shown]
    ]
    yield from map(Line, table(rows, right=(3 if others else 2,), indent=2))
    if len(found) > shown:
        yield Line(f"  and {plural(len(found) - shown, 'more group')}: report.json", "faint")


def _figures(report: Report, group: Mapping[str, Any], put: str) -> tuple[str, str]:
    """Harm and times, in what the group is in and in what it would have been in."""
    before = str(group["precision"])
    now = next((g for g in report.search["groups"] if (g["name"], g["precision"]) == (group["name"], put)), None)
    unit = report.search.get("unit", "seconds")
    if now is None:
        return _harm(group), costs(group, unit)
    times = "" if now["quantized_us"] is None else f"{_cost(now, unit)} in {put}, {_cost(group, unit)} in {before}"
    return f"{_harm(now)} for {_harm(group)}", times


def _harm(group: Mapping[str, Any]) -> str:
    return "exact" if group["sqnr_db"] is None else f"{group['sqnr_db']:.1f} dB"


def _cost(group: Mapping[str, Any], unit: Unit, side: str = "quantized_us") -> str:
    """Microseconds, or what stands in their place."""
    from qcompiler.search.costs import amount

    return amount(group[side] / (1e6 if unit == "seconds" else 1), unit)


def costs(group: Mapping[str, Any], unit: Unit) -> str:
    """Both costs of a group; "" where they are not known."""
    if group["quantized_us"] is None or group["float_us"] is None:
        return ""
    return f"{_cost(group, unit)} in {group['precision']}, {_cost(group, unit, 'float_us')} in float"


def evidence_for(report: Report, node: str) -> list[Mapping[str, Any]]:
    """What the search measured of the group of a node, in each precision that it could have, and the unit of costs."""
    unit = report.search.get("unit", "seconds")
    return [{**group, "unit": unit} for group in report.search.get("groups", ()) if node in group["nodes"]]


def options_in(report: Report, candidate: Candidate) -> dict[str, str]:
    """What a candidate gives each group of the search."""
    found: dict[str, str] = {}
    for group in report.search.get("groups", ()):
        known = [candidate.plan.nodes[name].precision for name in group["nodes"] if name in candidate.plan.nodes]
        found[group["name"]] = next((precision for precision in known if precision != "float"), "float")
    return found


def write_front(folder: Path, report: Report, candidates: Sequence[Candidate]) -> None:
    """The Pareto front, `pareto/front.json`: each point with what it gives every group, and its plan beside it."""
    place = folder / PARETO
    place.mkdir()
    points = []
    for number, (line, candidate) in enumerate(zip(report.candidates, candidates, strict=True)):
        if not line.front:
            continue
        name = f"plan-{number}.json"
        (place / name).write_text(plan_to_json(candidate.plan), encoding="utf-8")
        points.append({**asdict(line), "plan": name, "groups": options_in(report, candidate)})
    text = json.dumps({"schema": SCHEMA, "points": points}, indent=1, sort_keys=True, allow_nan=False)
    (place / "front.json").write_text(text + "\n", encoding="utf-8")
