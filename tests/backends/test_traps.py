"""Each trap: a small graph that falls into it is recognised by name, at the right node, with a cost; its twin is not.

The graphs go through ONNX Runtime itself, so these tests also say whether it still does what the table says.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from qcompiler import ir
from qcompiler.analysis import SessionConfig
from qcompiler.backends.conformance import Finding
from qcompiler.backends.onnxruntime.gate import gate, optimised
from qcompiler.backends.onnxruntime.traps import TRAPS, Trap, findings
from tests.backends.qdq import Qdq, feed

# On a uint8 grid that starts at 0, as behind Relu.
ZERO = np.uint8(0)


def found(model: ir.Model, *off: str) -> list[tuple[str, str]]:
    """Trap and node of each finding."""
    graph = optimised(model, SessionConfig(disabled_optimizers=off))
    return [(finding.trap, finding.node) for finding in findings(graph, model)]


def int8_branch() -> ir.Model:
    g = Qdq()
    x = g.q(g.conv(g.q(g.input(1, 8, 16, 16), zero=np.int8(3))), zero=np.int8(3))
    one, two = (g.q(g.conv(x, name=name), zero=np.int8(3)) for name in ("one", "two"))
    return g.model(g.q(g.node("Add", one, two), zero=np.int8(3)))


def int16_conv() -> ir.Model:
    g = Qdq()
    return g.model(g.q(g.conv(g.q(g.input(1, 8, 16, 16), zero=np.int16(0)), name="conv"), zero=np.int16(0)))


def matmul_add() -> ir.Model:
    g = Qdq()
    x = g.node("MatMul", g.q(g.input(4, 32)), g.weight(32, 16, axis=1), name="product")
    return g.model(g.node("Add", x, g.floats(16)))


def gemm_float_bias() -> ir.Model:
    g = Qdq()
    return g.model(g.node("Gemm", g.q(g.input(4, 32)), g.weight(32, 16, axis=1), g.floats(16), name="gemm"))


def conv_transpose() -> ir.Model:
    g = Qdq()
    return g.model(g.q(g.node("ConvTranspose", g.q(g.input(1, 8, 8, 8)), g.weight(8, 4, 2, 2), name="up")))


def conv_without_q() -> ir.Model:
    g = Qdq()
    return g.model(g.conv(g.q(g.input(1, 8, 16, 16)), name="head"))


def relu_off_the_edge() -> ir.Model:
    g = Qdq()
    return g.model(g.q(g.node("Relu", g.conv(g.q(g.input(1, 8, 16, 16)), name="conv"))))


def weight_only() -> ir.Model:
    g = Qdq()
    return g.model(g.conv(g.input(1, 8, 16, 16), name="conv"))


def float_island() -> ir.Model:
    g = Qdq()
    x = g.conv(g.q(g.input(1, 8, 16, 16)), weights=g.floats(8, 8, 3, 3), name="island")
    return g.model(g.q(g.conv(g.q(x))))


def float_stem_pool() -> ir.Model:
    g = Qdq()
    x = g.node("Relu", g.conv(g.input(1, 8, 16, 16), weights=g.floats(8, 8, 3, 3)))
    x = g.node("MaxPool", x, name="pool", kernel_shape=[3, 3], strides=[2, 2])
    return g.model(g.q(g.conv(g.q(x, zero=ZERO))))


def softmax() -> ir.Model:
    g = Qdq()
    return g.model(g.q(g.node("Softmax", g.q(g.input(4, 32)), name="soft"), np.float32(1 / 256), ZERO))


def average_pool() -> ir.Model:
    g = Qdq()
    x = g.q(g.conv(g.q(g.input(1, 8, 16, 16))))
    return g.model(g.q(g.node("AveragePool", x, name="pool", kernel_shape=[2, 2], strides=[2, 2])))


def skip_norm() -> ir.Model:
    g = Qdq()
    x, y = g.input(1, 16, 32), g.input(1, 16, 32)
    added = g.node("Add", x, y)
    return g.model(g.node("LayerNormalization", added, g.floats(32), g.floats(32), name="norm", axis=-1))


def transpose_5d() -> ir.Model:
    g = Qdq()
    x = g.q(g.conv(g.q(g.input(1, 8, 16, 16))))
    x = g.q(g.node("Reshape", x, g.constant(np.array([1, 2, 4, 16, 16]))))
    x = g.q(g.node("Transpose", x, name="shuffle", perm=[0, 2, 1, 3, 4]))
    return g.model(g.q(g.conv(g.q(g.node("Reshape", x, g.constant(np.array([1, 8, 16, 16])))))))


def slice_steps() -> ir.Model:
    g = Qdq()
    start, end, axes, steps = (g.constant(np.array(v)) for v in ([0, 0], [99, 99], [2, 3], [2, 2]))
    x = g.q(g.node("Slice", g.q(g.input(1, 8, 16, 16)), start, end, axes, steps, name="slice"))
    return g.model(g.q(g.conv(x)))


def nhwc_resize() -> ir.Model:
    g = Qdq()
    x = g.q(g.conv(g.q(g.input(1, 8, 16, 16))))
    scales = g.constant(np.array([1, 1, 2, 2], np.float32))
    x = g.q(g.node("Resize", x, "", scales, name="resize", coordinate_transformation_mode="asymmetric", mode="nearest"))
    return g.model(g.q(g.conv(x)))


def expand() -> ir.Model:
    g = Qdq()
    x = g.q(g.node("Expand", g.q(g.input(1, 8, 1, 16)), g.constant(np.array([1, 8, 16, 16])), name="expand"))
    return g.model(g.q(g.conv(x)))


def uint8_weights() -> ir.Model:
    g = Qdq()
    weights = g.weight(8, 8, 3, 3, dtype=np.uint8, zero=128)
    return g.model(g.q(g.conv(g.q(g.input(1, 8, 16, 16)), weights=weights, name="conv")))


def weight_zero_point() -> ir.Model:
    g = Qdq()
    return g.model(g.q(g.conv(g.q(g.input(1, 8, 16, 16)), weights=g.weight(8, 8, 3, 3, zero=3), name="conv")))


def concat() -> ir.Model:
    g = Qdq()
    x = g.q(g.input(1, 8, 16, 16))
    one, two = g.q(g.conv(x), 0.05), g.q(g.conv(x), 0.06)
    return g.model(g.q(g.node("Concat", one, two, name="concat", axis=1), 0.06))


CASES: tuple[tuple[str, str, Callable[[], ir.Model]], ...] = (
    ("int8 activations", "one", int8_branch),
    ("16-bit activations", "conv", int16_conv),
    ("MatMulAdd", "product", matmul_add),
    ("float Gemm bias", "gemm", gemm_float_bias),
    ("ConvTranspose behind DQ", "up", conv_transpose),
    ("float kernel behind DQ", "head", conv_without_q),
    ("float kernel behind DQ", "conv", relu_off_the_edge),
    ("weights dequantized at run time", "conv", weight_only),
    ("weights requantized per tensor", "island", float_island),
    ("NCHW uint8 MaxPool", "pool", float_stem_pool),
    ("QLinearSoftmax", "soft", softmax),
    ("QLinearAveragePool", "pool", average_pool),
    ("SkipLayerNormalization", "norm", skip_norm),
    ("5-D uint8 Transpose", "shuffle", transpose_5d),
    ("uint8 Slice with steps", "slice", slice_steps),
    ("NHWC uint8 Resize", "resize", nhwc_resize),
    ("uint8 Expand", "expand", expand),
    ("uint8 weights", "conv", uint8_weights),
    ("weight zero point", "conv", weight_zero_point),
    ("unequal Concat", "concat", concat),
)


@pytest.mark.parametrize(("trap", "node", "make"), CASES, ids=[make.__name__ for _, _, make in CASES])
def test_the_trap_is_recognised_at_its_node(trap: str, node: str, make: Callable[[], ir.Model]) -> None:
    assert (trap, node) in found(make())


def test_every_trap_has_a_graph_that_falls_into_it() -> None:
    assert {trap.name for trap in TRAPS} == {trap for trap, _, _ in CASES}


@pytest.mark.parametrize("trap", [trap for trap in TRAPS if trap.optimizer], ids=lambda trap: trap.name)
def test_without_the_optimizer_it_does_not_happen(trap: Trap) -> None:
    make = next(make for name, _, make in CASES if name == trap.name)
    assert trap.name not in {name for name, _ in found(make(), trap.optimizer)}


def good() -> ir.Model:
    """uint8 values, int8 weights, Q behind Relu from 0, equal scales, MaxPool beside a Conv."""
    g = Qdq()
    x = g.q(g.node("Relu", g.conv(g.q(g.input(1, 8, 16, 16)))), zero=ZERO)
    x = g.q(g.node("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2]), zero=ZERO)
    one, two = g.q(g.conv(x)), g.q(g.conv(x))
    x = g.q(g.node("Concat", one, two, axis=1))
    x = g.q(g.node("GlobalAveragePool", x))
    x = g.q(g.node("Flatten", x))
    return g.model(g.node("MatMul", x, g.weight(16, 10, axis=1)))


def test_a_graph_in_good_form_has_no_finding() -> None:
    assert found(good()) == []


def test_a_finding_says_node_rule_remedy_and_what_it_costs() -> None:
    model = average_pool()
    conformance = gate(model, {}, SessionConfig(), feed(model))
    (finding,) = conformance.findings
    assert isinstance(finding, Finding)
    assert (finding.trap, finding.node, finding.rule) == ("QLinearAveragePool", "pool", "rule 10")
    assert "float" in finding.remedy and finding.runs_as == "QLinearAveragePool"
    assert finding.microseconds is not None and finding.microseconds > 0
    assert finding.share is not None and 0 < finding.share < 1
    assert conformance.integer_nodes >= 2


def test_weights_dequantized_at_every_run_count_with_their_node() -> None:
    model = weight_only()
    graph = optimised(model, SessionConfig())
    seconds = {node.name: (3e-6 if node.op_type == "DequantizeLinear" else 5e-6) for node in graph.node}
    (finding,) = findings(graph, model, seconds)
    assert finding.microseconds == 8.0


def test_without_a_run_the_cost_is_unknown() -> None:
    conformance = gate(softmax(), {}, SessionConfig(), None)
    assert [(f.trap, f.microseconds, f.share) for f in conformance.findings] == [("QLinearSoftmax", None, None)]
