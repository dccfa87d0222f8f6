"""Node times from ONNX Runtime's profiler."""

from __future__ import annotations

import numpy as np

from qcompiler.analysis import node_times
from tests.graphs import parse


def test_every_node_has_a_time_and_nothing_is_left_behind() -> None:
    weight = np.ones((256, 256), np.float32)
    model = parse("g (float[64, 256] x) => (float[64, 256] y) { a = MatMul(x, w) y = Softmax(a) }", {"w": weight})
    times = node_times(model, {"x": np.ones((64, 256), np.float32)}, runs=5)
    assert {time.op for time in times.values()} == {"MatMul", "Softmax"}
    assert all(0 < time.seconds < 1 for time in times.values())
