"""What was decided for a node or a tensor, by which rule, on what evidence: questions to an output folder.

Every answer is a plain dictionary, so that `--json` and the text say the same thing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Any

from qcompiler.errors import UsageError
from qcompiler.quant import QuantPlan, Site, SitePlan
from qcompiler.report.read import Output
from qcompiler.report.reasons import stayed_float
from qcompiler.report.record import NodeLine, Report, TensorLine
from qcompiler.report.search_facts import evidence_for

Answer = dict[str, Any]


def explain_output(output: Output) -> Answer:
    """The whole compile: how many nodes of each precision, and what stayed float for which reason."""
    report = output.report
    precisions: dict[str, int] = {}
    for node in report.nodes:
        precisions[node.precision] = precisions.get(node.precision, 0) + 1
    rules: dict[str, int] = {}
    for node in report.nodes:
        if node.precision != "float":
            rules[node.rule] = rules.get(node.rule, 0) + 1
    return {
        "model": dict(report.model),
        "target": dict(report.target),
        "nodes": precisions,
        "rules": dict(sorted(rules.items(), key=lambda item: -item[1])),
        "stayed_float": [
            {"reason": group.reason, "ops": group.ops, "nodes": list(group.nodes)}
            for group in stayed_float(report.nodes)
        ],
        "fallback": list(report.backend.get("fallback") or ()),
        "candidates": [
            {"precision": line.precision, "method": line.method, "shipped": line.shipped, "reason": line.reason}
            for line in report.candidates
        ],
        "refusals": _refusals_by_rule(report),
        "notes": list(report.notes),
    }


def explain_nodes(output: Output, pattern: str) -> list[Answer]:
    """Every node whose name is, or matches, `pattern`.

    Raises:
        UsageError: there is none; the message names close ones.
    """
    nodes = {node.name: node for node in output.report.nodes}
    found = named(pattern, list(nodes), "node", "--node")
    stored = _stored(output)
    return [_node(output, nodes[name], stored) for name in found]


def explain_tensors(output: Output, pattern: str) -> list[Answer]:
    """Every tensor whose name is, or matches, `pattern`.

    Raises:
        UsageError: there is none; the message names close ones.
    """
    report, stored = output.report, _stored(output)
    producers = {name: node for node in report.nodes for name in node.outputs}
    readers: dict[str, list[NodeLine]] = {}
    for node in report.nodes:
        for name in dict.fromkeys(node.inputs):
            readers.setdefault(name, []).append(node)
    known = dict.fromkeys(name for name in [*producers, *readers, *(line.name for line in report.tensors)] if name)
    answers = []
    for name in named(pattern, list(known), "tensor", "--tensor"):
        producer = producers.get(name)
        answers.append(
            {
                "tensor": name,
                "producer": None if producer is None else {"name": producer.name, "op": producer.op},
                "readers": [{"name": node.name, "op": node.op} for node in readers.get(name, ())],
                "stored": [entry for (tensor, _), entry in stored.items() if tensor == name],
            }
        )
    return answers


def named(pattern: str, names: Sequence[str], kind: str, option: str) -> list[str]:
    """The name `pattern`, or all that match it as in the shell.

    Raises:
        UsageError: none does.
    """
    if pattern in names:
        return [pattern]
    found = [name for name in names if fnmatchcase(name, pattern)]
    if not found:
        lower = {name.lower(): name for name in names}
        close = [lower[name] for name in get_close_matches(pattern.lower(), list(lower), 3, 0.5)]
        close += [name for name in names if pattern and pattern.lower() in name.lower()]
        hint = "close: " + ", ".join(dict.fromkeys(close[:3])) if close else "patterns such as 'conv*' are allowed"
        raise UsageError(f"there is no {kind} {pattern!r}", where=option, hint=hint)
    return found


def _stored(output: Output) -> dict[tuple[str, str], Answer]:
    """What is known of each quantized site, by tensor and site."""
    sites = {str(site): decision for site, decision in output.plan.sites.items()}
    return {
        (line.name, line.site or line.name): _site(line, sites.get(line.site or line.name), output.plan)
        for line in output.report.tensors
    }


def _site(line: TensorLine, decision: SitePlan | None, plan: QuantPlan) -> Answer:
    use = Site.parse(line.site or line.name)
    answer: Answer = {
        "site": line.site or line.name,
        "used_by": use.consumer or None,
        "dtype": line.dtype,
        "method": line.method,
        "scale": line.scale,
        "zero_point": line.zero_point,
        "sqnr_db": line.sqnr_db,
        "why": line.why,
    }
    if decision is None:
        return answer
    answer |= {"rule": decision.rule, "options": [str(spec) for spec in decision.options]}
    if decision.choice is not None:
        answer["form"] = str(decision.choice)
    if decision.encoding is not None:
        answer["range"] = list(decision.encoding.range)
    if decision.same_as is not None:
        answer["same_as"] = str(plan.root(use)) if use in plan.sites else str(decision.same_as)
    if decision.derived is not None:
        answer["derived_from"] = [str(decision.derived.x), str(decision.derived.w)]
    return answer


def _node(output: Output, node: NodeLine, stored: dict[tuple[str, str], Answer]) -> Answer:
    report = output.report

    def operand(tensor: str, port: int) -> Answer:
        use, whole = str(Site(tensor, node.name, port)), str(Site(tensor))
        site = stored.get((tensor, use)) or stored.get((tensor, whole)) or stored.get((tensor, tensor))
        return {"tensor": tensor, **(site or {"dtype": "float", "why": "not quantized"})}

    return {
        "node": node.name,
        "op": node.op,
        "precision": node.precision,
        "rule": node.rule,
        "reason": node.reason,
        "source": _source(report, node),
        "inputs": [{"port": port, **operand(name, port)} for port, name in enumerate(node.inputs) if name],
        "outputs": [operand(name, -1) for name in node.outputs if name],
        "refusals": [
            {"pass": step.name, "rule": refusal.get("rule", step.name), "reason": refusal.get("reason", "")}
            for step in report.passes
            for refusal in step.refusals
            if refusal.get("node") == node.name and refusal.get("rule") != "annotate"  # that is the reason above
        ],
        "evidence": evidence_for(report, node.name),
        "fallback": next((e for e in report.backend.get("fallback") or () if e.get("node") == node.name), None),
    }


def _source(report: Report, node: NodeLine) -> str:
    """Where the rule comes from, by the table of the target as this version knows it."""
    from qcompiler import backends

    try:
        target = [str(report.target[key]) for key in ("name", "variant") if report.target.get(key)]
        spec = backends.get(":".join(target)).spec
    except UsageError:
        return ""
    rules = spec.schemes.get(node.precision, ())
    decided = [rule.source for rule in rules if rule.name == node.rule]
    decided += [rule.source for rule in spec.float_rules if node.op in rule.ops and rule.reason == node.reason]
    return next(iter(decided), "")


def _refusals_by_rule(report: Report) -> list[Answer]:
    """How often each rewrite was refused, with the first reason; the plan's refusals are the reasons of the nodes."""
    found: dict[str, Answer] = {}
    for step in report.passes:
        for refusal in _distinct(step.refusals):
            rule = str(refusal.get("rule", step.name))
            entry = found.setdefault(rule, {"rule": rule, "count": 0, "reason": refusal.get("reason", "")})
            entry["count"] += 1
    return sorted((e for e in found.values() if e["rule"] != "annotate"), key=lambda entry: -int(entry["count"]))


def _distinct(refusals: Iterable[Any]) -> list[Any]:
    """Refusals of one pass, each once."""
    return list({(r.get("rule"), r.get("node"), r.get("reason")): r for r in refusals}.values())
