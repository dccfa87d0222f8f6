"""Variants of ONNX Runtime: what the hardware changes in table, numbers and report."""

from __future__ import annotations

import itertools
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from qcompiler import ir
from qcompiler.analysis import HISTOGRAM, Runner, SessionConfig, collect
from qcompiler.backends import get
from qcompiler.backends.onnxruntime.variants import VARIANTS
from qcompiler.compiler import compile
from qcompiler.data import Sample
from qcompiler.errors import UsageError
from qcompiler.frontend import front
from qcompiler.passes.plan.avoid_saturation import arrangements, codes_of, is_depthwise, is_weight, sums_of
from qcompiler.quant import QuantPlan, Site
from qcompiler.recipe import Recipe
from qcompiler.report.target_facts import one_target
from qcompiler.search.candidates import Candidate, Drafter
from qcompiler.targets import Activation
from tests.graphs import feed_for
from tests.small import FIRST, IMAGE, SAME, graph

ZEN4 = ("x86_64", "avx2", "avx512_vnni", "avx512bw")
SKYLAKE = ("x86_64", "avx2", "avx512bw")
ALDER_LAKE = ("x86_64", "avx2", "avx_vnni")
GRAVITON = ("aarch64", "asimd", "asimddp")


def made(model: ir.Model, variant: str, precision: str = "int8") -> Candidate:
    """A model compiled for a variant, calibrated on seeded samples."""
    return calibrated(model, variant, precision, [Sample(feed_for(model, seed), None, str(seed)) for seed in range(4)])


def calibrated(model: ir.Model, variant: str, precision: str, samples: list[Sample]) -> Candidate:
    """A model compiled for a variant, in one precision, nothing judged."""
    drafter = Drafter(model, get(f"onnxruntime:{variant}"))
    draft = drafter.draft(precision)  # type: ignore[arg-type]
    stats = collect(model, samples, dict.fromkeys(draft.wanted, (HISTOGRAM,))) if draft.wanted else None
    return drafter.candidate(draft, stats, "minmax", {})


def worst_sums(model: ir.Model, plan: QuantPlan) -> list[int]:
    """The largest sum of neighbouring codes of every weight."""
    constants, nodes = {c.name: c for c in model.constants()}, {node.name: node for node in model.nodes}
    found = []
    for site, decision in plan.quantized():
        encoding, node = decision.encoding, nodes.get(site.consumer)
        if node is None or encoding is None or site.tensor not in constants or not is_weight(site, encoding):
            continue
        if not is_depthwise(node):
            values = ir.array(constants[site.tensor])
            codes = codes_of(values, encoding)
            found.append(max(int(np.abs(sums_of(f(codes))).max(initial=0)) for f in arrangements(node, values)))
    return found


# ---- which machine
@pytest.mark.parametrize(
    ("flags", "measured", "indicative"),
    [
        (ZEN4, {"vnni"}, {"vnni", "avx2"}),
        (ALDER_LAKE, {"vnni"}, {"vnni", "avx2"}),
        (SKYLAKE, {"avx2"}, {"vnni", "avx2"}),
        (GRAVITON, {"arm64"}, {"arm64"}),
        (("riscv64",), set(), set()),
    ],
)
def test_a_machine_measures_its_own_variant(flags: tuple[str, ...], measured: set[str], indicative: set[str]) -> None:
    hosts = {name: variant.host(name, flags) for name, variant in VARIANTS.items()}
    assert {name for name, host in hosts.items() if not host.modelled} == measured
    assert {name for name, host in hosts.items() if host.indicative} == indicative
    for name, host in hosts.items():
        assert not host.modelled or host.modelled.startswith(f"speed for {name} is modelled, not measured: ")
    assert hosts["arm64"].entries == (() if flags == GRAVITON else (("session.qdqisint8allowed", "1"),))
    assert hosts["avx2"].entries == hosts["vnni"].entries == ()


# ---- tables
def test_every_variant_has_a_backend_with_its_own_table() -> None:
    specs = {name: get(f"onnxruntime:{name}").spec for name in ("vnni", "avx2", "arm64")}
    assert list(specs["vnni"].variants) == list(VARIANTS) == list(specs)
    assert get("onnxruntime") == get("onnxruntime:vnni")
    assert [spec.int16_pairs for spec in specs.values()] == [False, True, False]
    for name, kinds in (("vnni", {"uint8"}), ("avx2", {"uint8"}), ("arm64", {"int8", "uint8"})):
        activations = [
            (option.qtype.name, option.dynamic)
            for rules in specs[name].schemes.values()
            for rule in rules
            for operand in (*rule.inputs.values(), rule.output)
            if isinstance(operand, Activation)
            for option in operand.options
        ]
        assert {kind for kind, _ in activations} == kinds
        # the runtime's own quantization knows no other type
        assert {kind for kind, dynamic in activations if dynamic} == {"uint8"}
    names = [[rule.name for rule in spec.schemes["int8"]] for spec in specs.values()]
    assert names[0] == names[1] == names[2]
    assert all("9902" in rule.source for rule in specs["arm64"].schemes["int8"])
    weighted = [rule.name for rule in specs["avx2"].schemes["mixed"] if "int16" in rule.source]
    assert weighted == ["conv", "gemm", "matmul", "dynamic-matrix", "dynamic-lstm"]


# ---- avx2
MATRICES = f"{FIRST} r = Relu(a) f = Conv{SAME}(r, v, c) g = GlobalAveragePool(f) s = Squeeze(g, hw) y = MatMul(s, m8)"


def small() -> ir.Model:
    return graph(MATRICES, IMAGE, "float[N, M] y", {"hw": np.array([2, 3])})


@pytest.mark.parametrize(("precision", "layers"), [("int8", 3), ("w8", 1), ("mixed", 3)])
def test_no_pair_saturates_on_avx2(precision: str, layers: int) -> None:
    plain, careful = made(small(), "vnni", precision), made(small(), "avx2", precision)
    before, after = worst_sums(plain.planned, plain.plan), worst_sums(careful.planned, careful.plan)
    assert len(before) == len(after) == layers
    assert max(before) > 128 >= max(after)
    notes = [note for note in careful.trace.notes if "int16" in note]
    assert len(notes) == 1
    assert notes[0].startswith(f"products of {sum(s > 128 for s in before)} of {layers} layers could saturate int16")
    assert not any("int16" in note for note in plain.trace.notes)


def test_weights_of_an_lstm_do_not_saturate_either() -> None:
    rng = np.random.default_rng(1)
    weights = {name: rng.normal(size=(1, 256, 64)).astype(np.float32) for name in ("W", "R")}
    text = "y = LSTM<hidden_size = 64>(x, W, R)"
    model = graph(text, "float[5, 1, 64] x", "float[S, D, B, H] y", weights)
    assert [s > 128 for s in worst_sums(model, made(model, "vnni", "w8").plan)] == [True, True]
    careful = made(model, "avx2", "w8")
    assert [s <= 128 for s in worst_sums(model, careful.plan)] == [True, True]
    assert "DynamicQuantizeLSTM" in [node.op for node in careful.model.nodes]


def test_what_avx2_costs_is_a_fraction_of_a_bit() -> None:
    feed = feed_for(small(), 9)
    expected = Runner(small()).run(feed)["y"]
    errors = {
        variant: float(np.square(Runner(made(small(), variant).model).run(feed)["y"] - expected).mean())
        for variant in ("vnni", "avx2")
    }
    # seven bits for all weights would be four times the error of the weights
    assert errors["avx2"] < 4 * errors["vnni"]


# ---- arm64
CASES = {
    "conv and Relu": (f"{FIRST} r = Relu(a) y = Conv{SAME}(r, v, c)", ["QLinearConv", "QLinearConv"]),
    "residual": (f"{FIRST} r = Relu(a) f = Conv{SAME}(r, v, c) t = Add(f, r) y = Conv{SAME}(t, v, c)", ["QLinearAdd"]),
    "clip": (f"{FIRST} r = Clip(a, zero, six) y = Conv{SAME}(r, v, c)", ["QLinearConv", "QLinearConv"]),
    "gate": (f"{FIRST} s = Sigmoid(a) p = Mul(a, s) y = Conv{SAME}(p, v, c)", ["QLinearSigmoid", "QLinearMul"]),
    "hard swish": (f"{FIRST} s = HardSwish(a) y = Conv{SAME}(s, v, c)", ["QLinearAdd", "QLinearMul"]),
    "concat": (
        f"{FIRST} f = Conv{SAME}(a, v, c) t = Concat<axis = 1>(a, f) y = Conv{SAME}(t, u, c)", ["QLinearConcat"],
    ),
    "max pool": (f"{FIRST} p = MaxPool<kernel_shape = [2, 2]>(a) y = Conv{SAME}(p, v, c)", ["NhwcMaxPool"]),
    "average pool": (
        f"{FIRST} p = AveragePool<kernel_shape = [3, 3], pads = [1, 1, 1, 1]>(a) y = Conv{SAME}(p, v, c)",
        ["QLinearMul"],
    ),
    "global pool": (f"{FIRST} p = GlobalAveragePool(a) y = Conv{SAME}(p, v, c)", ["QLinearGlobalAveragePool"]),
    "resize": (f"{FIRST} p = Resize<mode = \"nearest\">(a, , scales) y = Conv{SAME}(p, v, c)", ["QLinearConv"]),
    "transpose": (
        f"{FIRST} p = Transpose<perm = [0, 1, 3, 2]>(a) y = Conv{SAME}(p, v, c)", ["QLinearConv", "QLinearConv"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_signed_activations_run_in_integers(case: str) -> None:
    """On the graph that ONNX Runtime makes where int8 is allowed, as on Arm; the numbers are those of float."""
    body, expected = CASES[case]
    model = graph(body)
    backend = get("onnxruntime:arm64")
    candidate = made(model, "arm64")
    seen = backend.inspect(candidate.model, candidate.plan.nodes)
    assert seen.fallback == ()
    assert not [finding.trap for finding in seen.findings if finding.trap == "int8 activations"]
    for op in expected:
        assert seen.ops.get(op, 0) >= expected.count(op), seen.ops
    feed, config = feed_for(model, 1), SessionConfig(entries=VARIANTS["arm64"].entries)
    y, exact = Runner(candidate.model, config).run(feed)["y"], Runner(model).run(feed)["y"]
    assert np.square(y - exact).sum() < 0.01 * np.square(exact).sum()  # 20 dB
    for _, decision in candidate.plan.quantized():
        assert decision.choice is not None
        assert decision.choice.qtype.signed


def test_relu_begins_at_the_lowest_code() -> None:
    candidate = made(graph(CASES["conv and Relu"][0]), "arm64")
    encoding = candidate.plan.sites[Site("r")].encoding
    assert encoding is not None
    assert int(encoding.zero_point) == -128
    zeros = {t.name: ir.array(t) for t in candidate.model.constants() if t.name.startswith("r_zero_point")}
    assert [(z.dtype, int(z)) for z in zeros.values()] == [(np.dtype(np.int8), -128)]


def test_the_table_of_an_average_pool_is_exact_in_signed_codes() -> None:
    candidate = made(graph(CASES["average pool"][0]), "arm64")
    exact = [
        d.encoding for _, d in candidate.plan.quantized() if d.encoding is not None and d.encoding.method == "exact"
    ]
    assert [int(encoding.zero_point) for encoding in exact] == [-128]


# ---- reports
MODELS = Path(__file__).resolve().parents[2] / "models"


def test_what_was_not_measured_is_said() -> None:
    folder, recipe = MODELS / "digits_transformer", Recipe().updated({"bench_seconds": 0.2, "samples": 32})
    arm = compile(folder / "model.onnx", "onnxruntime:arm64", folder / "calibration.npz", recipe=recipe).report
    here = get("onnxruntime:arm64").host
    if here.modelled:
        assert arm.latency.modelled
        assert arm.latency.speedup is None
        assert here.modelled in arm.notes
        assert arm.target["shipped"] == "int8"
        assert next(line for line in arm.candidates if line.shipped).reason.endswith("nothing was timed")


def test_a_cache_is_made_on_the_target_alone(tmp_path: Path) -> None:
    elsewhere = next(name for name in VARIANTS if get(f"onnxruntime:{name}").host.modelled)
    recipe = Recipe(options={"optimized": True})
    with pytest.raises(UsageError, match=rf"--optimized: the cache is made on .* not of the kind '{elsewhere}'"):
        compile(MODELS / "digits_cnn" / "model.onnx", f"onnxruntime:{elsewhere}", output=tmp_path, recipe=recipe)


def test_explanations_are_those_of_the_variant() -> None:
    facts = one_target("onnxruntime:arm64")["rules"]["int8"][0]
    assert facts["inputs"]["0"] == facts["output"] == "int8 asymmetric per tensor"
    assert "pull requests 9902, 9961" in facts["source"]


@pytest.mark.zoo
@pytest.mark.parametrize("variant", ["avx2", "arm64"])
@pytest.mark.parametrize("name", ["kws_dscnn", "resnet20_cifar10"])
def test_real_networks(zoo: ModuleType, name: str, variant: str) -> None:
    entry, backend = zoo.MODELS[name], get(f"onnxruntime:{variant}")
    samples = [Sample(feed, None, str(i)) for i, feed in enumerate(itertools.islice(entry.calibration(), 32))]
    candidate = calibrated(front(Path(entry.path)).prepared, variant, "int8", samples)
    seen = backend.inspect(candidate.model, candidate.plan.nodes)
    assert seen.fallback == ()
    assert seen.integer_nodes > seen.float_nodes
    if variant == "avx2":
        assert max(worst_sums(candidate.planned, candidate.plan)) <= 128
    runner = Runner(candidate.model, SessionConfig(entries=backend.host.entries))
    found = entry.evaluate(lambda feed: list(runner.run(feed).values()))
    assert found > entry.float_value - 0.015
