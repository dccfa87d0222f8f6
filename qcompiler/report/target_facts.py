"""What can be compiled for: the targets, and the rule table of one with its sources."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from qcompiler import backends
from qcompiler.report.columns import Line, table, wrapped
from qcompiler.targets import REST, Activation, Bias, Float, Operand, OpRule, Output, Same, Scaled, TargetSpec

Facts = dict[str, Any]


def all_targets() -> list[Facts]:
    """Name, summary, variants and precisions of every target; the first variant is the default."""
    return [_target(backends.get(name).spec) for name in backends.names()]


def one_target(name: str) -> Facts:
    """The same for one target ("NAME" or "NAME:VARIANT"), with its rules.

    Raises:
        UsageError: an unknown name or variant.
    """
    spec = backends.get(name).spec
    return {
        **_target(spec),
        "opset": spec.opset,
        "rules": {precision: [_rule(rule) for rule in rules] for precision, rules in spec.schemes.items()},
        "float_rules": [
            {"ops": list(rule.ops), "reason": rule.reason, "source": rule.source} for rule in spec.float_rules
        ],
    }


def _target(spec: TargetSpec) -> Facts:
    return {
        "name": spec.name,
        "summary": spec.summary,
        "variants": dict(spec.variants),
        "precisions": list(spec.precisions),
        "needs_data": sorted(spec.needs_data),
    }


def _rule(rule: OpRule) -> Facts:
    inputs = {"all" if port == REST else str(port): operand_words(operand) for port, operand in rule.inputs.items()}
    return {
        "name": rule.name,
        "ops": list(rule.ops),
        "role": rule.role,
        "inputs": inputs,
        "output": operand_words(rule.output),
        "absorbs": list(rule.absorbs),
        "conditions": [" ".join((c.__doc__ or c.__name__).split()).rstrip(".") for c in rule.conditions],
        "source": rule.source,
    }


def operand_words(operand: Operand | Output) -> str:
    """What an operand must be, in words."""
    match operand:
        case Bias(x=x, w=w):
            return f"int32 with scale of input {x} times scale of input {w}"
        case Float():
            return "float"
        case Same(port=port):
            return f"as input {port}"
        case Scaled(port=port, factor=factor):
            return f"codes of input {port}, scale times input {factor}"
        case Activation(options=options):
            return " or ".join(map(str, options))
        case _:
            return f"constant, {' or '.join(map(str, operand.options))}"


def targets_lines(targets: list[Facts]) -> Iterator[Line]:
    """The list, for a terminal."""
    for target in targets:
        yield Line(f"{target['name']}: {target['summary']}", "title")
        for i, (name, words) in enumerate(target["variants"].items()):
            head = f"  {'variants' if i == 0 else '':12}"
            yield from map(Line, wrapped(head, f"{name}: {words}{' (default)' if i == 0 else ''}"))
        data = {name: f"{name} (needs data)" for name in target["needs_data"]}
        names = ", ".join(data.get(name, name) for name in target["precisions"])
        yield from map(Line, wrapped(f"  {'precisions':12}", names))
    yield Line("qcompile targets NAME lists the rules of a target and their sources.", "faint")


def target_lines(target: Mapping[str, Any]) -> Iterator[Line]:
    """One target with its rules, for a terminal."""
    yield from list(targets_lines([dict(target)]))[:-1]
    for precision, rules in target["rules"].items():
        yield Line("")
        yield Line(f"{precision}: computed in integers", "title")
        for rule in rules:
            yield from _rule_lines(rule)
    if target["float_rules"]:
        yield Line("")
        yield Line("float by decision", "title")
        for rule in target["float_rules"]:
            yield from map(Line, wrapped("  ", f"{', '.join(rule['ops'])}: {rule['reason']} ({rule['source']})"))


def _rule_lines(rule: Mapping[str, Any]) -> Iterator[Line]:
    inside = " (inside a quantized region only)" if rule["role"] == "follow" else ""
    yield from map(Line, wrapped("  ", f"{rule['name']}: {', '.join(rule['ops'])}{inside}"))
    rows = [[f"input {port}" if port != "all" else "inputs", words] for port, words in rule["inputs"].items()]
    rows.append(["output", rule["output"]])
    if rule["absorbs"]:
        rows.append(["absorbs", ", ".join(rule["absorbs"])])
    rows += [["if", condition] for condition in rule["conditions"]]
    rows.append(["source", rule["source"]])
    yield from map(Line, table(rows, indent=4))
