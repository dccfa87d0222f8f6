"""LRN as slices, sums and square roots."""

import pytest

from qcompiler import ir
from qcompiler.passes.condition.expand_lrn import ExpandLrn
from tests.graphs import assert_same_numbers, feed_for, ops, parse, refusals, transform
from tests.lowering import lower, weights


def normalised(attrs: str, size: str = "7,5", channels: int = 6) -> ir.Model:
    return parse(f"g (float[1,{channels},{size}] x) => (float[1,{channels},H,W] y) {{ y = LRN<{attrs}>(x) }}")


@pytest.mark.parametrize(
    "attrs",
    [
        "size=5, alpha=0.5, beta=0.75, bias=2.0", "size=3, alpha=2.0, beta=0.5", "size=1, alpha=1.0, beta=1.0",
        "size=9, alpha=1.0", "size=5",
    ],
)  # fmt: skip
def test_same_numbers(attrs: str) -> None:
    before = normalised(attrs)
    after, records = transform(before, ExpandLrn())
    assert records[0].changes == 1 and "LRN" not in ops(after) and after.outputs[0].name == "y"
    assert_same_numbers(before, after)


def test_unknown_size() -> None:
    before = normalised("size=5, alpha=0.5", "N,M")
    after, _ = transform(before, ExpandLrn())
    assert_same_numbers(before, after, [feed_for(before, 0, {"N": 3, "M": 4})])


@pytest.mark.parametrize(
    ("attrs", "reason"),
    [
        ("size=5, beta=0.6", "LRN 'n0_LRN' has exponent 0.6, which is no product of square roots"),
        ("size=5, bias=0.0", "LRN 'n0_LRN' may divide by zero"),
        ("size=11", "LRN 'n0_LRN' sums 11 channels"),
    ],
)
def test_refusals(attrs: str, reason: str) -> None:
    after, records = transform(normalised(attrs), ExpandLrn())
    assert ops(after) == ["LRN"] and refusals(records) == [reason]


def test_stays_float_between_convs() -> None:
    text = """g (float[1,4,8,8] x) => (float[1,8,8,8] y) {
        a = Conv(x, w)  l = LRN<size=5, alpha=0.5>(a)  y = Conv(l, v)
    }"""
    found = lower(parse(text, {"w": weights(8, 4, 1, 1), "v": weights(8, 8, 1, 1)}))
    optimised = found.optimised()
    assert optimised.count("QLinearConv") == 2 and optimised.count("Sqrt") == 2
    assert not {"LRN", "QLinearAdd", "QLinearMul"} & set(optimised)
    assert found.sqnr_db() > 30
