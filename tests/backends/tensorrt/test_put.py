"""Precisions by name in `mixed`: the plan, what the builder makes of it, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from qcompiler.backends.tensorrt import build as builder
from qcompiler.compiler import Result, compile
from qcompiler.errors import UsageError
from qcompiler.recipe import Recipe

rng = np.random.default_rng(3)
DATA = [{"x": rng.normal(size=(8, 128)).astype(np.float32)} for _ in range(4)]
NAMES = ("/in/MatMul", "/mid/MatMul", "/out/MatMul")


def network(folder: Path) -> Path:
    proto = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> g (float[8, 128] x) => (float[8, 128] y) '
        "{ a = MatMul(x, u) b = Relu(a) c = MatMul(b, v) d = Relu(c) y = MatMul(d, w) }"
    )
    for name in "uvw":
        values = rng.normal(size=(128, 128)).astype(np.float32) / 11
        proto.graph.initializer.append(onnx.numpy_helper.from_array(values, name))
    for name, node in zip(NAMES, (n for n in proto.graph.node if n.op_type == "MatMul"), strict=True):
        node.name = name
    onnx.save(proto, folder / "m.onnx")
    return folder / "m.onnx"


def compiled(folder: Path, target: str, put: list[str], **wishes: object) -> Result:
    recipe = Recipe(precision="mixed", max_drop=None, sqnr_floor=5.0).updated({"options": {"put": put}, **wishes})
    return compile(network(folder), target, DATA, recipe=recipe, output=folder / "out")


@pytest.mark.parametrize(
    ("target", "put", "wanted"),
    [
        ("sm89", ["/mid/*=int8"], ("fp8", "int8", "fp8")),
        ("sm89", ["/mid/*=w8", "*=int8"], ("int8", "w8", "int8")),
        ("sm89", ["/out/MatMul=w4"], ("fp8", "fp8", "w4")),
        ("sm80", ["/in/*=w4", "/mid/*=w8"], ("w4", "w8", "int8")),
        ("sm120", ["/in/*=w4", "/mid/*=int8"], ("w4", "int8", "fp8")),
    ],
)
def test_named_nodes_have_their_precision(tmp_path: Path, target: str, put: list[str], wanted: tuple[str, ...]) -> None:
    found = compiled(tmp_path, f"tensorrt:{target}", put)
    assert found.exit_status == 0 and found.report.target["shipped"] == "mixed"
    assert tuple(found.plan.nodes[name].precision for name in NAMES) == wanted
    if builder.version():
        runs = found.report.backend["precision_by_node"]
        assert tuple(runs[name] for name in NAMES) == wanted  # what was asked for is what the builder computes
        assert found.report.backend["fallback"] == []


def test_the_search_gives_a_named_node_no_third_precision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(builder, "version", lambda: "")
    # out of reach for int8: the search goes through everything it may change
    found = compiled(tmp_path, "tensorrt:sm89", ["/mid/*=int8"], sqnr_floor=60.0)
    assert found.report.search and found.report.search["steps"]
    drafted = [line for line in found.report.candidates if line.precision == "mixed"]
    assert drafted
    for step in found.report.search["steps"]:
        assert step["chosen"].get("/mid/MatMul", "int8") in ("int8", "float")


@pytest.mark.parametrize(
    ("put", "words"),
    [
        (["/mid/MatMul"], "not PATTERN=PRECISION"), (["/mid/*=int3"], "no node can be put in 'int3'"),
        (["/mid/*=nvfp4"], "no node can be put in 'nvfp4'"), (["/nowhere=int8"], "names no node"),
    ],
)  # fmt: skip
def test_what_cannot_be(tmp_path: Path, put: list[str], words: str) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        compiled(tmp_path, "tensorrt:sm89", put)
    assert caught.value.where == "--put" and caught.value.hint


def test_other_precisions_are_of_one_kind(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="in mixed only"):
        compiled(tmp_path, "tensorrt:sm89", ["/mid/*=int8"], precision="fp8")
