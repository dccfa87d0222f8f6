"""scalar-scales: scales that are vectors of one number, which ONNX Runtime refuses once it has fused them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx.reference import ReferenceEvaluator

from qcompiler import ir
from qcompiler.analysis import Runner
from qcompiler.analysis.payload import Payload
from qcompiler.errors import ModelError
from qcompiler.frontend import read
from qcompiler.passes.prepare.scalar_scales import ScalarScales
from tests.graphs import assert_same_numbers, parse, transform

S, Z = np.float32([0.05]), np.uint8([10])
PAIR = "q{0} = QuantizeLinear({0}, s, z) d{0} = DequantizeLinear(q{0}, {1})"
SUM = f"{PAIR.format('x', 's, z')} {PAIR.format('v', 's, z')} a = Add(dx, dv) {PAIR.format('a', 's, z')} y = Neg(da)"
TEXT = "g (float[2, 3] x, float[2, 3] v) => (float[2, 3] y) { %s }"


def test_vectors_of_one_number_become_scalars() -> None:
    before = parse(TEXT % SUM, {"s": S, "z": Z})
    after, records = transform(before, ScalarScales())
    assert records[0].changes == 6
    assert {tuple(c.shape) for c in after.constants()} == {()} and len(list(after.constants())) == 2
    assert_same_numbers(before, after)


def test_a_file_of_pytorch_loads(tmp_path: Path) -> None:
    """Scales behind Identity and in Constant nodes, as exporters share them."""
    shared = "s = Identity(t) z = Constant <value = uint8[1] {10}> () "
    proto = parse(TEXT % (shared + SUM), {"t": S}).to_proto()
    for node in proto.graph.node:
        node.name = ""
    onnx.save(proto, tmp_path / "m.onnx")
    with pytest.raises(Exception, match="must be a scalar"):
        ort.InferenceSession(str(tmp_path / "m.onnx"))
    model = read(tmp_path / "m.onnx")
    session = ort.InferenceSession(model.to_proto().SerializeToString())
    x = np.linspace(-1, 1, 6, dtype=np.float32).reshape(2, 3)
    (got,) = session.run(None, {"x": x, "v": x})
    (wanted,) = ReferenceEvaluator(proto).run(None, {"x": x, "v": x})
    assert np.abs(got - wanted).max() <= S[0]


def test_scales_by_channel_and_by_block_stay() -> None:
    text = """g (float[1, 2] x) => (float[1, 2] y, float[1, 2] w) {
        q = QuantizeLinear <axis = 1> (x, s, z) y = DequantizeLinear <axis = 1> (q, s, z)
        w = DequantizeLinear <axis = 0, block_size = 1> (c, b) }"""
    constants = {"s": np.float32([0.1, 0.2]), "z": np.uint8([0, 1]), "c": np.int8([[1, 2]])}
    before = parse(text, {**constants, "b": np.float32([[0.5, 0.5]])})
    _, records = transform(before, ScalarScales())
    assert records[0].changes == 0


def test_a_file_with_weights_that_nothing_reads_runs(tmp_path: Path) -> None:
    """Weights of external files are given to ONNX Runtime apart, which has forgotten those by then."""
    proto = parse(
        "g (float[2, 3] x) => (float[2, 4] y) { y = MatMul(x, w) }", {"w": np.ones((3, 4), np.float32)}
    ).to_proto()
    proto.graph.initializer.append(onnx.numpy_helper.from_array(np.ones((64, 64), np.float32), "dead"))
    onnx.save(proto, tmp_path / "m.onnx", save_as_external_data=True, location="m.bin", size_threshold=0)
    with pytest.raises(ModelError, match="dead"):
        Runner(Payload.of(ir.load(tmp_path / "m.onnx"), apart=True))
    model = read(tmp_path / "m.onnx")
    assert [constant.name for constant in model.constants()] == ["w"]
    Runner(Payload.of(model, apart=True))
