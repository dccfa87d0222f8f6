"""The fingerprint follows what a model computes, and nothing else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import external_data_helper

from qcompiler import ir
from qcompiler.analysis import fingerprint
from tests.graphs import parse

TEXT = """
g (bool c, float[N,2] x) => (float[N,2] y) {
    h = Mul(x, w)
    t = Transpose<perm = [0, 1]>(h)
    y = If (c) <
        then_branch = left () => (float[N,2] l) { k = Constant<value = float[1] {1}>()  l = Add(t, k) },
        else_branch = right () => (float[N,2] r) { r = Abs(t) }
    >
}
"""
WEIGHTS = np.float32([1, 2])
BASE = fingerprint(parse(TEXT, {"w": WEIGHTS}))


def test_is_a_fixed_number() -> None:
    """Where this number changes, statistics that users have kept are refused: change it knowingly."""
    text = '<ir_version: 10, opset_import: ["" : 21]> g (float[2] x) => (float[2] y) { y = Add(x, w) }'
    model = parse(text, {"w": WEIGHTS})
    assert fingerprint(model) == "50ac5e5704902eb12988fa1342eb830d30ba783cb2f31e5bee0a608a3b9d3e3d"
    assert fingerprint(model.copy()) == fingerprint(model)


@pytest.mark.parametrize(
    "change",
    [
        ("Mul(x", "Add(x"),
        ("[0, 1]", "[1, 0]"),
        ("{1}", "{2}"),
        ("Abs(t)", "Neg(t)"),
        ("c, float[N,2] x", "c, float[2,2] x"),
        ("(h)", "(x)"),
    ],
)
def test_sees_the_structure(change: tuple[str, str]) -> None:
    assert change[0] in TEXT
    assert fingerprint(parse(TEXT.replace(*change), {"w": WEIGHTS})) != BASE


def test_sees_weights_and_opset() -> None:
    assert fingerprint(parse(TEXT, {"w": np.float32([1, 2.0000002])})) != BASE
    assert fingerprint(parse(TEXT, {"w": np.float32([[1, 2]])})) != BASE
    assert fingerprint(parse(TEXT, {"w": WEIGHTS}, opset=20)) != BASE


def test_does_not_see_names_of_nodes_documentation_or_metadata() -> None:
    model = parse(TEXT, {"w": WEIGHTS})
    model.nodes[0].name = "another"
    model.header.producer_name = "someone"
    model.graph.doc_string = "words"
    assert fingerprint(model) == BASE


def test_does_not_see_where_weights_lie(tmp_path: Path) -> None:
    proto = parse(TEXT, {"w": WEIGHTS}).to_proto()
    external_data_helper.convert_model_to_external_data(proto, location="w.bin", size_threshold=0)
    onnx.save(proto, tmp_path / "m.onnx")
    assert (tmp_path / "w.bin").stat().st_size >= 8
    assert fingerprint(ir.load(tmp_path / "m.onnx")) == BASE
