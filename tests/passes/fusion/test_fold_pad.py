"""fold-pad: Pad moves into the padding of Conv, AveragePool and MaxPool."""

from __future__ import annotations

import numpy as np
import pytest

from qcompiler.passes.fusion.fold_pad import FoldPad
from tests.graphs import assert_same_numbers, feed_for, ops, parse, refusals, transform

RNG = np.random.default_rng(29)
PADS = np.int64([0, 0, 1, 2, 0, 0, 2, 1])


def normal(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


def text(op: str, pad: str = "Pad(x, p)", before: str = "") -> str:
    return f"g (float[N, 4, 7, 7] x) => (float[N, C, P, Q] y) {{ {before} t = {pad} y = {op} }}"


@pytest.mark.parametrize(
    ("attrs", "wanted"),
    [
        ("", [1, 2, 2, 1]),
        ("pads = [0, 1, 2, 0], strides = [2, 2]", [1, 3, 4, 1]),
        ('auto_pad = "VALID"', [1, 2, 2, 1]),
        ("group = 2, dilations = [2, 1], kernel_shape = [3, 3]", [1, 2, 2, 1]),
    ],
)
def test_into_conv(attrs: str, wanted: list[int]) -> None:
    weight = normal(6, 2 if "group" in attrs else 4, 3, 3)
    before = parse(text(f"Conv <{attrs}> (t, w)" if attrs else "Conv(t, w)"), {"p": PADS, "w": weight})
    after, _ = transform(before, FoldPad())
    assert ops(after) == ["Conv"]
    assert after.nodes[0].attrs["pads"] == wanted and "auto_pad" not in after.nodes[0].attrs
    assert_same_numbers(before, after)


@pytest.mark.parametrize(
    ("pad", "constants"),
    [
        ("Pad(x, p, , a)", {"p": np.int64([1, 2, 2, 1]), "a": np.int64([2, 3])}),
        ("Pad(x, p, z, a)", {"p": np.int64([2, 1, 1, 2]), "a": np.int64([-1, -2]), "z": np.float32(0)}),
        ("Pad(x, p, z, a)", {"p": np.int64([1, 2]), "a": np.int64([2]), "z": np.float32([0])}),
        ('Pad <mode = "constant"> (x, p)', {"p": PADS}),
    ],
)
def test_axes_in_any_order(pad: str, constants: dict[str, np.ndarray]) -> None:
    before = parse(text("Conv(t, w, b)", pad), {**constants, "w": normal(6, 4, 3, 3), "b": normal(6)})
    after, _ = transform(before, FoldPad())
    assert ops(after) == ["Conv"]
    assert_same_numbers(before, after)


def test_pads_as_an_attribute() -> None:
    before = parse(text("Conv(t, w)", "Pad <pads = [0, 0, 1, 2, 0, 0, 2, 1]> (x)"), {"w": normal(6, 4, 3, 3)}, opset=10)
    after, _ = transform(before, FoldPad())
    assert ops(after) == ["Conv"] and after.nodes[0].attrs["pads"] == [1, 2, 2, 1]
    assert_same_numbers(before, after)


def test_one_and_three_dimensions() -> None:
    body = "g (float[N, 4, 7] x) => (float[N, 6, P] y) { t = Pad(x, p) y = Conv(t, w) }"
    before = parse(body, {"p": np.int64([0, 0, 2, 0, 0, 1]), "w": normal(6, 4, 3)})
    after, _ = transform(before, FoldPad())
    assert ops(after) == ["Conv"]
    assert_same_numbers(before, after)
    body = "g (float[N, 2, 4, 4, 4] x) => (float[N, 3, P, Q, R] y) { t = Pad(x, p) y = Conv(t, w) }"
    before = parse(body, {"p": np.int64([0, 0, 1, 0, 2, 0, 0, 0, 1, 1]), "w": normal(3, 2, 2, 2, 2)})
    after, _ = transform(before, FoldPad())
    assert ops(after) == ["Conv"]
    assert_same_numbers(before, after)


def test_a_computed_weight_is_no_obstacle() -> None:
    body = "g (float[1, 4, 7, 7] x, float[6, 4, 3, 3] w) => (float[1, 6, P, Q] y) { t = Pad(x, p) y = Conv(t, w) }"
    before = parse(body, {"p": PADS})
    after, _ = transform(before, FoldPad())
    assert ops(after) == ["Conv"]
    assert_same_numbers(before, after)


@pytest.mark.parametrize("own", ["", ", pads = [0, 0, 0, 0]", ", count_include_pad = 1, pads = [1, 0, 0, 1]"])
def test_into_average_pool(own: str) -> None:
    before = parse(text(f"AveragePool <kernel_shape = [4, 4], strides = [2, 1]{own}> (t)"), {"p": PADS})
    after, _ = transform(before, FoldPad())
    assert ops(after) == ["AveragePool"] and after.nodes[0].attrs["count_include_pad"] == 1
    assert_same_numbers(before, after)


@pytest.mark.parametrize("own", ["", ", pads = [1, 0, 0, 1]"])
def test_into_max_pool_when_it_adds_the_lowest_value(own: str) -> None:
    pool = f"MaxPool <kernel_shape = [4, 4], strides = [2, 1]{own}> (t)"
    before = parse(text(pool, "Pad(x, p, z)"), {"p": PADS, "z": np.float32(-np.inf)})
    after, _ = transform(before, FoldPad())
    assert ops(after) == ["MaxPool"]
    assert_same_numbers(before, after)


@pytest.mark.parametrize(
    "before",
    [
        "r = Relu(x)",
        "s = Sigmoid(x) r = MaxPool <kernel_shape = [1, 1]> (s)",
        "r = Clip(x, low, high)",
        "a = Abs(x) b = Relu(x) c = Concat <axis = 1> (a, b) r = Identity(c)",
    ],
)
def test_zeros_into_max_pool_when_no_element_is_below(before: str) -> None:
    body = text("MaxPool <kernel_shape = [3, 3], strides = [2, 2]> (t)", "Pad(r, p)", before)
    first = parse(body, {"p": PADS, "low": np.float32(0), "high": np.float32(6)})
    after, _ = transform(first, FoldPad())
    assert "Pad" not in ops(after)
    assert_same_numbers(first, after)


def test_zero_is_the_lowest_uint8() -> None:
    body = "g (uint8[1, 2, 7, 7] x) => (uint8[1, 2, P, Q] y) { t = Pad(x, p) y = MaxPool <kernel_shape = [3, 3]> (t) }"
    before = parse(body, {"p": PADS})
    after, _ = transform(before, FoldPad())
    assert ops(after) == ["MaxPool"]
    assert_same_numbers(before, after, [{"x": RNG.integers(0, 255, (1, 2, 7, 7), np.uint8)}])


POOL = "MaxPool <kernel_shape = [3, 3]> (t)"
CEIL = "MaxPool <kernel_shape = [3, 3], ceil_mode = 1> (t)"
DILATED = "MaxPool <kernel_shape = [3, 3], dilations = [2, 2]> (t)"
AVERAGE = "AveragePool <kernel_shape = [3, 3]> (t)"
AVERAGE_PADDED = "AveragePool <kernel_shape = [3, 3], pads = [1, 0, 0, 0]> (t)"
SAME = 'Conv <auto_pad = "SAME_UPPER"> (t, w)'
LOW = {"z": -np.inf}


@pytest.mark.parametrize(
    ("op", "pad", "constants", "reason"),
    [
        ("Conv(t, w)", 'Pad <mode = "reflect"> (x, p)', {}, "Pad 'n0_Pad' has mode reflect"),
        ("Conv(t, w)", "Pad(x, p, z)", {"z": 1}, "Pad 'n0_Pad' pads with 1, Conv with 0"),
        ("Conv(t, w)", "Pad(x, p)", {"p": [0, 0, 1, 0, 0, 0, -1, 0]}, "Pad 'n0_Pad' crops"),
        ("Conv(t, v)", "Pad(x, p)", {"p": [0, 1, 0, 0, 0, 1, 0, 0]}, "Pad 'n0_Pad' pads the batch or the channels"),
        ("Conv(t, v)", "Pad(x, p, , a)", {"p": [1, 1], "a": [1]}, "Pad 'n0_Pad' pads the batch or the channels"),
        (SAME, "Pad(x, p)", {}, "Conv 'n1_Conv' pads by itself (SAME_UPPER)"),
        (POOL, "Pad(x, p)", {}, "Pad 'n0_Pad' pads with 0, which may exceed the elements of 'x'"),
        (POOL, "Pad(x, p, z)", {"z": -1e30}, "Pad 'n0_Pad' pads with -1e+30, which may exceed the elements of 'x'"),
        (POOL, "Pad(x, q, z)", LOW, "MaxPool 'n1_MaxPool' would pad as much as its kernel or more"),
        (
            CEIL,
            "Pad(x, p, z)",
            LOW,
            "MaxPool 'n1_MaxPool' rounds its shape up, and leaves out windows that begin in its own padding",
        ),
        (DILATED, "Pad(x, p, z)", LOW, "MaxPool 'n1_MaxPool' has dilations"),
        (AVERAGE, "Pad(x, p, z)", LOW, "Pad 'n0_Pad' pads with -inf, AveragePool with 0"),
        (
            AVERAGE_PADDED,
            "Pad(x, p)",
            {"p": [0, 0, 1, 0, 0, 0, 0, 0]},
            "AveragePool 'n1_AveragePool' does not count the padding that it has",
        ),
    ],
)
def test_refuses(op: str, pad: str, constants: dict[str, object], reason: str) -> None:
    kinds = {"p": np.int64, "a": np.int64, "z": np.float32}
    values = {name: np.asarray(value, kinds[name]) for name, value in constants.items()}
    weights = {"w": normal(6, 4, 3, 3), "v": normal(6, 6, 3, 3)}
    model = parse(text(op, pad), {"p": PADS, "q": np.int64([0, 0, 3, 0, 0, 0, 0, 0]), **weights, **values})
    after, records = transform(model, FoldPad())
    assert ops(after) == ["Pad", op.split("(")[0].split()[0]]
    assert refusals(records) == [reason]


def test_refuses_computed_amounts_values_and_indices() -> None:
    body = "g (float[1, 4, 7, 7] x, int64[8] p, float z) => (float[1, 6, P, Q] y) { t = Pad(x, p, z) y = Conv(t, w) }"
    _, records = transform(parse(body, {"w": normal(6, 4, 3, 3)}), FoldPad())
    assert refusals(records) == ["Pad 'n0_Pad' has pads that are not constant"]
    body = body.replace(", int64[8] p", "")
    _, records = transform(parse(body, {"w": normal(6, 4, 3, 3), "p": PADS}), FoldPad())
    assert refusals(records) == ["padding value of Pad 'n0_Pad' is not a constant number"]
    body = text("MaxPool <kernel_shape = [3, 3]> (t)", "Pad(x, p, z)").replace("y = ", "y, i = ")
    _, records = transform(parse(body, {"p": PADS, "z": np.float32(-np.inf)}), FoldPad())
    assert refusals(records) == [
        "MaxPool 'n1_MaxPool' also gives indices, which would be those of the input before padding"
    ]


@pytest.mark.parametrize("before", ["r = LeakyRelu(x)", "r = Clip(x, low)", "a = Relu(x) r = Concat <axis = 1> (a, x)"])
def test_refuses_zeros_where_elements_may_be_below(before: str) -> None:
    body = text("MaxPool <kernel_shape = [3, 3]> (t)", "Pad(r, p)", before)
    _, records = transform(parse(body, {"p": PADS, "low": np.float32(-1)}), FoldPad())
    assert len(refusals(records)) == 1 and "pads with 0, which may exceed" in refusals(records)[0]


def test_refuses_a_pad_with_another_reader() -> None:
    body = """g (float[1, 4, 7, 7] x) => (float[1, 6, P, Q] y, float[1, 4, R, S] z) {
        t = Pad(x, p) y = Conv(t, w) z = Relu(t) }"""
    _, records = transform(parse(body, {"p": PADS, "w": normal(6, 4, 3, 3)}), FoldPad())
    assert refusals(records) == ["'t', output of Pad 'n0_Pad', is also used by 'n2_Relu'"]


def test_windows_of_nothing_but_padding_are_the_reason_for_the_kernel_limit() -> None:
    """With pads of kernel - 1 every window still holds one element, and the numbers agree."""
    body = text("MaxPool <kernel_shape = [3, 3]> (t)", "Pad(r, p)", "r = Relu(x)")
    before = parse(body, {"p": np.int64([0, 0, 2, 2, 0, 0, 2, 2])})
    after, _ = transform(before, FoldPad())
    assert ops(after) == ["Relu", "MaxPool"]
    feed = {"x": -np.abs(feed_for(before)["x"])}
    assert_same_numbers(before, after, [feed])
