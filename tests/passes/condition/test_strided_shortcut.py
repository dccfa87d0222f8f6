"""Strided slices become MaxPool of single pixels; with padded channels behind them, a Conv with an identity."""

import numpy as np
import pytest

from qcompiler import ir
from qcompiler.passes.condition.strided import strided
from qcompiler.passes.condition.strided_shortcut import StridedShortcut
from qcompiler.quant import Site
from tests.graphs import assert_same_numbers, ops, parse, refusals, transform
from tests.lowering import SPEC, lower, weights

U8 = SPEC.schemes["int8"][0].inputs[0].options[0]
PADDED = "p = Pad(b, amounts)"


def residual(cut: str, shortcut: str = PADDED, amounts: tuple[int, int] = (2, 2)) -> ir.Model:
    text = f"""g (float[1,4,9,8] x) => (float[1,6,H,W] y) {{
        c = Conv(x, w)
        r = Relu(c)
        m = Conv<strides=[2,2]>(r, {"u" if shortcut else "k"})
        {cut}
        {shortcut}
        s = Add(m, {"p" if shortcut else "b"})
        q = Relu(s)
        y = Conv(q, {"v" if shortcut else "o"})
    }}"""
    constants = {"w": weights(4, 4, 1, 1), "u": weights(8, 4, 1, 1), "v": weights(6, 8, 1, 1)}
    constants |= {"k": weights(4, 4, 1, 1, seed=2), "o": weights(6, 4, 1, 1)}
    ints = {"zero": [0], "one": [1], "two": [2], "h": [2], "last": [3], "end": [2**63 - 1], "nine": [9], "five": [5]}
    ints |= {"hw": [2, 3], "zeros": [0, 0], "twos": [2, 2], "ends": [99, 99], "back": [8]}
    ints |= {"amounts": [0, amounts[0], 0, 0, 0, amounts[1], 0, 0], "rows": [0, 2, 0, 0, 0, 2, 1, 0]}
    return parse(text, {**constants, **{name: np.array(v) for name, v in ints.items()}})


BOTH = "b = Slice(r, zeros, ends, hw, twos)"
CHAIN = "a = Slice(r, zero, end, h, two) b = Slice(a, zero, end, last, two)"


@pytest.mark.parametrize("cut", [BOTH, CHAIN])
@pytest.mark.parametrize("amounts", [(2, 2), (0, 4), (4, 0)])
def test_padded_shortcut(cut: str, amounts: tuple[int, int]) -> None:
    before, step = residual(cut, amounts=amounts), StridedShortcut(SPEC, U8)
    after, records = transform(before, step)
    assert ops(after) == ["Conv", "Relu", "Conv", "Conv", "Add", "Relu", "Conv"] and records[0].changes == 1
    conv = after.nodes[3]
    assert conv.outputs[0].name == "p" and conv.attrs["strides"] == [2, 2] and step.aliases == {"p": "r"}
    assert ir.array(conv.inputs[1]).sum() == 4
    assert_same_numbers(before, after, rtol=0, atol=0)


@pytest.mark.parametrize("cut", [BOTH, CHAIN])
def test_plain_shortcut(cut: str) -> None:
    before = residual(cut, shortcut="")
    after, records = transform(before, StridedShortcut(SPEC, U8))
    assert ops(after) == ["Conv", "Relu", "Conv", "MaxPool", "Add", "Relu", "Conv"] and records[0].changes == 1
    assert_same_numbers(before, after, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("cut", "shortcut"),
    [
        ("b = Slice(r, one, nine, h, two)", ""),  # begins with the second row
        ("b = Slice(r, zero, back, h, two)", ""),  # leaves the last row out
    ],
)
def test_no_chain(cut: str, shortcut: str) -> None:
    node = next(n for n in residual(f"{cut}", "p = Identity(b)").nodes if n.op == "Slice")
    chain = strided(node.outputs[0])
    assert chain is None or not chain.spatial


def test_rows_that_are_padded_too() -> None:
    model = residual(BOTH, "z = Pad(b, rows) p = Slice(z, zero, five, h, one)")
    after, _ = transform(model, StridedShortcut(SPEC, U8))
    assert "Pad" in ops(after)


def test_kept_float() -> None:
    model = residual(BOTH)
    after, records = transform(model, StridedShortcut(SPEC, U8, ("p",)))
    assert ops(after) == ops(model)
    assert refusals(records)[0] == "kept float by --keep-float 'p'"


def test_runs_in_integers() -> None:
    found = lower(residual(CHAIN))
    optimised = found.optimised()
    assert optimised.count("QLinearConv") == 4 and optimised.count("QLinearAdd") == 1
    assert not {"Slice", "Pad", "Add", "Conv"} & set(optimised)
    assert found.sqnr_db() > 30
    plan = found.candidate.plan
    assert plan.sites[Site("p")].encoding.scale == plan.sites[Site("r")].encoding.scale  # codes are copied
