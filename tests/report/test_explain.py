from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from qcompiler.errors import DataError, UsageError
from qcompiler.quant import Encoding, PerTensor, QSpec, QuantPlan, Site, SitePlan
from qcompiler.quant.plan_file import plan_to_json
from qcompiler.quant.qtype import UINT8
from qcompiler.report.explain import explain_nodes, explain_output, explain_tensors
from qcompiler.report.explain_text import encoding, node_lines, output_lines, tensor_lines
from qcompiler.report.read import Output, read_output
from tests.report.hand_made import report

U8 = QSpec(UINT8, PerTensor())


def output(tmp_path: Path) -> Output:
    numbers = Encoding(U8, np.float32(0.05), np.int32(128), "mse")
    plan = QuantPlan(
        {
            Site("y1"): SitePlan((U8,), U8, "conv", "result of Conv conv1", encoding=numbers),
            Site("x", "conv1", 0): SitePlan((U8,), U8, "conv", "read by Conv conv1", same_as=Site("y1")),
        }
    )
    (tmp_path / "report.json").write_text(report().to_json(), encoding="utf-8")
    (tmp_path / "plan.json").write_text(plan_to_json(plan), encoding="utf-8")
    return read_output(tmp_path)


def test_a_node(tmp_path: Path) -> None:
    (found,) = explain_nodes(output(tmp_path), "conv1")
    assert (found["precision"], found["rule"], found["reason"]) == ("int8", "conv", "rules 1, 3: QLinearConv")
    assert found["source"].startswith("rules 1, 3")
    assert [(o["port"], o["tensor"], o["dtype"].split()[0]) for o in found["inputs"]] == [
        (0, "x", "uint8"), (1, "w1", "int8"), (2, "b1", "float"),
    ]  # fmt: skip
    assert found["inputs"][0]["same_as"] == "y1"
    assert found["outputs"][0]["scale"] == 0.05 and found["outputs"][0]["range"] == pytest.approx([-6.4, 6.35])


def test_omitted_inputs_are_left_out_and_refusals_that_name_the_node_are_shown(tmp_path: Path) -> None:
    (found,) = explain_nodes(output(tmp_path), "conv2")
    assert [operand["tensor"] for operand in found["inputs"]] == ["y1", "w2"]
    (found,) = explain_nodes(output(tmp_path), "bn2")
    assert found["refusals"] == [
        {"pass": "fold-batchnorm", "rule": "fold-batchnorm", "reason": "the result of Conv 'conv2' is used twice"}
    ]
    text = "\n".join(line.text for line in node_lines(found))
    assert "Mul bn2: float" in text and "refused fold-batchnorm: the result of Conv 'conv2' is used twice" in text


def test_patterns_and_unknown_names(tmp_path: Path) -> None:
    out = output(tmp_path)
    assert [found["node"] for found in explain_nodes(out, "conv*")] == ["conv1", "conv2"]
    assert [found["tensor"] for found in explain_tensors(out, "y?")] == ["y1", "y2", "y3", "y4"]
    with pytest.raises(UsageError) as caught:
        explain_nodes(out, "Conv_1")
    assert str(caught.value) == "--node: there is no node 'Conv_1' (close: conv1, conv2)"
    with pytest.raises(UsageError, match="patterns such as"):
        explain_tensors(out, "qqqqqq")


def test_a_tensor(tmp_path: Path) -> None:
    out = output(tmp_path)
    (found,) = explain_tensors(out, "y1")
    assert found["producer"] == {"name": "conv1", "op": "Conv"}
    assert [node["name"] for node in found["readers"]] == ["conv2", "shape"]
    text = "\n".join(line.text for line in tensor_lines(found))
    assert "made by  Conv conv1" in text and "scale 0.05, zero point 128" in text and "signal/noise 38.2 dB" in text
    (found,) = explain_tensors(out, "logits")
    text = "\n".join(line.text for line in tensor_lines(found))
    assert "float, for every reader" in text and "nothing: an output" in text
    (found,) = explain_tensors(out, "x")
    assert found["stored"][0]["used_by"] == "conv1"
    assert "for conv1: uint8" in "\n".join(line.text for line in tensor_lines(found))


def test_the_summary(tmp_path: Path) -> None:
    found = explain_output(output(tmp_path))
    assert found["nodes"] == {"int8": 2, "float": 8} and found["rules"] == {"conv": 2}
    assert sum(len(group["nodes"]) for group in found["stayed_float"]) == 8
    # what the plan refused is what stayed float; it is not listed a second time
    assert [entry["rule"] for entry in found["refusals"]] == ["fold-batchnorm"]
    lines = [line.text for line in output_lines(found)]
    assert max(map(len, lines)) <= 80
    assert any("2  factor '...' of Mul '...' is not positive (bn2, bn3)" in line for line in lines)


def test_per_axis_and_dynamic_encodings_in_words() -> None:
    entry = {
        "site": "w",
        "dtype": "int8",
        "method": "minmax",
        "sqnr_db": None,
        "why": "",
        "zero_point": [0, 0],
        "scale": [1.0, 2.0],
    }
    assert encoding(entry) == "int8, 2 scales 1 to 2, zero point 0, by minmax"
    assert encoding({**entry, "zero_point": [0, 1]}) == "int8, 2 scales 1 to 2, several zero points, by minmax"
    assert encoding({**entry, "scale": [], "zero_point": [], "method": "dynamic"}) == "int8, by dynamic"
    assert encoding({"dtype": "float"}) == "float"


def test_the_report_itself_may_be_given_and_the_plan_may_be_missing(tmp_path: Path) -> None:
    output(tmp_path)
    (tmp_path / "plan.json").unlink()
    assert explain_nodes(read_output(tmp_path / "report.json"), "conv1")[0]["rule"] == "conv"


@pytest.mark.parametrize(("name", "content"), [("report.json", "{}"), ("plan.json", "[]"), ("plan.json", "\xff")])
def test_damaged_files(tmp_path: Path, name: str, content: str) -> None:
    output(tmp_path)
    (tmp_path / name).write_text(content, encoding="latin-1")
    with pytest.raises(DataError, match=name):
        read_output(tmp_path)


def test_no_output_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds no report\.json \(give a folder that qcompile wrote\)"):
        read_output(tmp_path)
