"""annotate: each rule of the ONNX Runtime table on a small graph; sites, decisions and refusals."""

from __future__ import annotations

import pytest

from qcompiler.quant import BiasOf, PerAxis, PerTensor, Site
from tests.quantized import annotate
from tests.small import FIRST, IMAGE, SAME, graph, integers, sites

CONV_A = ["x@Conv_a:0", "w@Conv_a:1", "b@Conv_a:2"]

TABLE = {
    "conv": (FIRST.replace("a =", "y ="), ["x@Conv_y:0", "w@Conv_y:1", "b@Conv_y:2", "y"], {"Conv_y": "conv"}),
    "conv relu": (
        f"{FIRST} r = Relu(a) y = Conv(r, v)",
        [*CONV_A, "r", "v@Conv_y:1", "y"],
        {"Conv_a": "conv", "Relu_r": "conv", "Conv_y": "conv"},
    ),
    "conv clip": (
        f"{FIRST} r = Clip(a, zero, six) y = Conv(r, v)",
        [*CONV_A, "r", "v@Conv_y:1", "y"],
        {"Conv_a": "conv", "Clip_r": "conv", "Conv_y": "conv"},
    ),
    "conv clip without minimum": (
        f"{FIRST} r = Clip(a, , six) y = Conv(r, v)",
        [*CONV_A, "r", "v@Conv_y:1", "y"],
        {"Conv_a": "conv", "Clip_r": "conv", "Conv_y": "conv"},
    ),
    "clip that does not hold zero": (
        f"{FIRST} r = Clip(a, one, five) y = Conv(r, v)",
        [*CONV_A, "a", "r@Conv_y:0", "v@Conv_y:1", "y"],
        {"Conv_a": "conv", "Conv_y": "conv"},
    ),
    "clip without maximum": (
        f"{FIRST} r = Clip(a, minus) y = Conv(r, v)",
        [*CONV_A, "a", "r@Conv_y:0", "v@Conv_y:1", "y"],
        {"Conv_a": "conv", "Conv_y": "conv"},
    ),
    "another activation is not absorbed": (
        f"{FIRST} r = Tanh(a) y = Conv(r, v)",
        [*CONV_A, "a", "r@Conv_y:0", "v@Conv_y:1", "y"],
        {"Conv_a": "conv", "Conv_y": "conv"},
    ),
    "add": (
        f"{FIRST} d = Conv{SAME}(x, w, c) s = Add(a, d) t = Relu(s) y = Conv(t, v)",
        [*CONV_A, "a", "x@Conv_d:0 = x@Conv_a:0", "w@Conv_d:1", "c@Conv_d:2", "d", "t", "v@Conv_y:1", "y"],
        {"Conv_a": "conv", "Conv_d": "conv", "Add_s": "arithmetic", "Relu_t": "arithmetic", "Conv_y": "conv"},
    ),
    "add of a tensor to itself": (
        f"{FIRST} s = Add(a, a) y = Conv(s, v)",
        [*CONV_A, "a", "s", "v@Conv_y:1", "y"],
        {"Conv_a": "conv", "Add_s": "arithmetic", "Conv_y": "conv"},
    ),
    "add of an input to itself": (
        "s = Add(x, x) d = Conv(x, w) y = Conv(s, w)",
        ["x@Add_s:0", "x@Add_s:1 = x@Add_s:0", "s", "x@Conv_d:0 = x@Add_s:0", "w@Conv_d:1", "d", "w@Conv_y:1", "y"],
        {"Add_s": "arithmetic", "Conv_d": "conv", "Conv_y": "conv"},
    ),
    "multiply by a constant vector": (
        f"{FIRST} s = Mul(a, channel) y = Conv(s, v)",
        [*CONV_A, "a", "channel@Mul_s:1", "s", "v@Conv_y:1", "y"],
        {"Conv_a": "conv", "Mul_s": "arithmetic", "Conv_y": "conv"},
    ),
    "rescale": (
        f"{FIRST} s = Mul(a, half) y = Conv(s, v)",
        [*CONV_A, "a", "s = a * 0.5", "v@Conv_y:1", "y"],
        {"Conv_a": "conv", "Mul_s": "rescale", "Conv_y": "conv"},
    ),
    "rescale by a negative factor is a multiplication": (
        f"{FIRST} s = Mul(a, minus) y = Conv(s, v)",
        [*CONV_A, "a", "minus@Mul_s:1", "s", "v@Conv_y:1", "y"],
        {"Conv_a": "conv", "Mul_s": "arithmetic", "Conv_y": "conv"},
    ),
    "concat": (
        f"{FIRST} d = Conv{SAME}(x, w, c) s = Concat<axis = 1>(a, d) y = Conv(s, u)",
        [*CONV_A, "a", "x@Conv_d:0 = x@Conv_a:0", "w@Conv_d:1", "c@Conv_d:2", "d", "s", "u@Conv_y:1", "y"],
        {"Conv_a": "conv", "Conv_d": "conv", "Concat_s": "concat", "Conv_y": "conv"},
    ),
    "pool, flatten, gemm": (
        f"{FIRST} p = GlobalAveragePool(a) f = Flatten(p) y = Gemm(f, m8, n)",
        [*CONV_A, "a", "p", "f = p", "m8@Gemm_y:1", "n@Gemm_y:2"],
        {"Conv_a": "conv", "GlobalAveragePool_p": "global-pool", "Flatten_f": "move", "Gemm_y": "gemm"},
    ),
    "sigmoid": (
        f"{FIRST} s = Sigmoid(a) t = Mul(a, s) y = Conv(t, v)",
        [*CONV_A, "a", "s", "t", "v@Conv_y:1", "y"],
        {"Conv_a": "conv", "Sigmoid_s": "activation", "Mul_t": "arithmetic", "Conv_y": "conv"},
    ),
    "leaky relu": (
        f"{FIRST} s = LeakyRelu(a) y = Conv(s, v)",
        [*CONV_A, "a", "s", "v@Conv_y:1", "y"],
        {"Conv_a": "conv", "LeakyRelu_s": "activation", "Conv_y": "conv"},
    ),
    "max pool": (
        f"{FIRST} s = MaxPool<kernel_shape = [2, 2]>(a) y = Conv(s, v)",
        [*CONV_A, "a", "s = a", "v@Conv_y:1", "y"],
        {"Conv_a": "conv", "MaxPool_s": "max-pool", "Conv_y": "conv"},
    ),
    "resize": (
        f"{FIRST} s = Resize(a, , scales) y = Conv(s, v)",
        [*CONV_A, "a", "s = a", "v@Conv_y:1", "y"],
        {"Conv_a": "conv", "Resize_s": "resize", "Conv_y": "conv"},
    ),
    "slice": (
        f"{FIRST} s = Slice(a, start, end, axis) y = Conv(s, h)",
        [*CONV_A, "a", "s = a", "h@Conv_y:1", "y"],
        {"Conv_a": "conv", "Slice_s": "slice", "Conv_y": "conv"},
    ),
    "split": (
        f"{FIRST} s, t = Split<axis = 1, num_outputs = 2>(a) d = Conv{SAME}(s, h) y = Add(d, t)",
        [*CONV_A, "a", "s = a", "t = a", "h@Conv_d:1", "d"],
        {"Conv_a": "conv", "Split_s": "move", "Conv_d": "conv"},
    ),
    "moves in a row": (
        f"{FIRST} s = Transpose<perm = [0, 1, 3, 2]>(a) t = Gather<axis = 1>(s, index) y = Conv(t, v)",
        [*CONV_A, "a", "s = a", "t = s", "v@Conv_y:1", "y"],
        {"Conv_a": "conv", "Transpose_s": "move", "Gather_t": "move", "Conv_y": "conv"},
    ),
}


@pytest.mark.parametrize("case", TABLE)
def test_sites_and_rules(case: str) -> None:
    body, expected, rules = TABLE[case]
    outputs = "float[N, M] y" if "Gemm" in body else "float[N, M, P, Q] y"
    plan, _ = annotate(graph(body, outputs=outputs))
    assert sites(plan) == expected
    assert integers(plan) == rules


REFUSALS = {
    "computed weight": (
        "z = Relu(w2) y = Conv(x, z)", "Conv_y: 'z' of Conv 'Conv_y' is computed, not constant",
        f"{IMAGE}, float[8, 4, 3, 3] w2",
    ),
    "computed bias": (
        "y = Conv(x, w, bias)", "Conv_y: 'bias' of Conv 'Conv_y' is computed, not constant", f"{IMAGE}, float[8] bias",
    ),
    "double": ("y = Conv(x, k)", "Conv_y: 'x' is float64, not float32", "double[1, 4, 8, 8] x, double[8, 4, 3, 3] k"),
    "pool of a float value": (
        "s = MaxPool<kernel_shape = [2, 2]>(x) a = Conv(s, w) y = Tanh(a)",
        "MaxPool_s: 'x' is not quantized, and quantizing it here would cost more", IMAGE,
    ),
    "pool of a float value that a Conv quantizes": (
        "s = MaxPool<kernel_shape = [2, 2]>(x) a = Conv(s, w) d = Conv(x, w) z = Tanh(d) y = Tanh(a)",
        "MaxPool_s: 'x' is stored in float, and the integer kernel is slow there", IMAGE,
    ),
    "pool with indices": (
        f"{FIRST} s, i = MaxPool<kernel_shape = [2, 2]>(a) d = Conv(s, v) j = Cast<to = 1>(i) y = Add(d, j)",
        "MaxPool_s: MaxPool 'MaxPool_s' returns indices", IMAGE,
    ),
    "last node": (f"{FIRST} y = Sigmoid(a)", "Sigmoid_y: no quantized node reads its result", IMAGE),
    "one float operand": (
        f"{FIRST} t = Tanh(a) s = Add(a, t) y = Conv(s, v)",
        "Add_s: 't' is not quantized, and quantizing it here would cost more", IMAGE,
    ),
    "interpolation": (
        f'{FIRST} s = Resize<mode = "linear">(a, , scales) y = Conv(s, v)',
        "Resize_s: Resize 'Resize_s' interpolates (linear)", IMAGE,
    ),
    "steps": (
        f"{FIRST} s = Slice(a, start, end, axis, step) y = Conv(s, k)",
        "Slice_s: Slice 'Slice_s' has steps other than 1", f"{IMAGE}, float[8, 2, 3, 3] k",
    ),
    "five dimensions": (
        f"{FIRST} r = Reshape(a, wide) s = Transpose<perm = [0, 2, 1, 3, 4]>(r) t = Reshape(s, back) y = Conv(t, v)",
        "Transpose_s: Transpose 'Transpose_s' works on rank 5; the uint8 kernel is slow", IMAGE,
    ),
    "unread part": (
        f"{FIRST} s, t = Split<axis = 1, num_outputs = 2>(a) y = Conv(s, h)",
        "Split_s: nothing reads 't', a result of Split 'Split_s'", IMAGE,
    ),
    "constants only": (
        "z = Concat<axis = 0>(h, h) d = Conv(x, w) y = Conv(x, z)", "Concat_z: reads only constants", IMAGE,
    ),
    "infinite constant": (
        f"{FIRST} s = Add(a, inf) y = Conv(s, v)", "Add_s: 'inf' holds NaN or infinity", IMAGE,
    ),
    "weight of NaN": ("y = Conv(x, nan)", "Conv_y: 'nan' holds NaN or infinity", IMAGE),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSALS)
def test_refusals(case: str) -> None:
    body, sentence, inputs = REFUSALS[case]
    kind = "double" if case == "double" else "float"
    plan, said = annotate(graph(body, inputs, f"{kind}[N, M, P, Q] y"))
    assert sentence in said
    name, reason = sentence.split(": ", 1)
    assert plan.nodes[name].precision == "float"
    assert plan.nodes[name].reason == reason


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ("y = Gemm(x, m, n1)", "Gemm_y: bias of Gemm 'Gemm_y' is not one value for each column"),
        ("y = Gemm(x, m, one)", "Gemm_y: bias of Gemm 'Gemm_y' is not one value for each column"),
        ("y = Gemm<alpha = 0.5>(x, m, n)", "Gemm_y: Gemm 'Gemm_y' has alpha, beta or transA"),
        ("y = Gemm<beta = 0.5>(x, m, n)", "Gemm_y: Gemm 'Gemm_y' has alpha, beta or transA"),
        (
            "z = Tanh(x) t = Transpose(z) y = MatMul(x, t)",
            "MatMul_y: 't' of MatMul 'MatMul_y' is computed, not constant",
        ),
    ],
)
def test_matrix_refusals(body: str, sentence: str) -> None:
    for precision in ("int8", "w8"):
        _, said = annotate(graph(body, "float[5, 16] x", "float[P, Q] y"), precision)  # type: ignore[arg-type]
        assert sentence in said


def test_matrix_of_rank_3() -> None:
    _, said = annotate(graph("y = MatMul(x, cube)", "float[2, 5, 16] x", "float[2, 5, 10] y"))
    assert said == ["MatMul_y: weight 'cube' of MatMul 'MatMul_y' has rank 3, not 2"]


# ---- specs, derived biases, gains
def test_types_and_axes() -> None:
    plan, _ = annotate(graph(f"{FIRST} f = Flatten(a) y = Gemm<transB = 1>(f, mt, n)", outputs="float[P, Q] y"))
    described = {str(site): str(d.choice) for site, d in plan.sites.items()}
    assert described == {
        "x@Conv_a:0": "uint8 asymmetric per tensor",
        "w@Conv_a:1": "int8 symmetric per axis 0",
        "b@Conv_a:2": "int32 symmetric per axis 0",
        "a": "uint8 asymmetric per tensor",
        "f": "uint8 asymmetric per tensor",
        "mt@Gemm_y:1": "int8 symmetric per axis 0",
        "n@Gemm_y:2": "int32 symmetric per axis 0",
    }
    assert plan.sites[Site("b", "Conv_a", 2)].derived == BiasOf(Site("x", "Conv_a", 0), Site("w", "Conv_a", 1))
    assert plan.sites[Site("n", "Gemm_y", 2)].derived == BiasOf(Site("f"), Site("mt", "Gemm_y", 1))
    columns, _ = annotate(graph("y = Gemm(x, m, n)", "float[5, 16] x", "float[P, Q] y"))
    assert columns.sites[Site("m", "Gemm_y", 1)].choice.granularity == PerAxis(1)  # type: ignore[union-attr]
    assert columns.sites[Site("x", "Gemm_y", 0)].choice.granularity == PerTensor()  # type: ignore[union-attr]


def test_dynamic_matrices() -> None:
    model = graph("t = MatMul(x, m) y = Gemm(t, k, n)", "float[5, 16] x, float[10, 10] k", "float[P, Q] y")
    plan, said = annotate(model, "w8")
    assert sites(plan) == ["x@MatMul_t:0", "m@MatMul_t:1"]
    assert plan.sites[Site("x", "MatMul_t", 0)].choice.dynamic  # type: ignore[union-attr]
    assert said == ["Gemm_y: 'k' of Gemm 'Gemm_y' is computed, not constant"]
