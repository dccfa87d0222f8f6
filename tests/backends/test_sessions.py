"""What is offered follows from the optimised graph: nothing for what does not occur in it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from qcompiler import backends, ir
from qcompiler.analysis import SessionConfig
from qcompiler.backends.onnxruntime.gate import optimised
from tests.backends import test_traps as traps
from tests.backends.qdq import Qdq


def offered(model: ir.Model) -> list[tuple[str, ...]]:
    return [config.disabled_optimizers for config in backends.get("onnxruntime").sessions(model)]


def plain_float() -> ir.Model:
    g = Qdq()
    return g.model(g.node("Relu", g.node("MatMul", g.input(4, 8), g.floats(8, 8))))


@pytest.mark.parametrize(
    ("make", "names"),
    [
        (plain_float, []),
        (traps.skip_norm, ["SkipLayerNormFusion"]),
        (traps.matmul_add, ["MatMulAddFusion"]),
        (traps.float_island, ["WeightBiasQuantization", "NhwcTransformer"]),
        (traps.float_stem_pool, ["QDQPropagationTransformer", "NhwcTransformer"]),
        (traps.good, ["NhwcTransformer"]),
    ],
)
def test_only_what_can_matter_is_offered(make: Callable[[], ir.Model], names: list[str]) -> None:
    assert offered(make()) == [(), *((name,) for name in names)]


def test_the_default_session_is_the_first() -> None:
    assert backends.get("onnxruntime").sessions(plain_float()) == (SessionConfig(),)


def test_the_gate_looks_at_the_session_that_it_is_given() -> None:
    model, backend = traps.skip_norm(), backends.get("onnxruntime")
    without = SessionConfig(disabled_optimizers=("SkipLayerNormFusion",))
    assert "SkipLayerNormalization" in backend.inspect(model, {}).ops
    assert set(backend.inspect(model, {}, without).ops) == {"Add", "LayerNormalization"}
    assert backend.inspect(model, {}, without).findings == ()
    assert [node.op_type for node in optimised(model, without).node] == ["Add", "LayerNormalization"]
