"""scale-inputs: the function stays, the places that can take factors take them, others refuse with the reason."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from qcompiler import ir
from qcompiler.analysis.moments import collect_moments
from qcompiler.data import Sample
from qcompiler.errors import DataError
from qcompiler.passes.condition.scale_inputs import ScaleInputs
from qcompiler.passes.prepare.infer_shapes import InferShapes
from qcompiler.passes.prepare.name_everything import NameEverything
from qcompiler.pipeline import Pipeline
from qcompiler.quant import PerBlock, QSpec, QuantPlan, Site, SitePlan
from qcompiler.quant.qtype import UINT4, UINT8, QType
from tests.graphs import run

SPEC = QSpec(UINT4, PerBlock(0, 16))
RNG = np.random.default_rng(3)
# inputs of very unequal size, as those of language models are
LOUD = np.exp(2 * RNG.standard_normal(32)).astype(np.float32)


def built(body: str) -> ir.Model:
    header = '<ir_version: 10, opset_import: ["" : 21, "com.microsoft" : 1]>'
    proto = onnx.parser.parse_model(f"{header} g (float[n, 32] x) => (float[n, 16] y) {{ {body} }}")
    values = {
        "gamma": LOUD, "beta": LOUD / 3, "w": RNG.standard_normal((32, 16)), "v": RNG.standard_normal((32, 32)),
        "bias": LOUD / 5, "u": RNG.standard_normal((32, 32)) * LOUD,
    }  # fmt: skip
    used = {name for node in proto.graph.node for name in node.input}
    forms = {"rows": [-1, 32], "pairs": [-1, 2, 16], "first": [0]}
    proto.graph.initializer.extend(numpy_helper.from_array(np.array(v), k) for k, v in forms.items() if k in used)
    proto.graph.initializer.extend(
        numpy_helper.from_array(value.astype(np.float32), name) for name, value in values.items() if name in used
    )
    model = ir.Model.from_proto(proto)
    Pipeline().graph(model, [NameEverything(), InferShapes()])
    return model


def samples(rows: int = 50) -> list[Sample]:
    return [Sample({"x": RNG.standard_normal((rows, 32)).astype(np.float32)}, None, "one")]


def scaled(model: ir.Model) -> tuple[int, list[str]]:
    """How many values were rescaled, and the refusals; every MatMul is taken as rounded."""
    sites = {
        Site(node.inputs[1].name, node.name, 1): SitePlan((SPEC,), SPEC, "block-matrix")
        for node in model.nodes
        if node.op == "MatMul"
    }
    widths = {node.inputs[0].name: 32 for node in model.nodes if node.op == "MatMul"}
    pipeline = Pipeline()
    changes = pipeline.graph(model, [ScaleInputs(QuantPlan(sites), collect_moments(model, samples(), widths).get)])
    return changes, [refusal.reason for refusal in pipeline.trace.records[-1].refusals]


@pytest.mark.parametrize(
    "body",
    [
        "m = Mul(x, gamma) y = MatMul(m, w)",
        "m = LayerNormalization <axis = -1> (x, gamma, beta) y = MatMul(m, w)",
        "a = Sigmoid(x) b = MatMul(x, u) m = Mul(a, b) y = MatMul(m, w)",
        "m, , , s = com.microsoft.SkipSimplifiedLayerNormalization (x, x, gamma) z = MatMul(m, w) t = MatMul(s, w)"
        " y = Add(z, t)",
        "m = com.microsoft.SkipLayerNormalization (x, x, gamma, beta, bias) y = MatMul(m, w)",
        "m = SimplifiedLayerNormalization <axis = -1> (x, gamma) r = Reshape(m, rows) y = MatMul(r, w)",
    ],
)
def test_the_function_stays(body: str) -> None:
    model = built(body)
    before, feed = model.copy(), samples()[0].feed
    changes, _ = scaled(model)
    assert changes == 1
    np.testing.assert_allclose(run(model, feed)[0], run(before, feed)[0], rtol=1e-4, atol=1e-3)
    old, new = ({t.name for t in m.constants()} for m in (before, model))
    assert any(name.endswith("_scaled") for name in new - old)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("m = Mul(x, gamma) z = MatMul(m, v) r = Add(m, z) y = MatMul(r, w)", "has readers that do not take scales"),
        ("m = Relu(x) y = MatMul(m, w)", "cannot take in factors"),
        ("m = Mul(x, gamma) r = Reshape(m, pairs) p = Reshape(r, rows) y = MatMul(p, w)", "cannot take in factors"),
        ("m = Mul(x, gamma) r = Reshape(m, rows) z = MatMul(r, w) k = MatMul(m, w) y = Add(z, k)", "cannot take in"),
    ],
)
def test_refusals(body: str, reason: str) -> None:
    model = built(body)
    text = ir.to_text(model)
    changes, refusals = scaled(model)
    assert changes == 0 and any(reason in refusal for refusal in refusals)
    assert ir.to_text(model) == text


def test_moments_are_those_of_all_rows() -> None:
    model, data = built("m = Mul(x, gamma) y = MatMul(m, w)"), [*samples(7), *samples(20)]
    found = collect_moments(model, data, {"m": 32})
    rows = np.concatenate([sample.feed["x"] for sample in data]).astype(np.float64) * LOUD
    np.testing.assert_allclose(found["m"], rows.T @ rows, rtol=1e-4, atol=1e-3)


def test_moments_of_infinity_are_refused() -> None:
    model = built("m = Mul(x, gamma) y = MatMul(m, w)")
    with pytest.raises(DataError, match="NaN or infinity"):
        collect_moments(model, [Sample({"x": np.full((2, 32), np.inf, np.float32)}, None, "bad")], {"m": 32})


@pytest.mark.parametrize("table", [UINT4, UINT8])
def test_a_weight_that_is_a_table_too_stays_one(table: QType) -> None:
    """Scaled for its layer, it would have to be stored a second time; in another form it is, in any case."""
    model = built("t = Gather(v, first) a = Add(x, t) n = Mul(a, gamma) z = Gemm<transB = 1>(n, v) y = MatMul(z, w)")
    read = {"Gather": QSpec(table, PerBlock(1, 16)), "Gemm": QSpec(UINT4, PerBlock(1, 16))}
    sites = {
        Site("v", node.name, int(node.op == "Gemm")): SitePlan((read[node.op],), read[node.op], "block")
        for node in model.nodes
        if node.op in read
    }
    pipeline, moments = Pipeline(), collect_moments(model, samples(), {"n": 32})
    changes = pipeline.graph(model, [ScaleInputs(QuantPlan(sites), moments.get)])
    reasons = [refusal.reason for refusal in pipeline.trace.records[-1].refusals]
    tied = table == UINT4
    assert changes == (0 if tied else 1)
    assert reasons == (["'n' is read by a layer whose weight is a table, too"] if tied else [])
