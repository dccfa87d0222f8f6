"""What the table quantizes, and to what."""

from pathlib import Path

import numpy as np
import pytest

from qcompiler import Recipe, compiler, ir
from qcompiler.backends.qnn.backend import Qnn
from qcompiler.backends.qnn.spec import table
from qcompiler.quant import Site
from qcompiler.search.attempts import least_opset
from tests.backends.qnn.helper import attention, convnet, drafted, need_qnn, quantized
from tests.graphs import parse


def kinds(model: ir.Model, precision: str, backend: Qnn | None = None) -> dict[str, str]:
    plan = drafted(model, precision, backend).plan
    return {str(site): str(decision.choice) for site, decision in plan.quantized()}


def names(model: ir.Model, op: str) -> list[str]:
    return [node.name for node in model.nodes if node.op == op]


@pytest.mark.parametrize(("precision", "value", "weight"), [
    ("w8a8", "uint8", "int8"), ("w8a16", "uint16", "int8"), ("w4a8", "uint8", "int4"), ("w4a16", "uint16", "int4"),
])  # fmt: skip
def test_types_of_a_convnet(precision: str, value: str, weight: str) -> None:
    model = convnet()
    plan = drafted(model, precision).plan
    assert {node.precision for node in plan.nodes.values()} == {precision}
    found = {str(site): str(decision.choice) for site, decision in plan.quantized()}
    first = names(model, "Conv")[0]
    assert found[f"w@{first}:1"] == f"{weight} symmetric per axis 0"
    assert found[f"b@{first}:2"] == "int32 symmetric per axis 0"
    assert found["r"] == f"{value} asymmetric per tensor" and "a" not in found


def test_pools_and_moves_share_the_encoding() -> None:
    plan = drafted(convnet(), "w8a8").plan
    assert plan.root(Site("m")) == Site("r") and plan.root(Site("f")) == Site("p")


def test_the_second_operand_of_a_product_is_signed() -> None:
    model = attention()
    scores, values = (names(model, "MatMul")[i] for i in (3, 4))
    found = kinds(model, "w8a16")
    assert found[f"t@{scores}:1"] == found[f"v@{values}:1"] == "int16 symmetric per tensor"
    assert found["t"] == found["q"] == "uint16 asymmetric per tensor" and f"q@{scores}:0" not in found


@pytest.mark.parametrize(
    ("precision", "variant"), [("w8a8", "sm8650"), ("w8a16", "sm8450"), ("w8a16", "sm8350,sm8650")]
)
def test_no_signed_operand_with_8_bits_or_before_v73(precision: str, variant: str) -> None:
    assert not [kind for kind in kinds(attention(), precision, Qnn(variant)).values() if kind.startswith("int16")]


def test_norms_have_a_uint8_scale_and_an_int32_bias() -> None:
    model = attention()
    norm = names(model, "LayerNormalization")[0]
    for precision in ("w8a8", "w8a16"):
        candidate = quantized(model, precision)
        gamma, beta = (candidate.plan.sites[Site(name, norm, port)] for name, port in (("g", 1), ("h", 2)))
        assert str(gamma.choice) == "uint8 asymmetric per tensor" and beta.encoding is not None
        x = candidate.plan.sites[Site("x", norm, 0)].encoding
        assert gamma.encoding is not None and x is not None
        np.testing.assert_allclose(beta.encoding.scale, x.scale * gamma.encoding.scale, rtol=1e-6)


def test_no_weight_is_asymmetric_with_16_bits() -> None:
    for model in (convnet(), attention(norm=False)):
        for precision in ("w8a16", "w4a16"):
            candidate = quantized(model, precision)
            weights = [
                d for s, d in candidate.plan.quantized() if s.consumer and s.port == 1 and d.encoding is not None
            ]
            signed = [d for d in weights if d.choice is not None and d.choice.qtype.signed]
            assert signed and not any(d.encoding.zero_point.any() for d in signed if d.encoding is not None)


@pytest.mark.parametrize(("op", "precision", "kind"), [
    ("Log", "w8a8", "w8a8"), ("Log", "w8a16", "float"), ("CumSum", "w8a8", "float"), ("CumSum", "w8a16", "w8a16"),
])  # fmt: skip
def test_what_compiles_and_is_wrong_stays_float(op: str, precision: str, kind: str) -> None:
    call = "CumSum(r, axis)" if op == "CumSum" else "Log(r)"
    constants = {"axis": np.asarray(1, np.int64)} if op == "CumSum" else {}
    model = parse(f"g (float[1,4] x) => (float[1,4] y) {{ r = Relu(x) l = {call} y = Tanh(l) }}", constants)
    node = drafted(model, precision).plan.nodes[names(model, op)[0]]
    assert node.precision == kind
    assert kind != "float" or "wrong" in node.reason


def test_mixed_gives_16_bits_to_named_nodes() -> None:
    model = convnet()
    first, second = names(model, "Conv")
    backend = Qnn(a16=(second,))
    plan = drafted(model, "mixed", backend).plan
    assert plan.nodes[first].precision == "w8a8" and plan.nodes[second].precision == "w8a16"
    found = kinds(model, "mixed", backend)
    assert found["r"] == "uint8 asymmetric per tensor" and found[f"m@{second}:0"] == "uint16 asymmetric per tensor"
    add = names(model, "Add")[0]
    assert found["c"] == "uint16 asymmetric per tensor" and found[f"c@{add}:0"] == "uint8 asymmetric per tensor"


def test_rank_6_is_refused_with_the_reason() -> None:
    shape = np.asarray([1, 2, 2, 2, 2, 1], np.int64)
    text = "g (float[1,4,4] x) => (float[1,2,2,2,2,1] y) { r = Relu(x) y = Reshape(r, s) }"
    model = parse(text, {"s": shape})
    plan = drafted(model, "w8a8").plan
    assert plan.nodes[names(model, "Reshape")[0]].reason.endswith("works on rank 6; the processor ends at 5")


def test_float16_is_refused_before_v69() -> None:
    assert "fp16" not in Qnn("sm8350").spec.precisions and "fp16" in Qnn("sm8450").spec.precisions


def test_16_bits_need_an_opset_that_has_them() -> None:
    model = parse("g (float[2,4] x) => (float[2,4] y) { y = MatMul(x, w) }", {"w": np.eye(4, dtype=np.float32)})
    assert [least_opset(drafted(model, precision).plan) for precision in ("w8a8", "w8a16")] == [13, 21]


def test_the_search_gives_16_bits_to_what_needs_them(tmp_path: Path) -> None:
    """One column is 300 times the others: on a grid of 8 bits nothing of these is left. Nor has v68 float16."""
    need_qnn()
    rng = np.random.default_rng(0)
    scale = np.ones(16, np.float32)
    scale[0] = 300
    constants = {"s": scale, "d": np.sqrt(scale), "v": rng.normal(size=(16, 16), scale=0.2).astype(np.float32)}
    text = """g (float[4,16] x) => (float[4,16] y) {
        a = Mul(x, s) b = Abs(a) r = Sqrt(b) c = Div(r, d) m = MatMul(c, v) t = Tanh(m) y = MatMul(t, v)
    }"""
    ir.save(parse(text, constants), tmp_path / "model.onnx")
    feeds = [{"x": rng.normal(size=(4, 16)).astype(np.float32)} for _ in range(16)]
    recipe = Recipe(precision="mixed", max_drop="none", options={"emulate": 2})
    report = compiler.compile(tmp_path / "model.onnx", "qnn:v68", feeds, output=tmp_path / "out", recipe=recipe).report
    found = {node.name: node.precision for node in report.nodes}
    assert found["n0_Mul"] == found["n1_Abs"] == "w8a16" and set(found.values()) == {"w8a8", "w8a16"}
    assert not report.backend["failures"] and report.backend["islands"] == []


def test_without_floating_point_there_are_two_to_choose_from() -> None:
    assert not table(68).float_beside and table(75).float_beside
    assert set(table(68).beside) == set(table(75).beside) == {"w8a8", "w8a16"}
