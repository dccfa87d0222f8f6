"""scalar-range: Range gets scalars."""

from __future__ import annotations

import numpy as np
import onnx

from qcompiler import ir
from qcompiler.passes.prepare import ScalarRange
from tests.graphs import ops, run, transform


def model(text: str, **constants: np.ndarray) -> ir.Model:
    proto = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : 21]>\n{text}')
    proto.graph.initializer.extend([onnx.numpy_helper.from_array(value, name) for name, value in constants.items()])
    for i, node in enumerate(proto.graph.node):
        node.name = f"n{i}"
    return ir.Model.from_proto(proto)


def test_vectors_become_scalars() -> None:
    text = "g (int64[1] n) => (int64[K] y) { y = Range(zero, n, step) }"
    after, records = transform(model(text, zero=np.array(0), step=np.array([2])), ScalarRange())
    assert ops(after) == ["Reshape", "Range"]
    assert records[0].changes == 1
    assert run(after, {"n": np.array([5])})[0].tolist() == [0, 2, 4]


def test_scalars_stay() -> None:
    text = "g (int64 n) => (int64[K] y) { y = Range(zero, n, step) }"
    after, records = transform(model(text, zero=np.array(0), step=np.array(2)), ScalarRange())
    assert ops(after) == ["Range"]
    assert (records[0].changes, records[0].refusals) == (0, [])
