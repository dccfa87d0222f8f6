"""Layer by layer: what is compared with what, how far apart it is, and which tensor broke first."""

from __future__ import annotations

import math

import numpy as np
import pytest

from qcompiler import ir
from qcompiler.analysis import Runner, SessionConfig, compare, first_broken
from qcompiler.analysis.match import match
from qcompiler.data import Sample
from qcompiler.errors import DataError
from tests.graphs import parse

RNG = np.random.default_rng(0)
WEIGHTS = {
    "w": RNG.normal(size=(8, 8, 3, 3)).astype(np.float32) / 8,
    "v": RNG.normal(size=(8, 8, 1, 1)).astype(np.float32) / 3,
}
FLOAT = """
g (float[1,8,10,10] x) => (float[1,8,10,10] y) {
    [first] a = Conv<pads = [1,1,1,1]>(x, w)
    [clip] b = Relu(a)
    [second] c = Conv(b, v)
    y = Tanh(c)
}
"""
QUANTIZED = """
g (float[1,8,10,10] x) => (float[1,8,10,10] y) {
    xq = QuantizeLinear(x, sx, zx)
    xd = DequantizeLinear(xq, sx, zx)
    wd = DequantizeLinear(wq, sw, zw)
    [first] a = Conv<pads = [1,1,1,1]>(xd, wd)
    [clip] b = Relu(a)
    bq = QuantizeLinear(b, sb, zb)
    bd = DequantizeLinear(bq, sb, zb)
    [second] c = Conv(bd, v)
    y = Tanh(c)
}
"""


def quantized(scale: float = 0.01) -> ir.Model:
    scale_w = np.abs(WEIGHTS["w"]).max() / 127
    constants = {
        "sx": np.float32(6 / 255), "zx": np.uint8(128), "sb": np.float32(scale), "zb": np.uint8(0),
        "sw": np.float32(scale_w), "zw": np.int8(0), "wq": np.rint(WEIGHTS["w"] / scale_w).astype(np.int8),
        "v": WEIGHTS["v"],
    }  # fmt: skip
    return parse(QUANTIZED, constants)


def samples(count: int = 3) -> list[Sample]:
    rng = np.random.default_rng(5)
    return [Sample({"x": rng.normal(size=(1, 8, 10, 10)).astype(np.float32)}, None, f"s[{i}]") for i in range(count)]


def test_equal_models_are_equal() -> None:
    model = parse(FLOAT, WEIGHTS)
    result = compare(model, model.copy(), samples())
    assert [tensor.tensor for tensor in result.tensors] == ["a", "b", "c", "y"]
    assert result.samples == 3 and result.skipped == {}
    assert {(tensor.sqnr_db, tensor.cosine, tensor.worst) for tensor in result.tensors} == {(math.inf, 1.0, 0.0)}


def test_quantized_tensors_are_compared_as_their_readers_see_them() -> None:
    result = compare(parse(FLOAT, WEIGHTS), quantized(), samples())
    assert [(tensor.tensor, tensor.other) for tensor in result.tensors] == [
        ("x", "xd"), ("b", "bd"), ("c", "c"), ("y", "y"),
    ]  # fmt: skip
    assert result.skipped == {"a": "it is inside an integer operator of the other model"}
    assert [(tensor.node, tensor.op) for tensor in result.tensors[1:3]] == [("clip", "Relu"), ("second", "Conv")]


def test_figures_are_those_of_the_definition() -> None:
    model, other, source = parse(FLOAT, WEIGHTS), quantized(), samples()
    [found] = [tensor for tensor in compare(model, other, source).tensors if tensor.tensor == "y"]
    wanted, got = (
        np.stack([Runner(m).run(sample.feed)["y"] for sample in source]).astype(np.float64) for m in (model, other)
    )
    assert found.sqnr_db == pytest.approx(10 * math.log10((wanted**2).sum() / ((wanted - got) ** 2).sum()), rel=1e-4)
    cosine = (wanted * got).sum() / math.sqrt((wanted**2).sum() * (got**2).sum())
    assert found.cosine == pytest.approx(cosine, abs=1e-7)
    assert found.worst == pytest.approx(np.abs(wanted - got).max(), rel=1e-3)


def test_the_worst_comes_first_and_the_first_to_break_is_named() -> None:
    model = parse(FLOAT, WEIGHTS)
    broken = quantized(scale=1.0)
    ranked = compare(model, broken, samples()).worst()
    assert [tensor.sqnr_db for tensor in ranked] == sorted(tensor.sqnr_db for tensor in ranked)
    found = first_broken(model, broken, samples(), floor_db=20)
    assert found is not None and found.tensor == "b" and found.sqnr_db < 20
    assert first_broken(model, quantized(), samples(), floor_db=20) is None


def test_looking_does_not_stop_integer_execution(tmp_path) -> None:  # type: ignore[no-untyped-def]
    """The tensors that are compared leave the fused integer kernel of the first convolution in place."""
    import onnx

    from qcompiler.analysis.observe import observed

    other = quantized()
    pairs, _ = match(parse(FLOAT, WEIGHTS), other, {})
    payload = observed(other, [theirs for _, theirs in pairs.values()]).payload
    Runner(payload, SessionConfig(save_optimized=tmp_path / "o.onnx"))
    assert "QLinearConv" in {node.op_type for node in onnx.load(tmp_path / "o.onnx").graph.node}


def test_renamed_tensors_need_a_mapping() -> None:
    model, other = (
        parse(FLOAT, WEIGHTS),
        parse(FLOAT.replace("b)", "q)").replace(" b ", " q ").replace("(b,", "(q,"), WEIGHTS),
    )
    result = compare(model, other, samples(1))
    assert result.skipped == {"b": "the other model has no such tensor"}
    result = compare(model, other, samples(1), mapping={"b": "q"})
    assert [(tensor.tensor, tensor.other) for tensor in result.tensors][1] == ("b", "q") and not result.skipped


def test_budget_and_number_of_samples() -> None:
    model, other = parse(FLOAT, WEIGHTS), quantized()
    whole = compare(model, other, samples())
    assert compare(model, other, samples(), memory_budget=1) == whole
    assert compare(model, other, samples(9), samples=3) == whole
    assert compare(model, other, samples(9)).samples == 9


def test_what_cannot_be_compared_says_why() -> None:
    model = parse("g (float[4] x) => (float[4] y) { a = Abs(x)  n = Shape(x)  y = Neg(a) }")
    other = parse(
        "g (float[4] x) => (float[4] y) { a = Reshape(x, k)  n = Shape(a)  y = Neg(x) }", {"k": np.array([2, 2])}
    )
    result = compare(model, other, [Sample({"x": np.ones(4, np.float32)}, None, "one")])
    assert result.skipped == {
        "a": "its shape is [4] in one model and [2, 2] in the other",
        "n": "it does not hold floating-point numbers in both models",
    }
    assert [tensor.tensor for tensor in result.tensors] == ["y"]


def test_nan_is_a_total_loss() -> None:
    model = parse("g (float[2] x) => (float[2] y) { a = Abs(x)  y = Neg(a) }")
    other = parse("g (float[2] x) => (float[2] y) { a = Sqrt(x)  y = Neg(a) }")
    result = compare(model, other, [Sample({"x": np.float32([-1, 1])}, None, "one")])
    assert [(tensor.sqnr_db, tensor.cosine) for tensor in result.tensors] == [(-math.inf, 0.0)] * 2


def test_no_samples() -> None:
    with pytest.raises(DataError, match="holds no samples"):
        compare(parse(FLOAT, WEIGHTS), quantized(), [])
