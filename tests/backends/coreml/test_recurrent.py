"""LSTM of each direction beside ONNX Runtime; MIL gives the steps of a reverse one in the order it makes them in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from qcompiler import ir
from qcompiler.analysis import SessionConfig
from qcompiler.analysis.run import Runner
from qcompiler.backends.coreml.convert import Settings, convert
from qcompiler.backends.coreml.evaluate import Package
from qcompiler.backends.coreml.evaluate.recurrent import lstm
from qcompiler.backends.coreml.interface import interface
from qcompiler.backends.coreml.package import save

pytest.importorskip("coremltools", reason="the extra coreml is not installed")

STEPS, BATCH, FEATURES, HIDDEN = 5, 2, 3, 4


@pytest.mark.parametrize(("direction", "count"), [("forward", 1), ("reverse", 1), ("bidirectional", 2)])
def test_each_direction_is_that_of_onnx(direction: str, count: int, tmp_path: Path) -> None:
    proto = onnx.parser.parse_model(
        f"""<ir_version: 10, opset_import: ["" : 21]>
        g (float[{STEPS}, {BATCH}, {FEATURES}] x) => (float[{STEPS}, {count}, {BATCH}, {HIDDEN}] y,
            float[{count}, {BATCH}, {HIDDEN}] h, float[{count}, {BATCH}, {HIDDEN}] c) {{
            y, h, c = LSTM <hidden_size = {HIDDEN}, direction = "{direction}"> (x, w, r, b) }}"""
    )
    rng = np.random.default_rng(0)
    for name, shape in (("w", (4 * HIDDEN, FEATURES)), ("r", (4 * HIDDEN, HIDDEN)), ("b", (8 * HIDDEN,))):
        values = rng.normal(size=(count, *shape)).astype(np.float32)
        proto.graph.initializer.append(numpy_helper.from_array(values, name))
    model = ir.Model.from_proto(proto)
    save(convert(model, Settings(half=False), interface(model)).model, tmp_path / "m.mlpackage")
    package = Package.load(tmp_path / "m.mlpackage")
    assert package.ops["lstm"] == 1 and package.ops.get("reverse", 0) == (direction == "reverse")
    x = rng.normal(size=(STEPS, BATCH, FEATURES)).astype(np.float32)
    got = package.run({"x": x})
    for name, wanted in Runner(model, SessionConfig("off")).run({"x": x}).items():
        np.testing.assert_allclose(got[name], wanted, rtol=1e-4, atol=1e-6)


def test_reverse_is_forward_on_the_reversed_input() -> None:
    """As coremltools' own tests have it."""
    rng = np.random.default_rng(0)
    x, state = rng.normal(size=(STEPS, BATCH, FEATURES)), np.zeros((BATCH, HIDDEN))
    weights = rng.normal(size=(4 * HIDDEN, FEATURES)), rng.normal(size=(4 * HIDDEN, HIDDEN))
    kinds = (True, "sigmoid", "tanh", "tanh")
    for a, b in zip(
        lstm(x, state, state, *weights, "reverse", *kinds), lstm(x[::-1], state, state, *weights, "forward", *kinds),
        strict=True,
    ):  # fmt: skip
        np.testing.assert_array_equal(a, b)
