"""Layers rounded one after the other, each on what those in front of it left."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from qcompiler import ir
from qcompiler.analysis.moments import collect_moments
from qcompiler.backends import get
from qcompiler.backends.base import configured
from qcompiler.data import Sample
from qcompiler.passes.plan.encode_blocks import EncodeBlocks, block_values, blocked
from qcompiler.passes.prepare.infer_shapes import InferShapes
from qcompiler.passes.prepare.name_everything import NameEverything
from qcompiler.pipeline import PassRecord, Pipeline
from qcompiler.quant import QuantPlan
from qcompiler.search.candidates import Drafter
from qcompiler.search.in_turn import EncodeInTurn, turns
from tests.graphs import run

RNG = np.random.default_rng(0)
WIDTH, LAYERS = 48, 5


def chain(*, tied: bool = False) -> ir.Model:
    """A table, layers with Tanh between them, and an output layer that may be the table."""
    table = RNG.standard_normal((120, WIDTH)).astype(np.float32)
    weights = {"t": table, "head": np.ascontiguousarray(table.T) if tied else RNG.standard_normal((WIDTH, 120))}
    lines = ["x0 = Gather(t, ids)"]
    for i in range(LAYERS):
        weights[f"w{i}"] = RNG.standard_normal((WIDTH, WIDTH)) / np.sqrt(WIDTH)
        lines += [f"y{i} = MatMul(x{i}, w{i})", f"x{i + 1} = Tanh(y{i})"]
    body = "\n".join([*lines, f"z = MatMul(x{LAYERS}, head)"])
    proto = onnx.parser.parse_model(
        f'<ir_version: 10, opset_import: ["" : 21]> g (int64[n] ids) => (float[n, 120] z) {{ {body} }}'
    )
    proto.graph.initializer.extend(numpy_helper.from_array(w.astype(np.float32), k) for k, w in weights.items())
    model = ir.Model.from_proto(proto)
    Pipeline().graph(model, [NameEverything(), InferShapes()])
    return model


def planned(model: ir.Model, **options: object) -> tuple[ir.Model, QuantPlan]:
    drafter = Drafter(model, configured(get("onnxruntime"), {"bits": 4, "block": 64, "table_bits": 4, **options}))
    draft = drafter.draft("w4")
    return draft.model, draft.plan


def samples(count: int = 8) -> list[Sample]:
    return [Sample({"ids": RNG.integers(0, 120, 64)}, None, str(i)) for i in range(count)]


def error(model: ir.Model, plan: QuantPlan, feed: dict[str, np.ndarray]) -> float:
    rounded = model.copy()
    edit, nodes = ir.Editor(rounded, rounded.graph), {node.name: node for node in rounded.nodes}
    for site, decision in plan.quantized():
        assert decision.encoding is not None
        edit.set_input(nodes[site.consumer], site.port, edit.constant("rounded", block_values(decision.encoding)))
    (exact,), (got,) = run(model, feed), run(rounded, feed)
    return float(np.square(exact - got).mean() / np.square(exact).mean())


def test_it_loses_less_than_layers_by_themselves() -> None:
    model, plan = planned(chain())
    source, held_out = samples(), samples(1)[0].feed
    ours = EncodeInTurn(source).apply(model, plan, PassRecord("p"))
    moments = collect_moments(model, source, {f"x{i}": WIDTH for i in range(LAYERS + 1)})
    alone = EncodeBlocks("auto", moments).apply(model, plan, PassRecord("p"))
    assert {site.consumer for site in blocked(ours)} == {site.consumer for site in blocked(alone)}
    assert all(decision.encoding is not None for _, decision in ours.quantized())
    assert error(model, ours, held_out) < 0.95 * error(model, alone, held_out)


@pytest.mark.parametrize("tied", [False, True])
def test_turns_follow_the_graph(tied: bool) -> None:
    model, plan = planned(chain(tied=tied))
    found = [[site.tensor for unit in turn.units for site in unit] for turn in turns(model, plan)]
    layers = [[f"w{i}"] for i in range(LAYERS)]
    assert found == [*layers, ["head", "t"]] if tied else found == [["t"], *layers, ["head"]]
    if tied:
        done = EncodeInTurn(samples(2)).apply(model, plan, PassRecord("p"))
        table, head = (
            block_values(d.encoding) for s, d in sorted(done.quantized()) if s.tensor in ("t", "head") and d.encoding
        )
        np.testing.assert_array_equal(table.T, head)
