"""Nearest-neighbour upsampling by a whole number becomes Concat of copies in the layout of integer Convs."""

import numpy as np
import pytest

from qcompiler import ir
from qcompiler.passes.condition.resize_to_concat import ResizeToConcat
from tests.graphs import assert_same_numbers, feed_for, ops, parse, refusals, transform
from tests.lowering import SPEC, lower, weights

U8 = SPEC.schemes["int8"][0].inputs[0].options[0]
HOW = 'mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor"'
NOT_WHOLE = "Resize 'n2_Resize' does not copy pixels a whole number of times"
FORM = ["Transpose", "Concat", "Concat", "Reshape", "Transpose"]


def upsampled(scales: list[float], how: str = HOW, size: str = "6,8", behind: str = "y = Conv(u, v)") -> ir.Model:
    text = f"""g (float[1,4,{size}] x) => (float[1,8,H,W] y) {{
        a = Conv(x, w)
        r = Relu(a)
        u = Resize<{how}>(r, , {"scales" if scales[0] == 1 else ", sizes"})
        {behind}
    }}"""
    constants = {"w": weights(8, 4, 1, 1), "v": weights(8, 8, 1, 1)}
    numbers = {"scales": np.array(scales, np.float32)} if scales[0] == 1 else {"sizes": np.array(scales[1:], np.int64)}
    return parse(text, {**constants, **numbers})


@pytest.mark.parametrize("times", [2, 3, 8])
@pytest.mark.parametrize(
    "how", [HOW, 'mode="nearest"', 'coordinate_transformation_mode="half_pixel", nearest_mode="round_prefer_ceil"']
)
def test_same_numbers(times: int, how: str) -> None:
    before, step = upsampled([1, 1, times, times], how), ResizeToConcat(SPEC, U8)
    after, records = transform(before, step)
    assert ops(after) == ["Conv", "Relu", *FORM, "Conv"] and records[0].changes == 1
    assert after.nodes[-2].outputs[0].name == "u" and set(step.aliases.values()) == {"r"}
    assert_same_numbers(before, after, rtol=0, atol=0)


def test_sizes_and_unknown_sizes() -> None:
    before = upsampled([0, 1, 8, 12, 16])
    after, _ = transform(before, ResizeToConcat(SPEC, U8))
    assert ops(after) == ["Conv", "Relu", *FORM, "Conv"]
    assert_same_numbers(before, after, rtol=0, atol=0)
    before = upsampled([1, 1, 2, 2], size="N,M")
    after, _ = transform(before, ResizeToConcat(SPEC, U8))
    assert ops(after) == ["Conv", "Relu", *FORM, "Conv"]
    assert_same_numbers(before, after, [feed_for(before, 0, {"N": 5, "M": 3})], rtol=0, atol=0)


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (upsampled([1, 1, 2, 3]), "the factors of Resize 'n2_Resize' are 1, 1, 2, 3"),
        (upsampled([1, 1, 1.5, 1.5]), "the factors of Resize 'n2_Resize' are 1, 1, 1.5, 1.5"),
        (upsampled([1, 1, 0.5, 0.5]), "the factors of Resize 'n2_Resize' are 1, 1, 0.5, 0.5"),
        (upsampled([1, 1, 2, 2], 'nearest_mode="ceil"'), NOT_WHOLE),
        (upsampled([1, 1, 2, 2], behind="q = Tanh(u) y = Conv(q, v)"), "no quantized node reads its result"),
    ],
)  # fmt: skip
def test_refusals(model: ir.Model, reason: str) -> None:
    after, records = transform(model, ResizeToConcat(SPEC, U8))
    assert ops(after) == ops(model)
    assert refusals(records) == [reason]


def test_transposes_cancel() -> None:
    """What is left is one Transpose behind the input and one in front of the output."""
    found = lower(upsampled([1, 1, 2, 2]))
    optimised = found.optimised()
    assert optimised.count("QLinearConcat") == 2 and optimised.count("QLinearConv") == 2
    assert optimised.count("Transpose") == 2 and "Resize" not in optimised
    assert found.sqnr_db() > 30
