"""Models on which ONNX Runtime would end the process."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import parser

from qcompiler.analysis.crashes import FUSION, crashing
from qcompiler.analysis.payload import Payload
from qcompiler.analysis.run import Runner, SessionConfig
from qcompiler.ir import deserialized

HALF = """
<ir_version: 10, opset_import: ["": 21]>
g (float16[b, 5, 8] x) => (float16[5, b, 4] y) {
    t = Transpose<perm = [1, 0, 2]>(x)
    w = Constant<value = float16[8, 4] {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15,
                                        0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}>()
    y = MatMul(t, w)
}
"""


def payload(text: str) -> Payload:
    return Payload(parser.parse_model(text).SerializeToString())


def test_half_matmul_of_moved_axis_runs() -> None:
    """Without the guard this test does not fail: it ends the process."""
    model = payload(HALF)
    assert crashing(model) == (FUSION,)
    x = np.linspace(-1, 1, 2 * 5 * 8, dtype=np.float16).reshape(2, 5, 8)
    fast = Runner(model).run({"x": x})["y"]
    plain = Runner(model, SessionConfig(level="off")).run({"x": x})["y"]
    np.testing.assert_allclose(fast.astype(np.float32), plain.astype(np.float32), rtol=2e-3, atol=1e-2)
    assert crashing(Payload.of(deserialized(model.content, {}))) == (FUSION,)


@pytest.mark.parametrize(
    "text",
    [
        HALF.replace("float16", "float"),
        HALF.replace("[1, 0, 2]", "[0, 1, 2]"),
        HALF.replace("MatMul(t, w)", "Add(t, t)"),
    ],
    ids=["float32", "first axis stays", "no product"],
)
def test_others_keep_the_fusion(text: str) -> None:
    assert crashing(payload(text)) == ()
