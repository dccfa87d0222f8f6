"""Groups of few channels become groups of about thirty."""

import numpy as np
import pytest

from qcompiler import ir
from qcompiler.passes.condition.merge_groups import MergeGroups, best_merge, spread
from tests.graphs import assert_same_numbers, ops, parse, refusals, transform
from tests.lowering import SPEC, lower, weights


def grouped(group: int, inputs: int, outputs: int, kernel: int = 3) -> ir.Model:
    text = f"""g (float[1,{group * inputs},6,6] x) => (float[1,{outputs},H,W] y) {{
        a = Conv<group={group}, pads=[1,1,1,1]>(x, w, b)
        r = Relu(a)
        y = Conv(r, v)
    }}"""
    constants = {"w": weights(outputs, inputs, kernel, kernel), "b": weights(outputs)}
    return parse(text, {**constants, "v": weights(outputs, outputs, 1, 1)})


@pytest.mark.parametrize(
    ("group", "inputs", "outputs", "merged"),
    [(8, 8, 64, 2), (4, 4, 32, 1), (3, 8, 24, 1), (46, 8, 368, 23), (8, 16, 128, 4), (6, 1, 12, 1), (12, 8, 24, 2)],
)
def test_same_numbers(group: int, inputs: int, outputs: int, merged: int) -> None:
    before, step = grouped(group, inputs, outputs), MergeGroups(SPEC)
    after, records = transform(before, step)
    assert records[0].changes == 1 and after.nodes[0].attrs["group"] == merged
    assert step.aliases == {"w_merged": "w"}
    assert_same_numbers(before, after)


def test_where_zeros_go() -> None:
    weight = np.arange(1, 9, dtype=np.float32).reshape(4, 2, 1, 1)
    assert spread(weight, 4, 2).reshape(4, 4).tolist() == [[1, 2, 0, 0], [0, 0, 3, 4], [5, 6, 0, 0], [0, 0, 7, 8]]


@pytest.mark.parametrize(("group", "inputs"), [(19, 8), (5, 24), (4, 64), (3, 80)])
def test_refusals(group: int, inputs: int) -> None:
    assert best_merge(group, inputs, group * inputs) == 1
    model = grouped(group, inputs, group * inputs)
    after, records = transform(model, MergeGroups(SPEC))
    assert after.nodes[0].attrs["group"] == group
    assert refusals(records) == [f"no merge of the {group} groups of Conv 'n0_Conv' is faster"]


def test_a_pointwise_conv_of_one_group_copies_nothing() -> None:
    assert best_merge(4, 6, 112) == 2 and best_merge(4, 6, 112, single=True) == 4
    assert best_merge(4, 28, 112, single=True) == 1
    text = "g (float[1,24,6,6] x) => (float[1,8,6,6] y) { a = Conv<group=4>(x, w) y = Conv(a, v) }"
    before = parse(text, {"w": weights(112, 6, 1, 1), "v": weights(8, 112, 1, 1)})
    after, _ = transform(before, MergeGroups(SPEC))
    assert after.nodes[0].attrs["group"] == 1
    assert_same_numbers(before, after)


def test_depthwise_and_float_stay() -> None:
    for model, keep in ((grouped(8, 1, 8), ()), (grouped(8, 8, 64), ("n0_Conv",))):
        after, _ = transform(model, MergeGroups(SPEC, keep))
        assert after.nodes[0].attrs["group"] == 8 and ops(after) == ops(model)


def test_runs_in_integers() -> None:
    found = lower(grouped(8, 8, 64))
    assert found.optimised().count("QLinearConv") == 2
    assert found.sqnr_db() > 30
