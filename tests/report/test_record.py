from __future__ import annotations

import json

import pytest

from qcompiler.errors import DataError
from qcompiler.report import Report
from tests.report.hand_made import report


def test_json_and_back() -> None:
    assert Report.from_json(report().to_json()) == report()


def test_report_json_keeps_the_keys_of_schema_1() -> None:
    data = json.loads(report().to_json())
    assert {
        "tool", "model", "target", "calibration", "passes", "nodes", "tensors", "accuracy", "latency", "size",
        "backend", "artifacts", "schema",
    } <= data.keys()  # fmt: skip
    assert data["nodes"][0].keys() >= {"name", "op", "precision", "rule", "reason"}
    assert data["tensors"][0].keys() >= {"name", "dtype", "method", "scale", "zero_point", "sqnr_db"}
    assert data["accuracy"].keys() >= {
        "metric",
        "float",
        "quantized",
        "drop",
        "ci_low",
        "ci_high",
        "samples",
        "verdict",
    }


def test_unknown_keys_are_left_out_and_optional_ones_may_be_missing() -> None:
    data = json.loads(report().to_json())
    data["later"] = 1
    data["nodes"][0]["later"] = 1
    for node in data["nodes"]:
        del node["inputs"], node["outputs"]
    back = Report.from_json(json.dumps(data))
    assert back.nodes[0].name == "conv1" and back.nodes[0].inputs == ()


@pytest.mark.parametrize("text", ["", "[]", "{}", "nonsense", '{"schema": 1}', '{"schema": 2}', "[" * 100_000])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(DataError):
        Report.from_json(text)


def test_another_schema_is_named() -> None:
    with pytest.raises(DataError, match="schema 7, this version reads 1"):
        Report.from_json('{"schema": 7}')
