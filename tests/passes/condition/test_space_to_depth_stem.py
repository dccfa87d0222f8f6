"""Conv with stride 2 on few channels becomes a Conv with stride 1 on blocks: same numbers, for any padding."""

import numpy as np
import pytest

from qcompiler import ir
from qcompiler.passes.condition.space_to_depth_stem import SpaceToDepthStem, fold_weight
from tests.graphs import assert_same_numbers, ops, parse, refusals, transform
from tests.lowering import FLOAT_OPS, SPEC, lower, weights


def stem(kernel: int, pads: str, size: str, channels: int = 3, extra: str = "", more: str = "") -> ir.Model:
    text = f"""g (float[1,{channels},{size}] x) => (float[1,8,H,W] y) {{
        a = Conv<strides=[2,2], {pads} {extra}>(x, w, b)
        r = Relu(a)
        {more or "y = Conv(r, v)"}
    }}"""
    constants = {"w": weights(8, channels, kernel, kernel), "b": weights(8), "v": weights(8, 8, 1, 1)}
    return parse(text, constants)


@pytest.mark.parametrize(
    ("kernel", "pads", "size"),
    [
        (3, "pads=[1,1,1,1]", "16,12"), (3, "pads=[0,0,1,1]", "16,12"), (3, "pads=[0,0,0,0]", "16,12"),
        (7, "pads=[3,3,3,3]", "16,20"), (7, "pads=[0,0,0,0]", "17,16"), (6, "pads=[2,2,2,2]", "16,16"),
        (5, "pads=[2,1,0,3]", "14,16"), (2, "pads=[0,0,0,0]", "16,16"), (3, "pads=[1,1,1,1]", "15,17"),
        (3, "auto_pad=\"SAME_UPPER\"", "16,15"), (4, "auto_pad=\"SAME_LOWER\"", "16,16"),
        (3, "auto_pad=\"VALID\"", "16,16"), (4, "pads=[1,1,1,1]", "15,16"), (7, "pads=[3,3,3,3]", "15,15"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_same_numbers(kernel: int, pads: str, size: str, channels: int) -> None:
    before = stem(kernel, pads, size, channels)
    after, records = transform(before, SpaceToDepthStem(SPEC))
    odd = any(int(n) % 2 for n in size.split(","))
    assert ops(after) == [*(["Pad"] if odd else []), "SpaceToDepth", "Conv", "Relu", "Conv"]
    assert records[0].changes == 1
    conv = next(node for node in after.nodes if node.op == "Conv")
    assert (conv.name, conv.outputs[0].name) == ("n0_Conv", "a")
    assert conv.attrs["strides"] == [1, 1] and conv.inputs[1].shape[1] == 4 * channels
    assert_same_numbers(before, after)


def test_block_order_is_that_of_space_to_depth() -> None:
    weight = np.arange(4, dtype=np.float32).reshape(1, 1, 2, 2)
    folded, first = fold_weight(weight, [0, 0])
    assert first == [0, 0] and folded.shape == (1, 4, 1, 1)
    assert folded.reshape(-1).tolist() == [0, 1, 2, 3]
    folded, first = fold_weight(weight, [1, 1])  # every tap falls into another block
    assert first == [-1, -1] and folded.shape == (1, 4, 2, 2)
    assert [folded[0, 3 - i, i // 2, i % 2] for i in range(4)] == [0, 1, 2, 3]


def test_aliases_name_what_the_prepared_model_has() -> None:
    step = SpaceToDepthStem(SPEC)
    transform(stem(3, "pads=[1,1,1,1]", "15,16"), step)
    assert step.aliases == {"n0_Conv_even_out": "x", "n0_Conv_deep_out": "x", "w_deep": "w"}


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (stem(3, "pads=[1,1,1,1]", "H0,16"), "height or width of 'x' is not known, and might be odd"),
        (stem(1, "pads=[0,0,0,0]", "16,16"), "kernel of Conv 'n0_Conv' is smaller than a block"),
    ],
)
def test_refusals(model: ir.Model, reason: str) -> None:
    after, records = transform(model, SpaceToDepthStem(SPEC))
    assert ops(after) == ops(model)
    assert refusals(records) == [reason]


@pytest.mark.parametrize(
    "model",
    [
        stem(3, "pads=[1,1,1,1]", "16,16", channels=8),
        stem(3, "pads=[1,1,1,1]", "16,16", extra=", dilations=[2,2]"),
        stem(3, "pads=[1,1,1,1]", "16,16", more="z = Conv(x, w) y = Conv(r, v)"),
    ],
)
def test_not_a_stem(model: ir.Model) -> None:
    after, records = transform(model, SpaceToDepthStem(SPEC))
    assert ops(after) == ops(model) and not refusals(records)


def test_kept_float_stays_as_it_is() -> None:
    model = stem(3, "pads=[1,1,1,1]", "16,16")
    after, _ = transform(model, SpaceToDepthStem(SPEC, ("n0_Conv",)))
    assert ops(after) == ops(model)


@pytest.mark.parametrize("size", ["32,32", "33,31"])
def test_runs_in_integers(size: str) -> None:
    found = lower(stem(7, "pads=[3,3,3,3]", size))
    optimised = found.optimised()
    assert optimised.count("QLinearConv") == 2 and "SpaceToDepth" in optimised
    assert not FLOAT_OPS & set(optimised)
    assert found.sqnr_db() > 30
