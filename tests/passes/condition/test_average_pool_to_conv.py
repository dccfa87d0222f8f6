"""AveragePool in a quantized region becomes a depthwise Conv; the border too is exact."""

import numpy as np
import pytest

from qcompiler import ir
from qcompiler.passes.condition.average_pool_to_conv import AveragePoolToConv
from qcompiler.passes.condition.integer_forms import shares
from tests.graphs import assert_same_numbers, ops, parse, refusals, transform
from tests.lowering import FLOAT_OPS, SPEC, lower, weights

U8 = SPEC.schemes["int8"][0].inputs[0].options[0]
DEPTHWISE, TABLE, GLOBAL = ["Conv"], ["Conv", "Mul"], ["GlobalAveragePool"]


def pooled(attrs: str, size: str = "12,12", behind: str = "y = Conv(p, v)") -> ir.Model:
    text = f"""g (float[1,4,{size}] x) => (float[1,8,H,W] y) {{
        a = Conv(x, w)
        r = Relu(a)
        p = AveragePool<{attrs}>(r)
        {behind}
    }}"""
    return parse(text, {"w": weights(8, 4, 1, 1), "v": weights(8, 8, 1, 1)})


@pytest.mark.parametrize(
    ("attrs", "form"),
    [
        ("kernel_shape=[2,2], strides=[2,2]", DEPTHWISE),
        ("kernel_shape=[3,2], strides=[1,2]", DEPTHWISE),
        ("kernel_shape=[3,3], pads=[1,1,1,1], count_include_pad=1", DEPTHWISE),
        ("kernel_shape=[3,3], pads=[1,1,1,1]", TABLE),
        ("kernel_shape=[3,3], pads=[1,1,1,1], strides=[2,2]", TABLE),
        ("kernel_shape=[3,3], pads=[0,0,1,1], strides=[2,2]", TABLE),
        ("kernel_shape=[2,2], auto_pad=\"SAME_UPPER\", strides=[1,1]", TABLE),
        ("kernel_shape=[2,2], auto_pad=\"SAME_UPPER\", strides=[2,2]", DEPTHWISE),
        ("kernel_shape=[12,12]", GLOBAL),
        ("kernel_shape=[13,14], pads=[0,1,1,1]", GLOBAL),
    ],
)  # fmt: skip
def test_same_numbers(attrs: str, form: list[str]) -> None:
    before = pooled(attrs)
    after, records = transform(before, AveragePoolToConv(SPEC, U8))
    assert ops(after) == ["Conv", "Relu", *form, "Conv"] and records[0].changes == 1
    assert_same_numbers(before, after)


def test_an_image_of_unknown_size() -> None:
    before = pooled("kernel_shape=[3,2], strides=[3,2]", "H0,W0")
    after, records = transform(before, AveragePoolToConv(SPEC, U8))
    assert ops(after) == ["Conv", "Relu", *DEPTHWISE, "Conv"] and records[0].changes == 1
    feed = {"x": np.random.default_rng(1).normal(size=(1, 4, 12, 9)).astype(np.float32)}
    assert_same_numbers(before, after, [feed])


def test_table_is_exact_on_its_grid() -> None:
    step = AveragePoolToConv(SPEC, U8)
    after, _ = transform(pooled("kernel_shape=[3,3], pads=[1,1,1,1]"), step)
    ((site, encoding),) = step.given.items()
    table = next(ir.array(c) for c in after.constants() if c.name == site.tensor)
    assert sorted(set(table.reshape(-1).tolist())) == [1.0, 1.5, 2.25]
    codes = table / encoding.scale
    assert np.array_equal(codes, np.rint(codes)) and codes.max() <= 255
    assert step.aliases == {"p_even": "p"}


@pytest.mark.parametrize(
    ("attrs", "size", "reason"),
    [
        ("kernel_shape=[5,5], pads=[2,2,2,2]", "12,12", "divides by many numbers"),
        ("kernel_shape=[3,3], pads=[1,1,1,1]", "H0,12", "pads an image whose size is not known"),
        ("kernel_shape=[3,3], strides=[2,2], ceil_mode=1", "12,12", "rounds up or has dilations"),
    ],
)  # fmt: skip
def test_refusals(attrs: str, size: str, reason: str) -> None:
    model = pooled(attrs, size)
    after, records = transform(model, AveragePoolToConv(SPEC, U8))
    assert ops(after) == ops(model)
    assert refusals(records) == [f"AveragePool 'n2_AveragePool' {reason}"]


def test_stays_outside_a_region() -> None:
    model = pooled("kernel_shape=[2,2]", behind="y = Tanh(p)")
    after, records = transform(model, AveragePoolToConv(SPEC, U8))
    assert ops(after) == ops(model)
    assert refusals(records) == ["no quantized node reads its result"]


def test_shares_of_a_window_without_elements() -> None:
    node = next(n for n in pooled("kernel_shape=[3,3], pads=[2,2,2,2]").nodes if n.op == "AveragePool")
    found = shares(node)
    assert found is not None and found[0].max() == 9.0 and found[1] == 4


@pytest.mark.parametrize("attrs", ["kernel_shape=[2,2], strides=[2,2]", "kernel_shape=[3,3], pads=[1,1,1,1]"])
def test_runs_in_integers(attrs: str) -> None:
    found = lower(pooled(attrs))
    optimised = found.optimised()
    assert optimised.count("QLinearConv") == 3 and not FLOAT_OPS & set(optimised)
    assert optimised.count("QLinearMul") == ("pads" in attrs)
    assert found.sqnr_db() > 30
