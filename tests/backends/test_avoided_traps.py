"""The rules of the ONNX Runtime fact sheet: graphs that invite each trap, compiled the whole way, fall into none."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest

from qcompiler import ir
from qcompiler.backends.conformance import Conformance
from qcompiler.search.candidates import Candidate, Drafter
from tests.graphs import feed_for, run
from tests.quantized import BACKEND, Seen
from tests.small import FIRST, SAME, graph, normal

SECOND = f"d = Conv{SAME}(x, w, c)"
POOL = "MaxPool<kernel_shape = [2, 2]>"
ROWS = {"inputs": "float[5, 16] x", "outputs": "float[P, Q] y"}
CUBE = {"inputs": "float[2, 5, 16] x", "outputs": "float[B, P, Q] y"}


@dataclass
class Compiled:
    model: ir.Model
    candidate: Candidate
    seen: Conformance


def compiled(model: ir.Model, keep_float: tuple[str, ...] = (), precision: str = "int8") -> Compiled:
    """From a prepared model to what ONNX Runtime runs, calibrated on three samples."""
    drafter = Drafter(model, BACKEND, keep_float)
    draft = drafter.draft(precision)  # type: ignore[arg-type]
    feeds = [feed_for(model, seed) for seed in range(3)]
    candidate = drafter.candidate(draft, Seen.of(model, draft.wanted, feeds), "minmax", {})
    seen = BACKEND.inspect(candidate.model, candidate.plan.nodes)
    for feed in feeds:
        expected = np.asarray(run(model, feed)[0])
        got = np.asarray(run(candidate.model, feed, optimize=True)[0])
        np.testing.assert_allclose(got, expected, atol=0.08 * np.abs(expected).max())
    return Compiled(model, candidate, seen)


@dataclass
class Case:
    """A graph, how often operators must be in what ONNX Runtime runs, which must not, and other inputs and outputs."""

    body: str
    present: dict[str, int]
    absent: tuple[str, ...] = ()
    ends: dict[str, str] = field(default_factory=dict)


RULES = {
    "2: two readers": Case(
        f"{FIRST} d = Conv{SAME}(a, v) s = Add(a, d) y = Conv(s, v)",
        {"QLinearConv": 3, "QLinearAdd": 1},
        (),
    ),
    "3: result is an output": Case(
        "y = Conv(x, w, b)",
        {"QLinearConv": 1},
        ("Conv", "FusedConv"),
    ),
    "3: result is an output and read": Case(
        f"{FIRST} y = Conv(a, v)",
        {"QLinearConv": 2},
        ("Conv",),
        {"outputs": "float[N, M, P, Q] y, float[N, M, R, S] a"},
    ),
    "4: Relu": Case(
        f"{FIRST} r = Relu(a) y = Conv(r, v)",
        {"QLinearConv": 2},
        ("Relu", "FusedConv"),
    ),
    "4: Clip": Case(
        f"{FIRST} r = Clip(a, zero, six) y = Conv(r, v)",
        {"QLinearConv": 2},
        ("Clip", "FusedConv"),
    ),
    "4: Clip to both sides": Case(
        f"{FIRST} r = Clip(a, minus, one) y = Conv(r, v)",
        {"QLinearConv": 2},
        ("Clip", "FusedConv"),
    ),
    "4: Clip off zero": Case(
        f"{FIRST} r = Clip(a, one, five) y = Conv(r, v)",
        {"QLinearConv": 2, "Clip": 1},
        ("FusedConv",),
    ),
    "4: another activation": Case(
        f"{FIRST} r = Tanh(a) y = Conv(r, v)",
        {"QLinearConv": 2, "Tanh": 1},
        ("FusedConv",),
    ),
    "4: leaky Relu": Case(
        f"{FIRST} r = LeakyRelu(a) y = Conv(r, v)",
        {"QLinearLeakyRelu": 1},
        ("FusedConv",),
    ),
    "5: bias of Gemm": Case(
        "p = Gemm(x, m, n) y = Tanh(p)",
        {"QGemm": 1},
        ("Gemm",),
        ROWS,
    ),
    "6: one element": Case(
        "y = Conv(x, w1)",
        {"QLinearConv": 1},
        ("Conv",),
    ),
    "8: bias of MatMul": Case(
        "p = MatMul(x, m) y = Add(p, n)",
        {"MatMulIntegerToFloat": 1, "Add": 1},
        ("Gemm",),
        CUBE,
    ),
    "9: float result": Case(
        "p = MatMul(x, m) y = Tanh(p)",
        {"MatMulIntegerToFloat": 1},
        ("MatMul",),
        CUBE,
    ),
    "10: Softmax": Case(
        f"{FIRST} s = Softmax<axis = 1>(a) y = Conv(s, v)",
        {"Softmax": 1},
        ("QLinearSoftmax",),
    ),
    "10: AveragePool": Case(
        f"{FIRST} s = AveragePool<kernel_shape = [2, 2]>(a) y = Conv(s, v)",
        {"QLinearConv": 3},
        ("QLinearAveragePool", "AveragePool"),
    ),
    "10: AveragePool of odd windows": Case(
        f"{FIRST} s = AveragePool<kernel_shape = [2, 2], ceil_mode = 1, strides = [3, 3]>(a) y = Conv(s, v)",
        {},
        ("QLinearAveragePool",),
    ),
    "11: moves": Case(
        f"{FIRST} s = Transpose<perm = [0, 1, 3, 2]>(a) t = Slice(s, start, end, axis) y = Conv(t, h)",
        {"QLinearConv": 2, "QuantizeLinear": 1, "DequantizeLinear": 1},
        (),
    ),
    "11: split": Case(
        f"""{FIRST} s, t = Split<axis = 1, num_outputs = 2>(a) i = Conv{SAME}(s, h) z = Concat<axis = 1>(i, t)
            y = Conv(z, v)""",
        {"QLinearConv": 3, "Split": 1, "QuantizeLinear": 1, "DequantizeLinear": 1},
        (),
    ),
    "11: nearest": Case(
        f"{FIRST} s = Resize(a, , scales) y = Conv(s, v)",
        {"QuantizeLinear": 1, "DequantizeLinear": 1},
        (),
    ),
    "12: pool": Case(
        f"{FIRST} r = Relu(a) s = {POOL}(r) y = Conv(s, v)",
        {"NhwcMaxPool": 1},
        ("MaxPool",),
    ),
    "15: residual": Case(
        f"{FIRST} r = Relu(a) i = Conv{SAME}(r, v, c) s = Add(i, r) t = Relu(s) y = Conv(t, v)",
        {"QLinearConv": 3, "QLinearAdd": 1},
        ("Add", "Relu"),
    ),
    "16: HardSwish": Case(
        f"{FIRST} s = HardSwish(a) y = Conv(s, v)",
        {"QLinearAdd": 1, "QLinearMul": 1},
        ("HardSigmoid", "Mul"),
    ),
    "16: SiLU": Case(
        f"{FIRST} s = Sigmoid(a) t = Mul(a, s) y = Conv(t, v)",
        {"QLinearSigmoid": 1, "QLinearMul": 1},
        ("Sigmoid",),
    ),
    "17: shuffle": Case(
        f"{FIRST} r = Reshape(a, wide) s = Transpose<perm = [0, 2, 1, 3, 4]>(r) t = Reshape(s, back) y = Conv(t, v)",
        {"Gather": 1},
        ("Reshape",),
    ),
    "section 2.1: ConvTranspose": Case(
        f"{FIRST} i = ConvTranspose<strides = [2, 2]>(a, t2, c) r = Relu(i) y = Conv(r, v)",
        {"QLinearConv": 2, "ConvTranspose": 1},
        (),
    ),
    "section 4: linear Resize": Case(
        f'{FIRST} s = Resize<mode = "linear">(a, , scales) y = Conv(s, v)',
        {"QLinearConv": 2, "Resize": 1},
        (),
    ),
}


@pytest.mark.parametrize("rule", RULES)
def test_rule(rule: str) -> None:
    case = RULES[rule]
    model = graph(case.body, **case.ends, constants={"w1": normal(1, 4, 3, 3)})  # type: ignore[arg-type]
    found = compiled(model)
    assert found.seen.fallback == ()
    assert found.seen.surprises == ()
    assert {op: found.seen.ops.get(op, 0) for op in case.present} == case.present
    assert not set(case.absent) & set(found.seen.ops)


KEPT = {
    "7: float island": (f"{FIRST} r = Relu(a) i = Conv{SAME}(r, v, c) t = Relu(i) y = Conv(t, v)", "Conv_i", "Conv"),
    "12: float stem": (f"{FIRST} r = Relu(a) s = {POOL}(r) y = Conv(s, v)", "Conv_a", "MaxPool"),
    "the user's word": (f"{FIRST} {SECOND} s = Add(a, d) y = Conv(s, v)", "Add_s", "Add"),
}


@pytest.mark.parametrize("rule", KEPT)
def test_rule_with_a_node_kept_float(rule: str) -> None:
    body, name, op = KEPT[rule]
    found = compiled(graph(body), (name,))
    assert (found.seen.fallback, found.seen.surprises) == ((), ())
    assert found.seen.ops[op] == 1


def test_types_of_rules_1_and_6() -> None:
    """uint8 activations of rank 0, int8 weights with zero point 0 and one scale a channel."""
    found = compiled(graph(f"{FIRST} s = Concat<axis = 1>(a, a) t = Sigmoid(s) y = Conv(t, u)"))
    seen = set()
    for node in found.candidate.model.nodes:
        if node.op == "QuantizeLinear":
            assert [list(t.shape) for t in node.inputs[1:]] == [[], []]
            assert np.dtype(node.inputs[2].dtype) == np.uint8
        if node.op == "DequantizeLinear" and isinstance(node.inputs[0], ir.Constant):
            seen.add(np.dtype(node.inputs[0].dtype).name)
            assert not ir.array(node.inputs[2]).any()
            assert len(node.inputs[1].shape) == 1
    assert seen == {"int8", "int32"}


def test_a_concat_has_one_scale() -> None:
    found = compiled(graph(f"{FIRST} {SECOND} s = Concat<axis = 1>(a, d) y = Conv(s, u)"))
    encodings = {str(site): d.encoding for site, d in found.candidate.plan.sites.items() if d.encoding is not None}
    assert encodings["a"].scale == encodings["d"].scale == encodings["s"].scale
