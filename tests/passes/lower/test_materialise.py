"""materialise: the plan as nodes, text in and text out, and the numbers of a NumPy reference."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from qcompiler import ir
from qcompiler.errors import InternalError
from qcompiler.numerics.affine import fake_quantize
from qcompiler.passes.lower.codes import axis_of
from qcompiler.passes.lower.materialise import Materialise
from qcompiler.pipeline import Pipeline
from qcompiler.quant import Encoding, QuantPlan, Site
from tests.graphs import run, session
from tests.quantized import Quantized, annotate, quantize
from tests.small import FIRST, SAME, graph, normal


def text(model: ir.Model) -> list[str]:
    """One line for each node: outputs = operator(inputs)."""
    return [
        f"{', '.join(t.name for t in n.outputs)} = {n.op}({', '.join(t.name for t in n.inputs)})" for n in model.nodes
    ]


def test_text() -> None:
    found = quantize(graph(f"{FIRST} r = Relu(a) y = Conv(r, v)"), legalise=False)
    assert text(found.model) == [
        "x_q = QuantizeLinear(x, x_scale, x_zero_point)",
        "x_dq = DequantizeLinear(x_q, x_scale, x_zero_point)",
        "w_dq = DequantizeLinear(w_q, w_scale, w_zero_point)",
        "b_dq = DequantizeLinear(b_q, b_scale, b_zero_point)",
        "a = Conv(x_dq, w_dq, b_dq)",
        "r = Relu(a)",
        "r_q = QuantizeLinear(r, r_scale, r_zero_point)",
        "r_dq = DequantizeLinear(r_q, r_scale, r_zero_point)",
        "v_dq = DequantizeLinear(v_q, v_scale, w_zero_point)",
        "y_inner = Conv(r_dq, v_dq)",
        "y_q = QuantizeLinear(y_inner, y_scale, y_zero_point)",
        "y = DequantizeLinear(y_q, y_scale, y_zero_point)",
    ]
    types = {c.name: (str(np.dtype(c.dtype)), list(c.shape)) for c in found.model.constants()}
    assert types == {
        "x_scale": ("float32", []), "x_zero_point": ("uint8", []),
        "w_q": ("int8", [8, 4, 3, 3]), "w_scale": ("float32", [8]), "w_zero_point": ("int8", [8]),
        "b_q": ("int32", [8]), "b_scale": ("float32", [8]), "b_zero_point": ("int32", [8]),
        "r_scale": ("float32", []), "r_zero_point": ("uint8", []),
        "v_q": ("int8", [8, 8, 3, 3]), "v_scale": ("float32", [8]),
        "y_scale": ("float32", []), "y_zero_point": ("uint8", []),
    }  # fmt: skip
    axes = {n.outputs[0].name: n.attrs.get("axis") for n in found.model.nodes if n.op == "DequantizeLinear"}
    assert axes == {"x_dq": None, "w_dq": 0, "b_dq": 0, "r_dq": None, "v_dq": 0, "y": None}


def test_names_of_nodes_inputs_and_outputs_stay() -> None:
    model = graph(f"{FIRST} r = Relu(a) y = Conv(r, v)", outputs="float[N, M, P, Q] y, float[N, M, P, Q] r")
    found = quantize(model)
    assert [t.name for t in found.model.outputs] == ["y", "r"]
    assert [t.name for t in found.model.inputs] == ["x"]
    assert {"Conv_a", "Relu_r", "Conv_y"} <= {n.name for n in found.model.nodes}
    assert found.model.find("Conv_a").outputs[0].name == "a"  # type: ignore[union-attr]


def test_each_distinct_pair_and_number_is_there_once() -> None:
    body = f"t = Tanh(x) d = Conv{SAME}(t, w, b) i = Conv{SAME}(t, w, b) g = Add(d, i) f = Sin(t) y = Conv(g, v)"
    found = quantize(graph(body, outputs="float[N, M, P, Q] y, float[N, M, P, Q] f"))
    counts: dict[str, int] = {}
    for node in found.model.nodes:
        if node.op in ("QuantizeLinear", "DequantizeLinear"):
            counts[node.inputs[0].name] = counts.get(node.inputs[0].name, 0) + 1
    assert set(counts.values()) == {1}
    assert "t" in counts
    values = [(str(np.dtype(c.dtype)), tuple(c.shape), ir.array(c).tobytes()) for c in found.model.constants()]
    assert len(set(values)) == len(values)
    assert found.model.find("Sin_f").inputs[0].name == "t"  # type: ignore[union-attr]


def test_equal_numbers_of_two_types_are_two_pairs() -> None:
    """One constant as uint8 operand and as int8 weight of equal scale and zero point."""
    values = np.linspace(0, 1, 16, dtype=np.float32).reshape(4, 4)
    body = "t = Tanh(x) a = MatMul(x, q) s = MatMul(t, q) p = Add(x, q) z = MatMul(p, q) y0 = Add(a, s) y = Add(y0, z)"
    model = graph(body, "float[4, 4] x", "float[4, 4] y", {"q": values})
    plan, _ = annotate(model)
    encoded = {}
    for site, decision in plan.sites.items():
        assert decision.choice is not None
        spec = replace(decision.choice, granularity=plan.sites[Site("x", "MatMul_a", 0)].choice.granularity)  # type: ignore[union-attr]
        encoding = Encoding(spec, np.asarray(1 / 127, np.float32), np.asarray(0, np.int32), "test")
        encoded[site] = replace(decision, encoding=encoding)
    Pipeline().graph(model, [Materialise(plan.with_sites(encoded))])
    readers = [n for n in model.nodes if n.op in ("MatMul", "Add") and n.inputs[1].name.startswith("q")]
    types = {n.name: np.dtype(n.inputs[1].inputs[0].inputs[0].dtype).name for n in readers}
    assert types == {"MatMul_a": "int8", "MatMul_s": "int8", "Add_p": "uint8", "MatMul_z": "int8"}


def test_float_constants_without_a_reader_are_dropped() -> None:
    found = quantize(graph(f"{FIRST} y = Conv(a, v)"))
    assert not {"w", "b", "v"} & {c.name for c in found.model.constants()}
    body = f"{FIRST} s = Mul(a, half) y = Conv(s, v)"
    found = quantize(graph(body))
    assert "half" not in {c.name for c in found.model.constants()}


def test_a_weight_that_float_nodes_read_too_stays() -> None:
    found = quantize(graph(f"{FIRST} z = Tanh(w) y = Conv(a, v)", outputs="float[N, M, P, Q] y, float[N, M, P, Q] z"))
    assert {"w", "w_q"} <= {c.name for c in found.model.constants()}


def test_rescale_leaves_one_quantizer_and_no_multiplication() -> None:
    found = quantize(graph(f"{FIRST} s = Mul(a, half) y = Conv(s, v)"))
    assert [n.op for n in found.model.nodes if n.op in ("Mul", "QuantizeLinear")] == ["QuantizeLinear"] * 3
    dequantizers = [n for n in found.model.nodes if n.op == "DequantizeLinear" and n.inputs[0].name == "a_q"]
    assert [n.outputs[0].name for n in dequantizers] == ["s"]
    both = quantize(graph(f"{FIRST} s = Mul(a, half) d = Conv(s, v) i = Conv(a, v) y = Add(d, i)"))
    scales = [
        float(ir.array(n.inputs[1]))
        for n in both.model.nodes
        if n.op == "DequantizeLinear" and n.inputs[0].name == "a_q"
    ]
    assert scales[0] == scales[1] * np.float32(0.5) or scales[1] == scales[0] * np.float32(0.5)
    assert both.optimised().fallback == ()


def test_an_unread_result_gets_no_pair() -> None:
    model = graph(f"{FIRST} y = Conv(a, v)")
    model.graph.outputs.clear()
    found = quantize(graph(f"{FIRST} d = Conv{SAME}(x, w) y = Conv(a, v)"))
    assert "d_q" not in {t.name for n in found.model.nodes for t in n.outputs}


def test_the_same_plan_gives_the_same_bytes() -> None:
    body = f"{FIRST} d = Conv{SAME}(x, w, c) s = Concat<axis = 1>(a, d) t = Mul(s, half) y = Conv(t, u)"
    one, two = quantize(graph(body)), quantize(graph(body))
    assert one.model.to_proto().SerializeToString() == two.model.to_proto().SerializeToString()


def test_sites_that_name_nothing() -> None:
    found = quantize(graph("y = Conv(x, w)"))
    decision = found.plan.sites[Site("x", "Conv_y", 0)]
    for site in (Site("x", "Conv_z", 0), Site("x", "Conv_y", 1), Site("x", "Conv_y", 7), Site("z")):
        plan = QuantPlan({site: decision}, found.plan.nodes)
        with pytest.raises(InternalError, match="names nothing in the graph"):
            Pipeline().graph(found.before.copy(), [Materialise(plan)])


def test_sites_without_encoding() -> None:
    model = graph("y = Conv(x, w)")
    plan, _ = annotate(model)
    with pytest.raises(InternalError, match="x@Conv_y:0: a quantized site has no encoding"):
        Pipeline().graph(model, [Materialise(plan)])


# ---- numbers
def reference(found: Quantized, feed: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The float model, node by node, each site of the plan rounded to its grid with NumPy."""
    model, plan = found.before, found.plan

    def rounded(values: np.ndarray, encoding: Encoding) -> np.ndarray:
        spec = encoding.spec
        return fake_quantize(
            values, encoding.scale, encoding.zero_point, qmin=spec.low, qmax=spec.high, axis=axis_of(encoding)
        )

    values = dict(feed) | {c.name: ir.array(c) for c in model.constants()}
    for node in model.nodes:
        proto = onnx.helper.make_node(node.op, [t.name for t in node.inputs], [t.name for t in node.outputs])
        proto.attribute.extend(onnx.helper.make_attribute(k, v) for k, v in node.attrs.items())
        inputs = {}
        for port, tensor in enumerate(node.inputs):
            if not tensor.name:
                continue
            value, decision = values[tensor.name], plan.sites.get(Site(tensor.name, node.name, port))
            if decision is not None:
                assert decision.encoding is not None
                value = rounded(value, decision.encoding)
            inputs.setdefault(tensor.name, value)
        kinds = [onnx.helper.np_dtype_to_tensor_dtype(v.dtype) for v in inputs.values()]
        graph_proto = onnx.helper.make_graph(
            [proto], "one",
            [onnx.helper.make_tensor_value_info(n, k, None) for n, k in zip(inputs, kinds, strict=True)],
            [onnx.helper.make_tensor_value_info(t.name, 1, None) for t in node.outputs],
        )  # fmt: skip
        one = onnx.helper.make_model(graph_proto, opset_imports=model.header.opset_import, ir_version=10)
        results = session(ir.Model.from_proto(one)).run(None, inputs)
        for tensor, result in zip(node.outputs, results, strict=True):
            decision = plan.sites.get(Site(tensor.name))
            if decision is not None:
                assert decision.encoding is not None
                root = decision.encoding
                result = (
                    values[node.inputs[0].name] * np.float32(decision.gain)
                    if decision.gain != 1
                    else rounded(result, root)
                )
            values[tensor.name] = result
    return values


GRAPHS = {
    "relu": f"{FIRST} r = Relu(a) y = Conv(r, v, c)",
    "clip": f"{FIRST} r = Clip(a, zero, six) y = Conv(r, v, c)",
    "residual": f"{FIRST} r = Relu(a) d = Conv{SAME}(r, v, c) s = Add(d, r) t = Relu(s) y = Conv{SAME}(t, v)",
    "moves": f"{FIRST} s = MaxPool<kernel_shape = [2, 2]>(a) t = Transpose<perm = [0, 1, 3, 2]>(s) y = Conv(t, v)",
    "concat": f"{FIRST} d = Conv{SAME}(x, w, c) s = Concat<axis = 1>(a, d) y = Conv(s, u)",
    "silu": f"{FIRST} s = Sigmoid(a) t = Mul(a, s) y = Conv(t, v)",
    "rescale": f"{FIRST} s = Mul(a, half) y = Conv(s, v, c)",
    "constant": f"{FIRST} s = Add(a, channel) y = Conv(s, v, c)",
    "depthwise": f"{FIRST} y = Conv<group = 8>(a, dw)",
    "float between": f"{FIRST} t = Tanh(a) y = Conv(t, v, c)",
    "leaky": f"{FIRST} s = LeakyRelu<alpha = 0.1>(a) y = Conv(s, v, c)",
}


@pytest.mark.parametrize("case", GRAPHS)
def test_numbers_without_optimisation_are_those_of_numpy(case: str) -> None:
    found = quantize(graph(GRAPHS[case]))
    for sample in range(3):
        expected = reference(found, dict(found.feeds[sample]))["y"]
        got = found.outputs(sample=sample)[0]
        encoding = found.plan.sites[Site("y")].encoding
        assert encoding is not None
        np.testing.assert_allclose(got, expected, atol=1.01 * float(encoding.scale) if case == "silu" else 1e-5)


@pytest.mark.parametrize("case", GRAPHS)
def test_numbers_with_optimisation_are_at_most_two_steps_away(case: str) -> None:
    found = quantize(graph(GRAPHS[case]))
    step = float(found.plan.sites[Site("y")].encoding.scale)  # type: ignore[union-attr]
    for sample in range(3):
        off, on = (np.asarray(found.outputs(optimize=o, sample=sample)[0]) for o in (False, True))
        steps = np.abs(on - off) / step
        assert steps.max() <= 2.01
        assert (steps > 0.5).mean() < 0.02


@pytest.mark.parametrize("case", GRAPHS)
def test_the_whole_is_near_float(case: str) -> None:
    found = quantize(graph(GRAPHS[case]))
    expected = run(found.before, found.feeds[0])[0]
    got = np.asarray(found.outputs()[0])
    assert np.square(got - expected).mean() < 1e-3 * np.square(expected).mean()


def test_one_output_channel_keeps_a_scale_of_rank_1() -> None:
    weight = normal(1, 4, 3, 3)
    found = quantize(graph("y = Conv(x, w1)", constants={"w1": weight}))
    scale = next(c for c in found.model.constants() if c.name == "w1_scale")
    assert list(scale.shape) == [1]
    expected = run(found.before, found.feeds[0])[0]
    for optimize in (False, True):
        np.testing.assert_allclose(found.outputs(optimize=optimize)[0], expected, atol=0.02 * np.abs(expected).max())
    assert found.optimised().fallback == ()


def test_codes_of_optimised_rounding_are_used_as_they_are() -> None:
    found = quantize(graph("y = Conv(x, w)"))
    site = Site("w", "Conv_y", 1)
    decision = found.plan.sites[site]
    assert decision.encoding is not None
    mine = np.arange(8 * 4 * 9).reshape(8, 4, 3, 3).astype(np.int8)
    plan = found.plan.with_sites({site: replace(decision, encoding=replace(decision.encoding, codes=mine))})
    model = found.before.copy()
    Pipeline().graph(model, [Materialise(plan)])
    stored = next(t for t in model.to_proto().graph.initializer if t.name == "w_q")
    np.testing.assert_array_equal(numpy_helper.to_array(stored), mine)
