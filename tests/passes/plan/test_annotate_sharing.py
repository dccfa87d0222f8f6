"""annotate: values with several readers, subgraphs, and what the user keeps float."""

from __future__ import annotations

import numpy as np
import pytest

from qcompiler import ir
from qcompiler.errors import UsageError
from tests.graphs import parse
from tests.quantized import annotate, quantize
from tests.small import CONSTANTS, FIRST, SAME, graph, integers, normal, sites

CONV_A = ["x@Conv_a:0", "w@Conv_a:1", "b@Conv_a:2"]


def tensors(model: ir.Model) -> list[str]:
    """Sites of whole tensors."""
    return [site for site in sites(annotate(model)[0]) if "@" not in site]


# ---- integer and float readers
def test_a_stored_result_serves_all_readers() -> None:
    outputs = "float[N, M, P, Q] y, float[N, M, P, Q] z, float[N, M, P, Q] a"
    model = graph(f"{FIRST} y = Conv(a, v) z = Tanh(a)", outputs=outputs)
    assert sites(annotate(model)[0]) == [*CONV_A, "a", "v@Conv_y:1", "y"]


def test_a_float_value_is_quantized_for_its_integer_readers_alone() -> None:
    body = "t = Tanh(x) d = Conv(t, w) i = Conv(t, w) f = Sin(t) g = Add(d, i) y = Conv(g, v)"
    plan, _ = annotate(graph(body))
    assert [s for s in sites(plan) if s.startswith("t")] == ["t@Conv_d:0", "t@Conv_i:0 = t@Conv_d:0"]


def test_a_shared_activation_is_absorbed_but_a_shared_result_is_not() -> None:
    assert tensors(graph(f"{FIRST} r = Relu(a) d = Conv{SAME}(r, v) s = Add(r, d) y = Conv(s, v)")) == list("rdsy")
    shared = graph(f"{FIRST} r = Relu(a) d = Conv{SAME}(r, v) s = Add(a, d) y = Conv(s, v)")
    assert tensors(shared) == list("adsy")
    plan, _ = annotate(shared)
    assert "r@Conv_d:0" in sites(plan)
    assert plan.nodes["Relu_r"].precision == "float"


@pytest.mark.parametrize(("output", "stored"), [("a", ["a", "y"]), ("r", ["r", "y"])])
def test_a_result_that_is_an_output(output: str, stored: list[str]) -> None:
    outputs = f"float[N, M, P, Q] y, float[N, M, P, Q] {output}"
    assert tensors(graph(f"{FIRST} r = Relu(a) y = Conv(r, v)", outputs=outputs)) == stored


def test_a_relu_on_a_shared_input_is_absorbed_once() -> None:
    model = graph(f"{FIRST} r = Relu(a) s = Relu(a) t = Add(r, s) y = Conv(t, v)")
    assert tensors(model) == ["a", "y"]


def test_one_constant_as_weight_and_as_operand() -> None:
    body = f"a = Conv{SAME}(x, q) s = Add(a, q) y = Conv(s, q)"
    model = graph(body, "float[8, 8, 3, 3] x", constants={"q": normal(8, 8, 3, 3)})
    plan, _ = annotate(model)
    found = {str(site): str(decision.choice) for site, decision in plan.sites.items() if site.tensor == "q"}
    assert found == {
        "q@Conv_a:1": "int8 symmetric per axis 0",
        "q@Add_s:1": "uint8 asymmetric per tensor",
        "q@Conv_y:1": "int8 symmetric per axis 0",
    }


def test_the_order_of_nodes_decides_nothing() -> None:
    body = f"{FIRST} d = Conv{SAME}(x, w, c) s = Concat<axis = 1>(a, d) t = Sigmoid(s) u2 = Tanh(t) y = Conv(t, u)"
    expected = integers(annotate(graph(body))[0])
    rng = np.random.default_rng(0)
    for _ in range(10):
        model = graph(body)
        order = rng.permutation(len(model.graph.nodes))
        model.graph.nodes[:] = [model.graph.nodes[i] for i in order]
        ir.Editor(model, model.graph).sort()
        assert integers(annotate(model)[0]) == expected


# ---- subgraphs
def with_subgraph(inner: str = "Relu(a)", more: str = "", outputs: str = "float[1, 8, 8, 8] y") -> ir.Model:
    text = f"""g (float[1, 4, 8, 8] x, bool which) => ({outputs}) {{
        a = Conv<pads = [1, 1, 1, 1]>(x, w, b)
        y = If (which) <
            then_branch = then_graph () => (float[1, 8, 8, 8] p) {{ p = {inner} }},
            else_branch = else_graph () => (float[1, 8, 8, 8] q) {{ q = Conv<pads = [1, 1, 1, 1]>(a, v, c) }}
        >
        {more}
    }}"""
    model = parse(text, {k: CONSTANTS[k] for k in ("w", "b", "v", "c")})
    for node in model.all_nodes():
        node.name = f"{node.op}_{node.outputs[0].name}"
    return model


def test_nodes_of_subgraphs_stay_float_and_say_so() -> None:
    plan, _ = annotate(with_subgraph())
    assert list(integers(plan)) == ["Conv_a"]
    for name in ("Relu_p", "Conv_q"):
        assert plan.nodes[name].reason == "inside a subgraph of If If_y, which stays float"


def test_an_activation_inside_a_subgraph_is_not_absorbed() -> None:
    assert tensors(with_subgraph("Relu(a)")) == ["a"]


def test_a_subgraph_sees_the_rounded_value() -> None:
    model = with_subgraph("Identity(a)", "z = Identity(a)", "float[1, 8, 8, 8] y, float[1, 8, 8, 8] z")
    found = quantize(model, feeds=[{"x": normal(1, 4, 8, 8), "which": np.array(True)}])
    for optimize in (False, True):
        y, z = found.outputs(optimize=optimize)
        np.testing.assert_array_equal(y, z)
    step = float(found.plan.sites[next(s for s in found.plan.sites if str(s) == "a")].encoding.scale)  # type: ignore[union-attr]
    codes = np.asarray(y) / step
    np.testing.assert_allclose(codes, np.rint(codes), atol=1e-3)


# ---- the user's word
def test_keep_float_nodes() -> None:
    plan, said = annotate(graph(f"{FIRST} r = Relu(a) s = Sigmoid(r) y = Conv(s, v)"), keep_float=("Sigmoid_*",))
    assert said == ["Sigmoid_s: kept float by --keep-float 'Sigmoid_*'"]
    assert integers(plan) == {"Conv_a": "conv", "Relu_r": "conv", "Conv_y": "conv"}


def test_keep_float_tensors_stand_for_their_producers() -> None:
    plan, said = annotate(graph(f"{FIRST} r = Relu(a) y = Conv(r, v)"), keep_float=("a",))
    assert said == ["Conv_a: kept float by --keep-float 'a'"]
    assert sites(plan) == ["r@Conv_y:0", "v@Conv_y:1", "y"]


@pytest.mark.parametrize("pattern", ["x", "w", "b"])
def test_keep_float_inputs_and_initializers_stand_for_their_readers(pattern: str) -> None:
    plan, _ = annotate(graph(f"{FIRST} r = Relu(a) y = Conv(r, v)"), keep_float=(pattern,))
    assert list(integers(plan)) == ["Conv_y"]


def test_keep_float_activation_is_not_absorbed() -> None:
    plan, _ = annotate(graph(f"{FIRST} r = Relu(a) y = Conv(r, v)"), keep_float=("Relu_r",))
    assert sites(plan) == [*CONV_A, "a", "r@Conv_y:0", "v@Conv_y:1", "y"]
    assert plan.nodes["Relu_r"].reason == "kept float by --keep-float 'Relu_r'"


def test_keep_float_that_matches_nothing() -> None:
    with pytest.raises(UsageError, match=r"--keep-float: pattern 'head\.\*' matches no node and no tensor"):
        annotate(graph(f"{FIRST} y = Relu(a)"), keep_float=("Conv_a", "head.*"))


def test_keep_float_takes_a_name_with_brackets_at_its_word() -> None:
    model = graph(f"{FIRST} y = Relu(a)")
    model.nodes[0].name = "conv[0]"
    assert integers(annotate(model, keep_float=("conv[0]",))[0]) == {}


def test_keep_float_matches_inside_subgraphs() -> None:
    plan, _ = annotate(with_subgraph(), keep_float=("Conv_q",))
    assert list(integers(plan)) == ["Conv_a"]


def test_keep_float_follows_into_neighbours() -> None:
    body = f"{FIRST} d = Conv{SAME}(x, w, c) s = Add(a, d) p = GlobalAveragePool(s) y = Conv(p, k)"
    plan, said = annotate(graph(body), keep_float=("Conv_d",))
    assert integers(plan) == {"Conv_a": "conv", "Conv_y": "conv"}
    assert "Add_s: 'd' is not quantized, and quantizing it here would cost more" in said
    assert "GlobalAveragePool_p: 's' is not quantized, and quantizing it here would cost more" in said


def test_reasons_of_nodes_without_a_rule() -> None:
    body, outputs = (
        f"{FIRST} t = Tanh(a) s = Softmax(t) d = Det(s) y = Conv(t, v)",
        "float[N, M, P, Q] y, float[N, M] d",
    )
    plan, _ = annotate(graph(body, outputs=outputs))
    assert plan.nodes["Tanh_t"].reason == "there is no integer kernel; Q and DQ around it cost more than they save"
    assert plan.nodes["Softmax_s"].reason == "QLinearSoftmax is 6 times slower than float"
    assert plan.nodes["Det_d"].reason == "no rule of the target for Det"
    assert plan.nodes["Conv_a"].reason.startswith("rules 1, 3, 4, 5")
