"""Conv on three channels becomes one on four."""

import pytest

from qcompiler import ir
from qcompiler.passes.condition.pad_stem_channels import PadStemChannels
from tests.graphs import assert_same_numbers, feed_for, ops, parse, refusals, transform
from tests.lowering import FLOAT_OPS, SPEC, lower, weights


def stem(
    channels: int = 3, kernel: int = 3, size: str = "16,16", strides: str = "[1,1]", prefix: bool = False
) -> ir.Model:
    first = "s = Div(x, std)" if prefix else ""
    text = f"""g (float[1,{channels},{size}] x) => (float[1,8,H,W] y) {{
        {first}
        a = Conv<strides={strides}, pads=[1,1,1,1]>({"s" if prefix else "x"}, w, b)
        r = Relu(a)
        y = Conv(r, v)
    }}"""
    constants = {"w": weights(8, channels, kernel, kernel), "b": weights(8), "v": weights(8, 8, 1, 1)}
    return parse(text, {**constants, **({"std": weights(3, 1, 1) + 2} if prefix else {})})


@pytest.mark.parametrize("model", [stem(), stem(size="H0,W0"), stem(strides="[2,2]", size="H0,16"), stem(kernel=5)])
def test_same_numbers(model: ir.Model) -> None:
    step = PadStemChannels(SPEC)
    after, records = transform(model, step)
    assert ops(after) == ["Pad", "Conv", "Relu", "Conv"] and records[0].changes == 1
    assert after.nodes[1].inputs[1].shape[1] == 4
    assert step.aliases == {"n0_Conv_wide_out": "x", "w_wide": "w"}
    dims = dict.fromkeys(("H0", "W0"), 16)
    assert_same_numbers(model, after, [feed_for(model, seed, dims) for seed in range(2)])


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (stem(channels=1), "Conv 'n0_Conv' reads 1 channels; padding pays for 3"),
        (stem(kernel=1), "Conv 'n0_Conv' is 1 x 1 and gathers nothing"),
    ],
)
def test_refusals(model: ir.Model, reason: str) -> None:
    after, records = transform(model, PadStemChannels(SPEC))
    assert ops(after) == ops(model)
    assert refusals(records) == [reason]


def test_a_stem_behind_float_arithmetic() -> None:
    model = stem(prefix=True)
    after, _ = transform(model, PadStemChannels(SPEC))
    assert ops(after) == ["Div", "Pad", "Conv", "Relu", "Conv"]
    assert_same_numbers(model, after)


def test_runs_in_integers() -> None:
    found = lower(stem())
    optimised = found.optimised()
    assert optimised.count("QLinearConv") == 2 and not FLOAT_OPS & set(optimised)
    assert found.sqnr_db() > 30
