"""The channel shuffle becomes a Gather in a quantized region."""

import numpy as np

from qcompiler import ir
from qcompiler.passes.condition.shuffle_to_gather import ShuffleToGather
from tests.graphs import assert_same_numbers, ops, parse, refusals, transform
from tests.lowering import SPEC, lower, weights

U8 = SPEC.schemes["int8"][0].inputs[0].options[0]


def shuffle(perm: str = "0,2,1,3,4", behind: str = "y = Conv(s, v)") -> ir.Model:
    text = f"""g (float[1,4,6,6] x) => (float[1,8,6,6] y) {{
        a = Conv(x, w)
        p = Reshape(a, apart)
        t = Transpose<perm=[{perm}]>(p)
        s = Reshape(t, back)
        {behind}
    }}"""
    constants = {"w": weights(12, 4, 1, 1), "v": weights(8, 12, 1, 1)}
    constants |= {"apart": np.array([1, 3, 4, 6, 6]), "back": np.array([1, 12, 6, 6])}
    return parse(text, constants)


def test_same_numbers() -> None:
    before = shuffle()
    after, records = transform(before, ShuffleToGather(SPEC, U8))
    assert ops(after) == ["Conv", "Gather", "Conv"] and records[0].changes == 1
    gather = after.nodes[1]
    assert ir.array(gather.inputs[1]).tolist() == [0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11]
    assert (gather.name, gather.outputs[0].name, gather.attrs["axis"]) == ("n3_Reshape", "s", 1)
    assert_same_numbers(before, after)


def test_between_two_concats() -> None:
    """ShuffleNet V2: the Concat is in a region only if the shuffle is, and the other way round."""
    text = """g (float[1,4,6,6] x) => (float[1,8,6,6] y) {
        c = Conv(x, v4)  d = Conv(x, v5)  a = Concat<axis=1>(c, d)
        p = Reshape(a, apart)  t = Transpose<perm=[0,2,1,3,4]>(p)  s = Reshape(t, back)
        h, i = Split<axis=1, num_outputs=2>(s)
        j = Conv(i, v6)  k = Concat<axis=1>(h, j)  y = Conv(k, v)
    }"""
    constants = {"v4": weights(6, 4, 1, 1), "v5": weights(6, 4, 1, 1, seed=1), "v6": weights(6, 6, 1, 1)}
    constants |= {"v": weights(8, 12, 1, 1), "apart": np.array([1, 2, 6, 6, 6]), "back": np.array([1, 12, 6, 6])}
    before = parse(text, constants)
    found = lower(before)
    assert ops(found.draft.model) == ["Conv", "Conv", "Concat", "Gather", "Split", "Conv", "Concat", "Conv"]
    optimised = found.optimised()
    assert optimised.count("QuantizeLinear") == 1 and optimised.count("DequantizeLinear") == 1
    assert optimised.count("QLinearConcat") == 2 and found.sqnr_db() > 20


def test_stays_outside_a_region() -> None:
    model = shuffle(behind="q = Tanh(s) y = Conv(q, v)")
    after, records = transform(model, ShuffleToGather(SPEC, U8))
    assert ops(after) == ops(model)
    assert refusals(records) == ["no quantized node reads its result"]


def test_other_orders_are_no_shuffle() -> None:
    model = shuffle(perm="0,2,1,4,3")
    after, records = transform(model, ShuffleToGather(SPEC, U8))
    assert ops(after) == ops(model) and not refusals(records)


def test_no_5d_transpose_runs() -> None:
    found = lower(shuffle())
    optimised = found.optimised()
    assert "Gather" in optimised and "Reshape" not in optimised and optimised.count("QLinearConv") == 2
    assert found.sqnr_db() > 30
