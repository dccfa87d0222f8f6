"""A scale and a shift for each channel become one depthwise Conv in a quantized region."""

import re

import numpy as np
import pytest

from qcompiler import ir
from qcompiler.passes.condition.scale_shift_to_conv import ScaleShiftToConv
from tests.graphs import assert_same_numbers, ops, parse, refusals, transform
from tests.lowering import SPEC, lower, weights

U8 = SPEC.schemes["int8"][0].inputs[0].options[0]


def dense(norm: str = "m = Mul(c, s) n = Add(m, t)", behind: str = "y = Conv(r, v)") -> ir.Model:
    text = f"""g (float[1,4,6,6] x) => (float[1,8,6,6] y) {{
        a = Conv(x, w)  b = Conv(x, u)
        c = Concat<axis=1>(a, b)
        {norm}
        r = Relu(n)
        {behind}
    }}"""
    constants = {"w": weights(8, 4, 1, 1), "u": weights(8, 4, 1, 1, seed=1), "v": weights(8, 16, 1, 1)}
    # channels of very different size, of which one is turned off
    scale = np.geomspace(0.01, 10, 16, dtype=np.float32) * np.where(np.arange(16) % 2, 1, -1)
    scale[3] = 0
    shift = weights(16, 1, 1)
    constants |= {"s": scale.astype(np.float32).reshape(1, 16, 1, 1), "t": shift, "whole": weights(1, 16, 6, 6)}
    constants |= {"one": np.float32(0.5), "line": weights(6)}
    return parse(text, {name: values for name, values in constants.items() if re.search(rf"\b{name}\b", text)})


@pytest.mark.parametrize("norm", ["m = Mul(c, s) n = Add(m, t)", "m = Mul(s, c) n = Add(t, m)", "n = Mul(c, t)"])
def test_same_numbers(norm: str) -> None:
    before = dense(norm)
    after, records = transform(before, ScaleShiftToConv(SPEC, U8))
    assert ops(after) == ["Conv", "Conv", "Concat", "Conv", "Relu", "Conv"] and records[0].changes == 1
    conv = after.nodes[3]
    assert conv.attrs["group"] == 16 and conv.outputs[0].name == "n" and len(conv.inputs) == (3 if "Add" in norm else 2)
    assert_same_numbers(before, after)


@pytest.mark.parametrize("norm", ["n = Mul(c, one)", "n = Mul(c, whole)", "n = Mul(c, line)", "n = Add(c, t)"])
def test_not_by_channel(norm: str) -> None:
    model = dense(norm)
    after, records = transform(model, ScaleShiftToConv(SPEC, U8))
    assert ops(after) == ops(model) and not refusals(records)


def test_an_addition_of_something_else_stays() -> None:
    before = dense("m = Mul(c, s) n = Add(m, c)")
    after, _ = transform(before, ScaleShiftToConv(SPEC, U8))
    assert ops(after) == ["Conv", "Conv", "Concat", "Conv", "Add", "Relu", "Conv"]
    assert_same_numbers(before, after)


def test_stays_outside_a_region() -> None:
    model = dense(behind="q = Tanh(r) y = Conv(q, v)")
    after, records = transform(model, ScaleShiftToConv(SPEC, U8))
    assert ops(after) == ops(model)
    assert refusals(records) == ["no quantized node reads its result"]


def test_runs_in_integers() -> None:
    found = lower(dense())
    optimised = found.optimised()
    assert optimised.count("QLinearConv") == 4 and not {"QLinearMul", "QLinearAdd", "Conv", "Relu"} & set(optimised)
    assert found.sqnr_db() > 30
