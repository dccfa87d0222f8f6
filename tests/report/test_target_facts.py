from __future__ import annotations

import pytest

from qcompiler import backends
from qcompiler.errors import UsageError
from qcompiler.report.target_facts import all_targets, one_target, target_lines, targets_lines


def test_every_target_is_listed_with_what_its_table_says() -> None:
    found = {target["name"]: target for target in all_targets()}
    assert tuple(found) == backends.names()
    spec = backends.get("onnxruntime").spec
    assert found["onnxruntime"]["precisions"] == list(spec.precisions)
    assert found["onnxruntime"]["needs_data"] == ["int8", "mixed"]
    text = "\n".join(line.text for line in targets_lines(all_targets()))
    assert "vnni" in text and "(default)" in text and "int8 (needs data)" in text


def test_every_rule_of_a_target_is_listed_with_its_source() -> None:
    spec = backends.get("onnxruntime").spec
    found = one_target("onnxruntime:vnni")
    for precision, rules in spec.schemes.items():
        assert [rule["name"] for rule in found["rules"][precision]] == [rule.name for rule in rules]
        assert all(rule["source"] for rule in found["rules"][precision])
    lines = [line.text for line in target_lines(found)]
    assert max(map(len, lines)) <= 80
    text = " ".join(" ".join(lines).split())
    for rule in spec.schemes["int8"]:
        assert rule.source in text
    for line in spec.float_rules:
        assert line.reason in text


def test_unknown_targets_and_variants_list_the_known_ones() -> None:
    with pytest.raises(UsageError, match=r"unknown target 'tpu' \(known: onnxruntime"):
        one_target("tpu")
    with pytest.raises(UsageError, match=r"no variant 'z80' \(known: vnni"):
        one_target("onnxruntime:z80")
