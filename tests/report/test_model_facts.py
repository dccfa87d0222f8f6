from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from qcompiler import ir
from qcompiler.errors import ModelError, UsageError
from qcompiler.report.model_facts import model_facts
from qcompiler.report.model_text import facts_lines
from tests.graphs import parse

CNN = Path(__file__).resolve().parents[2] / "models" / "digits_cnn" / "model.onnx"


@pytest.fixture(scope="module")
def facts() -> dict[str, Any]:
    return model_facts(CNN)


def test_facts_of_the_convolutional_model(facts: dict[str, Any]) -> None:
    assert facts["bytes"] == CNN.stat().st_size
    assert facts["inputs"] == [{"name": "image", "dtype": "float32", "shape": ["batch", 1, 32, 32]}]
    assert facts["outputs"] == [{"name": "logits", "dtype": "float32", "shape": ["batch", 10]}]
    assert facts["dynamic"] == {"batch": ["image[0]"]}
    assert facts["opsets"] == {"ai.onnx": 17}
    assert (facts["nodes"], facts["ops"]["Conv"], facts["ops"]["BatchNormalization"]) == (74, 24, 16)
    assert facts["quantized_ops"] == {} and facts["external"] == {"tensors": 0, "bytes": 0}
    assert facts["parameters"]["float32"]["bytes"] == 4 * facts["parameters"]["float32"]["values"]


def test_work_and_quantizable_share(facts: dict[str, Any]) -> None:
    # stem 16 channels of 32x32 from one 3x3 plane, then the two residual convolutions
    assert facts["macs"]["total"] > 16 * 32 * 32 * 9 + 2 * 16 * 32 * 32 * 16 * 9
    assert facts["macs"]["assumed_1"] == ["batch"] and facts["macs"]["assumed_1_inside"] == 0
    shares = {line["precision"]: line for line in facts["targets"] if line["target"] == "onnxruntime"}
    assert shares["int8"]["macs"] == 1.0 and shares["int8"]["needs_data"]
    assert 0.9 < shares["int8"]["weights"] <= 1.0
    assert shares["w8"]["nodes"] == 1 and 0 < shares["w8"]["macs"] < 0.001


def test_shapes_are_completed(facts: dict[str, Any]) -> None:
    fixed = model_facts(CNN, {"batch": "2"})
    assert fixed["dynamic"] == {} and fixed["macs"]["assumed_1"] == []
    assert fixed["macs"]["total"] == 2 * facts["macs"]["total"]
    with pytest.raises(UsageError, match="neither an input nor a dynamic dimension"):
        model_facts(CNN, {"nothing": "2"})


def test_text_is_narrow_and_names_what_matters(facts: dict[str, Any]) -> None:
    found = [line.text for line in facts_lines(facts, nodes=True)]
    text = "\n".join(found)
    # each node is one line whatever its name, so that names can be searched and copied
    assert max(map(len, text.split("nodes after preparation")[0].splitlines())) <= 80
    assert len(text.split("nodes after preparation")[1].splitlines()) == 1 + len(facts["prepared"])
    for part in (
        "image: float32 [batch, 1, 32, 32]",
        "Conv 24",
        "no: the model holds no Q/DQ nodes",
        "onnxruntime int8",
    ):
        assert part in text
    # the names are those of the prepared graph, where BatchNormalization is folded
    assert "BatchNormalization" in text.split("nodes after preparation")[0]
    assert "  BatchNormalization " not in text.split("nodes after preparation")[1]


def test_external_data_metadata_and_quantized_nodes(tmp_path: Path) -> None:
    model = parse(
        "agraph (float[2, 4] x) => (float[2, 3] y) {"
        " q = QuantizeLinear(x, s, z) d = DequantizeLinear(q, s, z) y = MatMul(d, w) }",
        {"s": np.float32(0.1), "z": np.uint8(3), "w": np.ones((4, 512), np.float32)},
    )
    proto = model.to_proto()
    proto.metadata_props.add(key="author", value="somebody")
    onnx.save(proto, tmp_path / "m.onnx", save_as_external_data=True, location="m.data", size_threshold=1024)
    facts = model_facts(tmp_path / "m.onnx")
    assert facts["external"] == {"tensors": 1, "bytes": 8192}
    assert facts["metadata"] == {"author": "somebody"}
    assert facts["quantized_ops"] == {"QuantizeLinear": 1, "DequantizeLinear": 1}
    text = "\n".join(line.text for line in facts_lines(facts))
    assert "1 tensor, 8.2 kB, in files beside it" in text
    assert "already holds QuantizeLinear 1, DequantizeLinear 1" in text


def test_a_model_without_anything(tmp_path: Path) -> None:
    ir.save(parse("agraph (float[N] x) => (float[N] y) { y = Relu(x) }"), tmp_path / "relu.onnx")
    facts = model_facts(tmp_path / "relu.onnx")
    assert facts["macs"]["total"] == 0 and facts["parameters"] == {}
    assert all(line["macs"] is None and line["weights"] is None for line in facts["targets"])
    assert any("0 multiply-accumulates" in line.text for line in facts_lines(facts))


def test_not_a_model(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"PK\x03\x04")
    with pytest.raises(ModelError, match="zip archive"):
        model_facts(tmp_path / "m.onnx")
