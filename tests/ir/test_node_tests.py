"""The models that the onnx package ships go through load and export byte for byte."""

from __future__ import annotations

import warnings
from pathlib import Path

import onnx
from onnx import ModelProto, inliner

from qcompiler import ir
from tests.ir.models import load, same


def test_every_node_test_of_onnx(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the cases compute their expected outputs, with overflows
        from onnx.backend.test.loader import load_model_tests

        cases = load_model_tests(kind="node")
    different = []
    for case in cases:
        wanted = inliner.inline_local_functions(case.model) if case.model.functions else case.model
        if not same(load(case.model, tmp_path).to_proto(), wanted):
            different.append(case.name)
    assert different == []
    assert len(cases) > 1500


def test_every_model_file_of_onnx() -> None:
    files = sorted((Path(onnx.__file__).parent / "backend" / "test" / "data").glob("*/*/model.onnx"))
    for file in files:
        proto = onnx.load(file)
        needed = 4 if proto.ir_version < 4 and loose(proto) else proto.ir_version
        after = ir.load(file).to_proto()
        assert after.ir_version == needed
        proto.ir_version = after.ir_version
        proto.graph.ClearField("value_info")
        after.graph.ClearField("value_info")
        assert same(after, proto), file
    assert len(files) > 100


def loose(proto: ModelProto) -> bool:
    """Whether an initializer is not an input."""
    return bool({t.name for t in proto.graph.initializer} - {t.name for t in proto.graph.input})
