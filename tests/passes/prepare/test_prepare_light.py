"""The networks in the onnx package, old opsets and IR versions, come through with the same outputs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx.backend.test
import onnxruntime as ort
import pytest

from qcompiler import ir
from qcompiler.passes.prepare import prepare
from qcompiler.pipeline import Pipeline

LIGHT = sorted((Path(onnx.backend.test.__file__).parent / "data" / "light").glob("light_*.onnx"))
SMALL = ("densenet121", "inception_v2", "shufflenet", "squeezenet")


def outputs(proto: onnx.ModelProto) -> list[np.ndarray]:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    session = ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(11)
    feed = {info.name: rng.normal(size=info.shape).astype(np.float32) for info in session.get_inputs()}
    return list(session.run(None, feed))


@pytest.mark.parametrize(
    "path", [path for path in LIGHT if path.stem.removeprefix("light_") in SMALL], ids=lambda p: p.stem
)
def test_outputs_stay(path: Path) -> None:
    model, pipeline = ir.load(path), Pipeline()
    prepare(pipeline, model)
    assert model.opset == 21
    assert [tensor.name for tensor in model.graph.inputs] == [tensor.name for tensor in model.inputs]
    # weights of these files are ConstantOfShape; large ones are not written out
    assert {node.op for node in model.nodes} & {"Sum", "Dropout", "Shape", "Constant", "Identity"} == set()
    for wanted, got in zip(outputs(onnx.load(path)), outputs(model.to_proto()), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-6)


def test_all_of_them_are_prepared_without_growing() -> None:
    assert len(LIGHT) >= 9
    for path in LIGHT:
        model = ir.load(path)
        prepare(Pipeline(), model)
        assert model.opset == 21, path.stem
        assert model.to_proto().ByteSize() < 16 << 20, path.stem
