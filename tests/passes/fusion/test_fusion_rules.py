"""All fusions together: their order, what the standard's own function bodies become, and the models of the zoo."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import onnx
import pytest
from onnx.backend.test.case.node import TestCase, collect_testcases

from qcompiler import ir
from qcompiler.passes import fusion
from qcompiler.passes.fusion import fusion_rules
from qcompiler.passes.fusion.regions import recognised_regions
from qcompiler.passes.prepare import prepare
from qcompiler.pipeline import Pipeline
from tests.graphs import assert_same_numbers, ops, parse, run

FOLDER = Path(fusion.__file__).parent


def fuse(model: ir.Model) -> tuple[Pipeline, int]:
    """Prepares and fuses in place; the trace of the fusions, and the number of nodes before them."""
    prepare(Pipeline(), model)
    pipeline, nodes = Pipeline(), len(list(model.all_nodes()))
    pipeline.fixpoint(model, fusion_rules())
    onnx.checker.check_model(model.to_proto(), full_check=True)
    return pipeline, nodes


def test_names_are_the_same_everywhere() -> None:
    for rule in fusion_rules():
        name = type(rule).__name__
        assert rule.name == re.sub(r"(?<!^)(?=[A-Z])", "-", name).lower()
        assert f"class {name}(" in (FOLDER / f"{rule.name.replace('-', '_')}.py").read_text(encoding="utf-8")
    assert len({rule.name for rule in fusion_rules()}) == len(fusion_rules())


def test_every_file_starts_with_its_algebra_and_stays_short() -> None:
    for rule in fusion_rules():
        text = (FOLDER / f"{rule.name.replace('-', '_')}.py").read_text(encoding="utf-8")
        assert text.startswith('"""') and text.count("\n") < 300
        assert "Source: " in text.split('"""')[1], rule.name


@pytest.mark.parametrize("seed", range(2))
def test_a_block_as_exporters_write_it(seed: int) -> None:
    """Conv, BatchNormalization, HardSwish and a gate in parts: the 3 of the HardSwish must not go into the bias."""
    rng = np.random.default_rng(seed)
    text = """g (float[N, 4, 6, 6] x) => (float[N, 8, 6, 6] y) {
        c = Conv <pads = [1, 1, 1, 1]> (x, w) b = BatchNormalization(c, ga, be, me, va)
        p = Add(b, three) r = Relu(p) m = Min(r, six) h = Mul(b, m) s = Div(h, six)
        a = GlobalAveragePool(s) d = Conv(a, v) e = Add(d, three) f = Clip(e, zero, six) k = Mul(f, sixth)
        y = Mul(s, k) }"""
    constants = {
        "w": rng.normal(size=(8, 4, 3, 3)), "v": rng.normal(size=(8, 8, 1, 1)), "ga": rng.normal(size=8),
        "be": rng.normal(size=8), "me": rng.normal(size=8), "va": rng.uniform(0.5, 2, 8),
        "three": 3.0, "six": 6.0, "sixth": 1 / 6, "zero": 0.0,
    }  # fmt: skip
    before = parse(text, {name: np.float32(value) for name, value in constants.items()})
    after = before.copy()
    Pipeline().fixpoint(after, fusion_rules())
    assert ops(after) == ["Conv", "HardSwish", "GlobalAveragePool", "Conv", "HardSigmoid", "Mul"]
    assert after.nodes[4].attrs["beta"] == pytest.approx(0.5)
    assert_same_numbers(before, after, atol=2e-5)


@pytest.fixture(scope="module")
def standard() -> list[TestCase]:
    """Each function of the standard, written out in primitive operators, with inputs and expected outputs."""
    with np.errstate(all="ignore"):  # onnx computes infinities that it expects
        return [case for case in collect_testcases(None) if "_expanded" in case.name]


@pytest.mark.parametrize(
    ("prefix", "wanted"),
    [
        ("gelu", ["Gelu"]),
        ("hardsigmoid", ["HardSigmoid"]),
        ("hardswish", ["HardSwish"]),
        ("relu", ["Relu"]),
        ("softmax", ["Softmax"]),
        ("logsoftmax", ["LogSoftmax"]),
        ("swish", ["Swish"]),
        ("rms_normalization", ["RMSNormalization", "Mul"]),  # its scale is an input of the model, not a constant
    ],
)
def test_functions_of_the_standard_are_recognised(prefix: str, wanted: list[str], standard: list[TestCase]) -> None:
    cases = [case for case in standard if case.name.startswith(f"test_{prefix}_")]
    assert cases
    for case in cases:
        model = ir.Model.from_proto(onnx.shape_inference.infer_shapes(case.model))
        fuse(model)
        assert ops(model) == wanted, case.name
        given, expected = case.data_sets[0]
        feed = dict(zip([tensor.name for tensor in case.model.graph.input], given, strict=True))
        for value, got in zip(expected, run(model, {t.name: feed[t.name] for t in model.inputs}), strict=True):
            np.testing.assert_allclose(got, value, rtol=1e-3, atol=1e-6, err_msg=case.name)


# error against the untouched model, relative to the largest value of an output: float32 rounding, 1e-5, more where
# weights are folded (ppocrv3), and in mobilenetv3, whose gates end at 6 * 0.16667 = 1.00002, now at 1
ZOO_ERROR = {"mobilenetv3_small": 5e-4, "ppocrv3_det": 1e-4}
ZOO_OPS: dict[str, dict[str, int]] = {
    "mobilenetv3_small": {"HardSigmoid": 9, "Clip": 0},
    "minilm_l6": {"Gelu": 6, "Erf": 0, "ReduceL2": 1},
    "ppocrv3_det": {"BatchNormalization": 0},
    "yunet_320": {"Transpose": 6, "Reshape": 12},
    "stories260k": {"Pow": 0},
}
ZOO_REGIONS = {
    "minilm_l6": {"attention": 6},
    "vit_cifar10": {"attention": 6},
    "stories260k": {"attention": 5, "rms-norm": 11},
}
ANCHOR = {"attention": "Softmax", "rms-norm": "ReduceMean"}  # one such node in each region
ZOO = (
    "kws_dscnn", "minilm_l6", "mobilenetv3_small", "ppocrv3_det", "resnet20_cifar10", "silero_vad", "squeezenet10",
    "stories260k", "vit_cifar10", "yunet_320",
)  # fmt: skip


@pytest.mark.zoo
@pytest.mark.parametrize("name", ZOO)
def test_zoo(name: str, zoo: ModuleType, record_property: Callable[[str, object], None]) -> None:
    entry = zoo.MODELS[name]
    before = ir.Model.from_proto(onnx.load(entry.path), entry.path.parent)
    after = before.copy()
    pipeline, prepared = fuse(after)
    counts = Counter(node.op for node in after.all_nodes())
    fired: Counter[str] = Counter()
    for record in pipeline.trace.records:
        fired[record.name] += record.changes
    report = f"{len(list(before.all_nodes()))} -> {prepared} prepared -> {counts.total()} fused; {dict(+fired)}"
    record_property("nodes", report)
    print(f"{name}: {report}")
    assert counts.total() <= prepared
    assert {op: counts[op] for op in ZOO_OPS.get(name, {})} == ZOO_OPS.get(name, {})
    regions = recognised_regions(after)
    anchors = Counter(
        kind for node in after.all_nodes() if (kind := regions.get(node.name)) and node.op == ANCHOR[kind]
    )
    assert anchors == ZOO_REGIONS.get(name, {})
    for feed, _ in itertools.islice(entry.samples(), 2):
        for wanted, got in zip(run(before, feed), run(after, feed), strict=True):
            assert np.abs(got - wanted).max() <= ZOO_ERROR.get(name, 1e-5) * np.abs(wanted).max()
