"""Operators that most targets have, written out."""

from __future__ import annotations

import numpy as np
import pytest

from qcompiler import ir
from qcompiler.passes.fusion.expand_operators import ExpandOperators
from qcompiler.passes.fusion.written_out import WRITTEN_OUT
from tests.graphs import parse, refusals, run, transform

RNG = np.random.default_rng(0)
CONSTANTS = {
    "s": RNG.uniform(0.5, 1.5, 6).astype(np.float32), "b": RNG.normal(size=6).astype(np.float32),
    "m": RNG.normal(size=6).astype(np.float32), "v": RNG.uniform(0.5, 1.5, 6).astype(np.float32),
    "w": RNG.normal(size=5).astype(np.float32), "p": RNG.uniform(size=(6, 1, 1)).astype(np.float32),
    "two": np.int64([2, 3]),
}  # fmt: skip
CALLS = [
    "GroupNormalization<num_groups=3>(x, s, b)", "GroupNormalization<num_groups=2, epsilon=0.1>(x, s, b)",
    "InstanceNormalization(x, s, b)", "LayerNormalization(x, w)", "LayerNormalization<epsilon=0.1>(x, w, w)",
    "LayerNormalization<axis=2>(x, w)", "BatchNormalization(x, s, b, m, v)", "LRN<size=3, alpha=0.5>(x)",
    "LRN<size=5, alpha=0.9, beta=0.5, bias=2.0>(x)", "LpNormalization<axis=1, p=2>(x)", "LpNormalization<p=1>(x)",
    "ReduceL2<keepdims=1>(x, two)", "ReduceL2<keepdims=0>(x, two)", "PRelu(x, p)", "Selu(x)", "Selu<alpha=1.0>(x)",
    "ThresholdedRelu<alpha=0.5>(x)", "HardSwish(x)", "Gelu(x)", 'Gelu<approximate="tanh">(x)',
]  # fmt: skip
ROUGH = {"Gelu(x)": 3e-5}


def single(call: str) -> ir.Model:
    words = call.replace("(", " ").replace(")", " ").replace(",", " ").split()
    used = {name: value for name, value in CONSTANTS.items() if name in words}
    rank = "N,M" if "keepdims=0" in call else "N,M,K,L"
    return parse(f"g (float[2,6,4,5] x) => (float[{rank}] y) {{ y = {call} }}", used, opset=21)


@pytest.mark.parametrize("call", CALLS)
def test_the_same_numbers_without_the_operator(call: str) -> None:
    before = single(call)
    op = before.nodes[0].op
    after, records = transform(before, ExpandOperators(frozenset({op})))
    assert records[0].changes == 1 and op not in [node.op for node in after.nodes]
    x = RNG.normal(size=(2, 6, 4, 5), scale=2).astype(np.float32)
    np.testing.assert_allclose(
        run(after, {"x": x})[0], run(before, {"x": x})[0], rtol=1e-4, atol=ROUGH.get(call, 1e-5)
    )  # fmt: skip


def test_every_form_is_tried() -> None:
    assert {call.split("<")[0].split("(")[0] for call in CALLS} == set(WRITTEN_OUT)


def test_what_is_computed_cannot_be_folded() -> None:
    text = "g (float[2,6,4,5] x, float[6] s) => (float[2,6,4,5] y) { y = InstanceNormalization(x, s, b) }"
    _, records = transform(parse(text, {"b": CONSTANTS["b"]}), ExpandOperators(frozenset(WRITTEN_OUT)))
    assert refusals(records) == [
        "InstanceNormalization 'n0_InstanceNormalization' is not written out: 's' is not fixed"
    ]


@pytest.mark.parametrize(("call", "error"), [("Gelu(x)", 2.7e-5), ('Gelu<approximate="tanh">(x)', 7e-6)])
def test_gelu_is_as_close_as_it_says(call: str, error: float) -> None:
    before = single(call)
    after, _ = transform(before, ExpandOperators(frozenset({"Gelu"})))
    x = np.linspace(-20, 20, 6 * 4 * 5 * 2 * 300, dtype=np.float32).reshape(-1, 2, 6, 4, 5)
    assert max(np.abs(run(after, {"x": part})[0] - run(before, {"x": part})[0]).max() for part in x) < error
