"""Precision mixed: which nodes are static, which dynamic, and what is stored between them."""

from __future__ import annotations

import numpy as np
import pytest

from qcompiler import ir
from qcompiler.quant import QuantPlan
from tests.graphs import ops, run
from tests.quantized import annotate, quantize
from tests.small import FIRST, graph, integers, sites

CONV_THEN_MATRIX = f"{FIRST} s = Softmax(a) y = MatMul(s, mm16)"
BOTH = f"{FIRST} y = MatMul(x, mm16) z = MatMul(x, mn16) q = Add(y, z)"
MATRICES = {
    "mm16": np.random.default_rng(0).normal(size=(16, 16)).astype(np.float32),
    "mn16": np.random.default_rng(1).normal(size=(16, 16)).astype(np.float32),
}


def mixed(body: str, **options: object) -> ir.Model:
    return graph(body, constants=MATRICES, **options)  # type: ignore[arg-type]


def precisions(plan: QuantPlan) -> dict[str, str]:
    return {name: node.precision for name, node in plan.nodes.items()}


def test_a_product_of_what_nothing_stores_is_dynamic() -> None:
    plan, _ = annotate(mixed(CONV_THEN_MATRIX), "mixed")
    assert precisions(plan) == {"Conv_a": "int8", "Softmax_s": "float", "MatMul_y": "w8"}
    assert integers(plan) == {"Conv_a": "conv", "MatMul_y": "dynamic-matrix"}
    dynamic = [str(site) for site, decision in plan.quantized() if decision.choice and decision.choice.dynamic]
    assert dynamic == ["s@MatMul_y:0"]


def test_a_product_of_what_the_region_stores_is_static() -> None:
    body = f"{FIRST} g = GlobalAveragePool(a) f = Flatten(g) y = Gemm(f, m8, n)"
    model = mixed(body, outputs="float[1, 10] y")
    for precision in ("int8", "mixed"):
        plan, _ = annotate(model, precision)  # type: ignore[arg-type]
        assert integers(plan) == {
            "Conv_a": "conv", "GlobalAveragePool_g": "global-pool", "Flatten_f": "move", "Gemm_y": "gemm",
        }  # fmt: skip
        assert set(precisions(plan).values()) == {"int8"}


def test_followers_that_only_a_dynamic_node_reads_stay_float() -> None:
    body = "s = Softmax(x) t = Transpose<perm = [0, 1, 3, 2]>(s) y = MatMul(t, mm16)"
    plan, said = annotate(mixed(body), "mixed")
    assert precisions(plan) == {"Softmax_s": "float", "Transpose_t": "float", "MatMul_y": "w8"}
    assert "Transpose_t: 's' is not quantized, and quantizing it here would cost more" in said


def test_a_value_read_by_both_kinds_has_a_site_for_each() -> None:
    plan, _ = annotate(mixed(BOTH), "mixed")
    assert sites(plan)[:1] == ["x@Conv_a:0"]
    assert "x@MatMul_y:0" in sites(plan) and "x@MatMul_z:0 = x@MatMul_y:0" in sites(plan)


def test_the_numbers_and_what_onnx_runtime_makes_of_it() -> None:
    found = quantize(mixed(CONV_THEN_MATRIX), "mixed")
    assert ops(found.model).count("DynamicQuantizeLinear") == 1
    made = found.optimised()
    assert made.ops["QLinearConv"] == 1 and made.ops["DynamicQuantizeMatMul"] == 1
    assert not made.fallback and not made.surprises
    before, after = run(found.before, found.feeds[0])[0], found.outputs()[0]
    assert 10 * np.log10((before**2).sum() / ((before - np.asarray(after)) ** 2).sum()) > 25


def test_products_of_the_same_value_quantize_it_once() -> None:
    found = quantize(mixed(BOTH, outputs="float[1, 4, 16, 16] q, float[1, 8, 16, 16] a"), "mixed")
    assert ops(found.model).count("DynamicQuantizeLinear") == 1
    assert found.optimised().ops["DynamicQuantizeLinear"] == 1
    assert found.optimised().ops["MatMulIntegerToFloat"] == 2


@pytest.mark.parametrize("precision", ["int8", "w8"])
def test_other_precisions_have_nodes_of_one_kind(precision: str) -> None:
    plan, _ = annotate(mixed(CONV_THEN_MATRIX), precision)  # type: ignore[arg-type]
    assert set(precisions(plan).values()) == {precision, "float"}
