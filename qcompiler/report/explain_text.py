"""The answers of `explain` for a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from qcompiler.report.columns import Line, plural, shortened, table, wrapped
from qcompiler.report.explain import Answer
from qcompiler.report.search_facts import costs

SHOWN = 5


def output_lines(answer: Answer) -> list[Line]:
    """The summary of a compile."""
    target = ":".join(str(answer["target"][key]) for key in ("name", "variant") if answer["target"].get(key))
    nodes = ", ".join(f"{count} {precision}" for precision, count in answer["nodes"].items())
    found = [Line(f"{answer['model'].get('name') or 'model'} for {target}", "title"), Line(f"nodes: {nodes or 'none'}")]
    if answer["rules"]:
        found.append(Line("quantized, by rule of the target:"))
        found += map(Line, table([[str(n), rule] for rule, n in answer["rules"].items()], right=(0,), indent=2))
    if answer["stayed_float"]:
        found.append(Line("stayed float, by reason:"))
        rows = [
            [str(len(group["nodes"])), f"{group['reason']} ({_members(group)})"] for group in answer["stayed_float"]
        ]
        found += map(Line, table(rows, right=(0,), indent=2))
    for entry in answer["fallback"]:
        text = f"{entry.get('node')} was planned as quantized and runs as {entry.get('runs_as')}: {entry.get('rule')}"
        found += (Line(line, "bad") for line in wrapped("fell back: ", text))
    if answer["candidates"]:
        found.append(Line("tried:"))
        rows = [[f"{c['precision']} {c['method'] or ''}".strip(), c["reason"]] for c in answer["candidates"]]
        found += map(Line, table(rows, indent=2))
    if answer["refusals"]:
        found.append(Line("rewrites that looked possible and were refused (first reason):"))
        rows = [[str(entry["count"]), f"{entry['rule']}: {entry['reason']}"] for entry in answer["refusals"]]
        found += map(Line, table(rows, right=(0,), indent=2))
    if answer["notes"]:
        found.append(Line("notes:"))
        found += (Line(line) for note in answer["notes"] for line in wrapped("  - ", note))
    return found


def _members(group: Any) -> str:
    names = ", ".join(shortened(name, 40) for name in group["nodes"][:SHOWN])
    return names if len(group["nodes"]) <= SHOWN else f"{names}, and {len(group['nodes']) - SHOWN} more"


def node_lines(answer: Answer) -> Iterator[Line]:
    """One node."""
    yield Line(f"{answer['op']} {answer['node']}: {answer['precision']}", "title")
    source = f" ({answer['source']})" if answer["source"] and answer["source"] != answer["reason"] else ""
    yield from map(Line, wrapped("  rule    ", str(answer["rule"])))
    yield from map(Line, wrapped("  reason  ", f"{answer['reason']}{source}"))
    for group in answer.get("evidence") or ():
        yield from map(Line, wrapped("  measured ", evidence(group)))
    for operand in answer["inputs"]:
        yield from map(Line, wrapped(f"  input {operand['port']}: ", f"{operand['tensor']}: {encoding(operand)}"))
    for operand in answer["outputs"]:
        yield from map(Line, wrapped("  output:  ", f"{operand['tensor']}: {encoding(operand)}"))
    for refusal in answer["refusals"]:
        yield from map(Line, wrapped("  refused ", f"{refusal['rule']}: {refusal['reason']}"))
    if answer["fallback"]:
        text = f"runs as {answer['fallback'].get('runs_as')}: {answer['fallback'].get('rule')}"
        yield from (Line(line, "bad") for line in wrapped("  fell back: ", text))


def tensor_lines(answer: Answer) -> Iterator[Line]:
    """One tensor."""
    yield Line(str(answer["tensor"]), "title")
    producer = answer["producer"]
    made = f"{producer['op']} {producer['name']}" if producer else "nothing: an input or a constant"
    yield from map(Line, wrapped("  made by  ", made))
    readers = ", ".join(f"{node['op']} {node['name']}" for node in answer["readers"][:SHOWN])
    more = f", and {len(answer['readers']) - SHOWN} more" if len(answer["readers"]) > SHOWN else ""
    yield from map(Line, wrapped("  read by  ", (readers or "nothing: an output") + more))
    if not answer["stored"]:
        yield Line("  float, for every reader")
    for entry in answer["stored"]:
        use = f"for {entry['used_by']}: " if entry["used_by"] else ""
        yield from map(Line, wrapped("  stored   ", f"{use}{encoding(entry)}"))
        if entry.get("options"):
            yield from map(Line, wrapped("           ", f"accepted by the target: {'; '.join(entry['options'])}"))


def evidence(group: Any) -> str:
    """What the search measured of a node's group."""
    alone = (
        "leaves every output exact" if group["sqnr_db"] is None else f"leaves {group['sqnr_db']:.1f} dB at the worst"
    )
    said = [f"{group['precision']} of its group alone {alone}"]
    if group["local_db"] is not None:
        said.append(f"{group['local_db']:.1f} dB behind the group")
    return ", ".join([*said, *filter(None, [costs(group, group["unit"])])])


def encoding(entry: Any) -> str:
    """One stored value in words: type, numbers, where they come from."""
    if "site" not in entry:
        return "float"
    words = [entry.get("form") or entry["dtype"], _numbers(entry)]
    if entry.get("range"):
        words.append(f"range {entry['range'][0]:.4g} to {entry['range'][1]:.4g}")
    if entry.get("same_as"):
        words.append(f"same encoding as {shortened(entry['same_as'], 40)}")
    if entry["method"]:
        words.append(f"by {entry['method']}")
    if entry["sqnr_db"] is not None:
        words.append(f"signal/noise {entry['sqnr_db']:.1f} dB")
    if entry["why"]:
        words.append(entry["why"])
    return ", ".join(word for word in words if word)


def _numbers(entry: Any) -> str:
    scale, zero = entry["scale"], entry["zero_point"]
    if isinstance(scale, list):
        if not scale:
            return ""
        points = set(zero if isinstance(zero, list) else [zero])
        point = f"zero point {points.pop()}" if len(points) == 1 else "several zero points"
        return f"{plural(len(scale), 'scale')} {min(scale):.4g} to {max(scale):.4g}, {point}"
    if isinstance(zero, list):
        zero = zero[0] if zero else 0
    return f"scale {scale:.4g}, zero point {zero}"
