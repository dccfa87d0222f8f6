"""The facts about a model, for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from qcompiler.report.columns import Line, counted, plural, shortened, size, table, wrapped

SHOWN = 12


def facts_lines(facts: Mapping[str, Any], *, nodes: bool = False) -> Iterator[Line]:
    """The summary; with `nodes`, every node of the prepared graph behind it."""
    opsets = ", ".join(f"{domain} {version}" for domain, version in facts["opsets"].items())
    producer = f", from {facts['producer']}" if facts["producer"] else ""
    yield Line(f"{facts['file']}: {size(facts['bytes'])}", "title")
    yield from map(Line, wrapped("opsets       ", f"{opsets}; IR {facts['ir_version']}{producer}"))
    for word in ("inputs", "outputs"):
        for i, value in enumerate(facts[word]):
            yield from map(Line, wrapped(f"{word if i == 0 else '':13}", _value(value)))
    if facts["dynamic"]:
        names = "; ".join(f"{name} ({', '.join(places)})" for name, places in facts["dynamic"].items())
        yield from map(Line, wrapped("dynamic      ", f"{names}; --shape NAME=NUMBER fixes one"))
    yield from _parameters(facts)
    yield from _nodes(facts)
    yield from _work(facts)
    for key, value in facts["metadata"].items():
        yield from map(Line, wrapped("metadata     ", f"{key} = {shortened(' '.join(str(value).split()), 120)}"))
    if nodes:
        yield Line("")
        yield Line("nodes after preparation (the names that --keep-float takes):", "title")
        width = max((len(node["op"]) for node in facts["prepared"]), default=0)
        # one line a node, however long, so that names can be searched and copied
        yield from (Line(f"  {n['op']:{width}}  {n['name']} -> {_results(n)}") for n in facts["prepared"])


def _value(value: Mapping[str, Any]) -> str:
    shape = "unknown shape" if value["shape"] is None else f"[{', '.join(map(str, value['shape']))}]"
    return f"{value['name']}: {value['dtype']} {shape}"


def _parameters(facts: Mapping[str, Any]) -> Iterator[Line]:
    for i, (dtype, entry) in enumerate(facts["parameters"].items()):
        text = f"{dtype}: {counted(entry['values'])} in {plural(entry['tensors'], 'tensor')}, {size(entry['bytes'])}"
        yield Line(f"{'parameters' if i == 0 else '':13}{text}")
    outside = facts["external"]
    if outside["tensors"]:
        yield Line(f"external     {plural(outside['tensors'], 'tensor')}, {size(outside['bytes'])}, in files beside it")


def _nodes(facts: Mapping[str, Any]) -> Iterator[Line]:
    inside = f", {facts['in_subgraphs']} of them in subgraphs" if facts["in_subgraphs"] else ""
    ops = ", ".join(f"{op} {count}" for op, count in facts["ops"].items())
    yield from map(Line, wrapped("nodes        ", f"{facts['nodes']}{inside}: {ops}" if ops else "none"))
    if facts["quantized_ops"]:
        present = ", ".join(f"{op} {count}" for op, count in facts["quantized_ops"].items())
        kept = f"; {plural(facts['given_encodings'], 'encoding')} are kept" if facts["given_encodings"] else ""
        yield from map(Line, wrapped("quantized    ", f"already holds {present}{kept}"))
    else:
        yield Line("quantized    no: the model holds no Q/DQ nodes")


def _work(facts: Mapping[str, Any]) -> Iterator[Line]:
    macs = facts["macs"]
    shares = ", ".join(f"{op} {count / macs['total']:.1%}" for op, count in macs["ops"].items() if macs["total"])
    assumed = [f"{name} = 1" for name in macs["assumed_1"]]
    inside = macs["assumed_1_inside"]
    if inside:
        assumed.append(f"{plural(inside, 'open dimension')} inside taken as 1, so at least this")
    note = f" ({'; '.join(assumed)})" if assumed else ""
    text = f"{counted(macs['total'])} multiply-accumulates{note}" + (f": {shares}" if shares else "")
    if macs["unknown"]:
        text += f"; not counted, since shapes are unknown: {plural(len(macs['unknown']), 'node')}"
    yield from map(Line, wrapped("work         ", text))
    rows = []
    for line in facts["targets"]:
        macs_share = "-" if line["macs"] is None else f"{line['macs']:.1%}"
        weights = "-" if line["weights"] is None else f"{line['weights']:.1%}"
        data = "needs data" if line["needs_data"] else ""
        rows.append(
            [f"{line['target']} {line['precision']}", macs_share, weights, f"{line['nodes']}/{line['of_nodes']}", data]
        )
    if rows:
        yield Line("quantizable by the target's table (share of work, of parameters, nodes):")
        yield from map(Line, table(rows, right=(1, 2, 3), indent=2))


def _results(node: Mapping[str, Any]) -> str:
    outputs = ", ".join(_value(value) for value in node["outputs"][:SHOWN])
    return outputs + (f" ({counted(node['macs'])} macs)" if node["macs"] else "")
