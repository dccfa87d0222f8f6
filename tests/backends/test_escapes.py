"""Float graphs whose plain quantization falls into the traps: ours does not, as ONNX Runtime itself shows."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from qcompiler import ir
from qcompiler.analysis import SessionConfig
from qcompiler.backends.onnxruntime.gate import optimised
from qcompiler.backends.onnxruntime.traps import findings
from tests.backends.qdq import Qdq
from tests.lowering import lower


def conv(g: Qdq, x: str, channels: int = 16, inputs: int = 16) -> str:
    return g.node("Conv", x, g.floats(channels, inputs, 3, 3), g.floats(channels), pads=[1] * 4)


def stem_and_pool() -> ir.Model:
    g = Qdq()
    x = g.node("Relu", g.node("Conv", g.input(1, 3, 32, 32), g.floats(16, 3, 3, 3), pads=[1] * 4, strides=[2, 2]))
    x = g.node("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2])
    return g.model(conv(g, x))


def pool_behind_the_input() -> ir.Model:
    g = Qdq()
    return g.model(conv(g, g.node("MaxPool", g.input(1, 16, 32, 32), kernel_shape=[2, 2], strides=[2, 2])))


def average_pools() -> ir.Model:
    g = Qdq()
    x = g.node("AveragePool", conv(g, g.input(1, 16, 32, 32)), kernel_shape=[2, 2], strides=[2, 2])
    return g.model(conv(g, x))


def attention() -> ir.Model:
    g = Qdq()
    x = g.input(1, 32, 64)
    q, k, v = (g.node("Add", g.node("MatMul", x, g.floats(64, 64)), g.floats(64)) for _ in range(3))
    p = g.node("Softmax", g.node("MatMul", q, g.node("Transpose", k, perm=[0, 2, 1])), axis=-1)
    y = g.node("Add", g.node("MatMul", p, v), x)
    y = g.node("LayerNormalization", y, g.floats(64), g.floats(64), axis=-1)
    return g.model(g.node("Add", g.node("MatMul", y, g.floats(64, 128)), g.floats(128)))


def matrix_and_bias() -> ir.Model:
    g = Qdq()
    x = g.node("Relu", g.node("Add", g.node("MatMul", g.input(8, 64), g.floats(64, 64)), g.floats(64)))
    return g.model(g.node("Gemm", x, g.floats(64, 32), g.floats(32)))


def shuffle() -> ir.Model:
    g = Qdq()
    x = g.node("Reshape", conv(g, g.input(1, 16, 16, 16)), g.constant(np.array([1, 2, 8, 16, 16])))
    x = g.node("Transpose", x, perm=[0, 2, 1, 3, 4])
    return g.model(conv(g, g.node("Reshape", x, g.constant(np.array([1, 16, 16, 16])))))


def steps() -> ir.Model:
    g = Qdq()
    start, end, axes, by = (g.constant(np.array(v)) for v in ([0, 0], [99, 99], [2, 3], [2, 2]))
    return g.model(conv(g, g.node("Slice", conv(g, g.input(1, 16, 32, 32)), start, end, axes, by)))


def island() -> ir.Model:
    g = Qdq()
    x = g.node("Relu", conv(g, g.input(1, 16, 16, 16)))
    x = g.node("Conv", x, g.floats(16, 16, 3, 3), name="island", pads=[1] * 4)
    return g.model(conv(g, x))


def concat() -> ir.Model:
    g = Qdq()
    x = conv(g, g.input(1, 16, 16, 16))
    parts = g.node("Concat", conv(g, x), conv(g, x), axis=1)
    return g.model(conv(g, parts, 16, 32))


def up() -> ir.Model:
    g = Qdq()
    x = conv(g, g.input(1, 16, 8, 8))
    x = g.node("ConvTranspose", x, g.floats(16, 16, 2, 2), strides=[2, 2])
    return g.model(conv(g, x))


@pytest.mark.parametrize(
    "make",
    [stem_and_pool, pool_behind_the_input, average_pools, attention, matrix_and_bias, shuffle, steps, concat, up],
)
def test_what_we_compile_is_in_no_trap(make: Callable[[], ir.Model]) -> None:
    compiled = lower(make()).candidate
    graph = optimised(compiled.model, SessionConfig())
    assert [(finding.trap, finding.node) for finding in findings(graph, compiled.model)] == []
    assert any(decision.precision != "float" for decision in compiled.plan.nodes.values())


def test_a_conv_that_the_user_keeps_float_is_not_requantized() -> None:
    compiled = lower(island(), keep_float=("island",)).candidate
    graph = optimised(compiled.model, SessionConfig())
    assert findings(graph, compiled.model) == ()
    assert sum(node.op_type in ("Conv", "FusedConv") for node in graph.node) == 1
