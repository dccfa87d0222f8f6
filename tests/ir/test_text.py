"""The text form."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, parser

from qcompiler import ir
from tests.ir.models import HEADER, SEQUENCE, SMALL_MODELS, attributes, branch, load, of_type, plain, write_external


def test_a_graph_with_branches() -> None:
    assert (
        ir.to_text(ir.Model.from_proto(branch()))
        == """\
model opset 21, com.microsoft 1
graph g
  input x: float32[N, 4]
  input c: bool[]
  const w: float32[4] = [1, 2, 3, 4]
  a = Neg(x)  # neg
  y: float32[N, 4] = If(c)  # if
    then_branch:
    graph t
      const v: float32[1] = [2]
      t1 = Mul(a, v)  # t0
      t_out: float32[N, 4] = Add(t1, w)  # t1
      output t_out
    else_branch:
    graph e
      e_out: float32[N, 4] = Relu(a)  # e0
      output e_out
  output y
"""
    )


def test_attributes_of_every_kind() -> None:
    line = next(line for line in ir.to_text(ir.Model.from_proto(attributes())).splitlines() if "Custom" in line)
    assert line == (
        "  y: bfloat16, _, z: bool[] = my.domain.Custom(x, _, w) {bytes='\\udcff\\x00', f=0.1, fs=[0.5, 1.5], "
        "graphs=graphs, i=-3, is=[1, -2], no_floats=[], no_ints=[], no_strings=[], s='text', sp=sparse_tensor, "
        "sps=sparse_tensors, ss=['a', 'b'], t=float32[2, 3] [0, 1, 2, 3, 4, 5], told=7, tp=type_proto, "
        "tps=type_protos, ts=tensors}  # custom"
    )


def test_types_that_are_not_tensors() -> None:
    lines = ir.to_text(ir.Model.from_proto(parser.parse_model(HEADER + SEQUENCE))).splitlines()
    assert lines[2:6] == [
        "  input x: float32[2]",
        "  input s: sequence(float[2])",
        "  input o: optional(float[2])",
        "  t: sequence(float[2]) = SequenceInsert(s, x)  # insert",
    ]


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        (np.array(2.5, np.float32), "float32[] = 2.5"),
        (np.array([[1, -2]], np.int8), "int8[1, 2] = [1, -2]"),
        (np.zeros((0, 3), np.float32), "float32[0, 3] = empty"),
        (np.full(100, 0.1, np.float32), "float32[100] = all 0.1"),
        (np.linspace(-1, 2, 100), "float64[100] = -1 .. 2"),
        (np.arange(9, dtype=np.int64), "int64[9] = 0 .. 8"),
        (np.array([True, False] * 9), "bool[18] = False .. True"),
        (np.ones(9, np.complex64), "complex64[9] = 9 values"),
        (np.array(["a", "b" * 99], object), f"string[2] = ['a', '{'b' * 64}...']"),
    ],
)
def test_constants(values: np.ndarray, wanted: str) -> None:
    model = ir.Model.from_proto(plain())
    next(ir.editors(model)).constant("k", values)
    assert f"  const k: {wanted}" in ir.to_text(model).splitlines()


@pytest.mark.parametrize("data_type", sorted(set(TensorProto.DataType.values()) - {0}))
def test_constants_of_every_type(data_type: int) -> None:
    text = ir.to_text(ir.Model.from_proto(of_type(data_type)))
    wanted = {8: "['a', '', 'é', 'd', 'e']", 9: "[True, False, True, True, False]", 24: "[1, 2, 1, 1, 2]"}
    plain = "[(1+0j), 0j, (1+0j), (1+0j), 0j]" if data_type in (14, 15) else "[1, 0, 1, 1, 0]"
    assert f"[5] = {wanted.get(data_type, plain)}\n" in text


def test_long_lists_are_cut() -> None:
    model = ir.Model.from_proto(plain())
    next(ir.editors(model)).add("Custom", [], name="n", attrs={"k": list(range(99))}, domain="my")
    assert f"{{k=[{', '.join(map(str, range(16)))}, ... 99 in all]}}" in ir.to_text(model)


def test_large_weights_on_disk_are_not_read(tmp_path: Path) -> None:
    model = ir.load(write_external(tmp_path, 5 << 20))
    (tmp_path / "m.bin").unlink()
    assert f"const w: float32[{5 << 20}] = {20 << 20} bytes" in ir.to_text(model)


@pytest.mark.parametrize("name", SMALL_MODELS)
def test_the_same_model_gives_the_same_text(name: str, tmp_path: Path) -> None:
    model = load(SMALL_MODELS[name](), tmp_path)
    text = ir.to_text(model)
    assert text == ir.to_text(model.copy())
    ir.save(model, tmp_path / "again.onnx")
    assert text == ir.to_text(ir.load(tmp_path / "again.onnx"))
