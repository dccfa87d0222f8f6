"""An activation behind a Concat moves to its operands, where integer kernels absorb it."""

import pytest

from qcompiler import ir
from qcompiler.passes.condition.relu_before_concat import ReluBeforeConcat
from tests.graphs import assert_same_numbers, ops, parse, refusals, transform
from tests.lowering import SPEC, lower, weights

U8 = SPEC.schemes["int8"][0].inputs[0].options[0]
POOL = "kernel_shape=[3,3], pads=[1,1,1,1]"


def branches(second: str = "b = Conv(x, u)", behind: str = "r = Relu(c)", more: str = "") -> ir.Model:
    text = f"""g (float[1,4,8,8] x) => (float[1,8,8,8] y{", float[1,8,8,8] z" if more else ""}) {{
        a = Conv(x, w)
        {second}
        c = Concat<axis=1>(a, b)
        {behind}
        y = Conv(r, v)
        {more}
    }}"""
    constants = {"w": weights(8, 4, 1, 1), "u": weights(8, 4, 1, 1, seed=1), "v": weights(8, 16, 1, 1)}
    constants |= {"zero": weights() * 0, "six": weights() * 0 + 6, "t": weights(8, 8, 1, 1)}
    return parse(text, constants)


@pytest.mark.parametrize(
    ("second", "behind", "op"),
    [
        ("b = Conv(x, u)", "r = Relu(c)", "Relu"),
        ("b = Conv(x, u)", "r = Clip(c, zero, six)", "Clip"),
        (f"s = Conv(x, u) b = AveragePool<{POOL}, count_include_pad=1>(s)", "r = Relu(c)", "Relu"),
    ],
)  # fmt: skip
def test_same_numbers(second: str, behind: str, op: str) -> None:
    before = branches(second, behind)
    step = ReluBeforeConcat(SPEC, U8)
    after, records = transform(before, step)
    assert ops(after)[-4:] == [op, op, "Concat", "Conv"] and records[0].changes == 1
    assert after.nodes[-2].outputs[0].name == "r"  # its statistics are filed under this name
    assert sorted(step.aliases.values()) == ["a", "b"]
    assert_same_numbers(before, after)


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (branches("b = LeakyRelu(a)"), "'a' is read by others too"),
        (branches("s = Conv(x, u) b = LeakyRelu(s)"), "'b' is not computed in integers"),
        (branches("b = Tanh(x)"), "'b' is not computed in integers"),
        (branches(more="z = Conv(b, t)"), "'b' is read by others too"),
        (branches(behind="r = Clip(c, six)"), "bounds of Clip 'n3_Clip' are not constant, or no integers express them"),
    ],
)
def test_refusals(model: ir.Model, reason: str) -> None:
    after, records = transform(model, ReluBeforeConcat(SPEC, U8))
    assert ops(after) == ops(model)
    assert refusals(records) == [reason]


def test_another_reader_of_the_concat() -> None:
    model = branches(more="z = Conv(c, v)")
    after, _ = transform(model, ReluBeforeConcat(SPEC, U8))
    assert ops(after) == ops(model)


def test_runs_in_integers() -> None:
    found = lower(branches(f"s = Conv(x, u) b = AveragePool<{POOL}>(s)"))
    optimised = found.optimised()
    assert optimised.count("QLinearConcat") == 1 and not {"Concat", "Relu", "AveragePool"} & set(optimised)
    assert found.sqnr_db() > 30
