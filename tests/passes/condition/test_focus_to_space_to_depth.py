"""Four strided slices and a Concat in front of a Conv become SpaceToDepth."""

import itertools

import numpy as np
import pytest

from qcompiler import ir
from qcompiler.passes.condition.focus_to_space_to_depth import FocusToSpaceToDepth
from tests.graphs import assert_same_numbers, ops, parse, refusals, transform
from tests.lowering import FLOAT_OPS, lower, weights

CORNERS = [(0, 0), (1, 0), (0, 1), (1, 1)]  # the order of YOLOv5


def focus(order: list[tuple[int, int]], size: str = "8,12", chain: bool = False, more: str = "") -> ir.Model:
    slices = []
    for k, (i, j) in enumerate(order):
        if chain:
            slices.append(f"r{k} = Slice(x, at{i}, end, rows, two) s{k} = Slice(r{k}, at{j}, end, columns, two)")
        else:
            slices.append(f"s{k} = Slice(x, at{i}{j}, ends, both, twos)")
    text = f"""g (float[1,3,{size}] x) => (float[1,8,H,W] y{", float[1,12,H,W] z" if more else ""}) {{
        {" ".join(slices)}
        f = Concat<axis=1>(s0, s1, s2, s3)
        a = Conv<pads=[1,1,1,1]>(f, w, b)
        r = Relu(a)
        y = Conv(r, v)
        {more}
    }}"""
    constants = {"w": weights(8, 12, 3, 3), "b": weights(8), "v": weights(8, 8, 1, 1)}
    ints = {f"at{i}{j}": [i, j] for i, j in CORNERS} | {"at0": [0], "at1": [1]}
    ints |= {"end": [2**31 - 1], "ends": [2**63 - 1] * 2, "rows": [2], "columns": [-1], "both": [2, 3]}
    ints |= {"two": [2], "twos": [2, 2]}
    return parse(text, {**constants, **{name: np.array(v) for name, v in ints.items()}})


@pytest.mark.parametrize("chain", [False, True])
@pytest.mark.parametrize("order", list(itertools.permutations(CORNERS))[::5])
def test_same_numbers(order: tuple[tuple[int, int], ...], chain: bool) -> None:
    before, step = focus(list(order), chain=chain), FocusToSpaceToDepth()
    after, records = transform(before, step)
    assert ops(after) == ["SpaceToDepth", "Conv", "Relu", "Conv"] and records[0].changes == 1
    assert list(step.aliases.values()) == ["f", "w"]
    assert_same_numbers(before, after)


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (focus(CORNERS, "8,N"), "height or width of 'x' is not known to be even"),
        (focus(CORNERS, more="z = Identity(f)"), "'f' is not read by one Conv alone"),
    ],
)
def test_refusals(model: ir.Model, reason: str) -> None:
    after, records = transform(model, FocusToSpaceToDepth())
    assert ops(after) == ops(model)
    assert refusals(records) == [reason]


def test_the_same_corner_twice_is_no_focus() -> None:
    model = focus([(0, 0), (1, 0), (0, 0), (1, 1)])
    after, records = transform(model, FocusToSpaceToDepth())
    assert ops(after) == ops(model) and not refusals(records)


def test_runs_in_integers() -> None:
    found = lower(focus(CORNERS))
    optimised = found.optimised()
    assert optimised.count("QLinearConv") == 2 and "Slice" not in optimised and not FLOAT_OPS & set(optimised)
    assert found.sqnr_db() > 30
