"""merge-branches: what reads one input and is added becomes one convolution."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, event, given, settings
from hypothesis import strategies as st

from qcompiler.passes.fusion import LINEAR_RULES
from qcompiler.passes.fusion.merge_branches import CLEAN, MergeBranches
from qcompiler.pipeline import Pipeline
from tests.graphs import assert_same_numbers, ops, parse, refusals, transform

RNG = np.random.default_rng(53)
SAME, POINT = "pads = [1, 1, 1, 1]", "pads = [0, 0, 0, 0]"


def normal(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


def text(body: str) -> str:
    return f"g (float[N, 4, 9, 9] x) => (float[N, C, P, Q] y) {{ {body} }}"


@pytest.mark.parametrize("op", ["Add(a, d)", "Sub(a, d)", "Sub(d, a)"])
@pytest.mark.parametrize(
    ("first", "second", "kernels"),
    [
        (SAME, POINT, (3, 1)),
        (POINT, "pads = [2, 2, 2, 2]", (1, 5)),
        (SAME, SAME, (3, 3)),
        ("pads = [2, 2, 2, 2], dilations = [2, 2]", "", (3, 1)),
        (f"{SAME}, strides = [2, 2]", f"{POINT}, strides = [2, 2]", (3, 1)),
        (f"{SAME}, group = 2", f"{POINT}, group = 2", (3, 1)),
    ],
)
def test_two_convolutions(op: str, first: str, second: str, kernels: tuple[int, int]) -> None:
    channels = 2 if "group" in first else 4
    weights = {"w": normal(6, channels, kernels[0], kernels[0]), "v": normal(6, channels, kernels[1], kernels[1])}
    attrs = [f" <{text}> " if text else "" for text in (first, second)]
    before = parse(text(f"a = Conv{attrs[0]}(x, w, b) d = Conv{attrs[1]}(x, v) y = {op}"), {**weights, "b": normal(6)})
    after, records = transform(before, MergeBranches())
    assert ops(after) == ["Conv"] and records[0].changes == 1
    assert max(kernels) == after.nodes[0].inputs[1].shape[-1]
    assert_same_numbers(before, after)


KERNELS, STEPS, PADS = st.tuples(*[st.integers(1, 3)] * 2), st.tuples(*[st.integers(1, 3)] * 2), st.integers(0, 2)


@settings(max_examples=60, deadline=None)
@given(KERNELS, STEPS, PADS, PADS, PADS, st.integers(1, 2))
def test_no_placement_changes_a_number(
    kernels: tuple[int, int], steps: tuple[int, int], first: int, end: int, second: int, stride: int
) -> None:
    """Kernels and dilations, zeros in front and behind: those of the second end where its result has the same size."""
    reach = [(kernel - 1) * step for kernel, step in zip(kernels, steps, strict=True)]
    rest = first + end - reach[0] - second + reach[1]
    assume(rest >= 0)
    attrs = [
        f"pads = [{b}, {b}, {e}, {e}], dilations = [{d}, {d}], strides = [{stride}, {stride}]"
        for b, e, d in ((first, end, steps[0]), (second, rest, steps[1]))
    ]
    before = parse(
        text(f"a = Conv <{attrs[0]}> (x, w) d = Conv <{attrs[1]}> (x, v, b) y = Add(a, d)"),
        {"w": normal(3, 4, *[kernels[0]] * 2), "v": normal(3, 4, *[kernels[1]] * 2), "b": normal(3)},
    )
    after, records = transform(before, MergeBranches())
    event(ops(after)[-1])
    assert ops(after) == ["Conv"] or "do not fall on each other" in refusals(records)[0]
    assert_same_numbers(before, after)


@pytest.mark.parametrize("scale", [None, np.float32(0.5), normal(4, 1, 1), normal(1, 4, 1, 1)])
@pytest.mark.parametrize("op", ["Add(a, {})", "Add({}, a)", "Sub(a, {})", "Sub({}, a)"])
@pytest.mark.parametrize("attrs", [f"{SAME}, group = 4", f"{SAME}, group = 2", "pads = [0, 0, 2, 2], group = 4"])
def test_a_shortcut(op: str, attrs: str, scale: np.ndarray | None) -> None:
    name, made, constants = ("x", "", {}) if scale is None else ("d", "d = Mul(s, x)", {"s": scale})
    width = 2 if "group = 2" in attrs else 1
    before = parse(
        text(f"a = Conv <{attrs}> (x, w, b) {made} y = {op.format(name)}"),
        {"w": normal(4, width, 3, 3), "b": normal(4), **constants},
    )
    after, records = transform(before, MergeBranches())
    stays = scale is None and width > 1
    assert ops(after) == (["Conv", op[:3]] if stays else ["Conv"]) and not refusals(records)
    assert_same_numbers(before, after)


def test_a_block_as_it_was_trained_is_one_convolution() -> None:
    """RepVGG: 3 x 3, 1 x 1 and the input itself, each with its BatchNormalization."""
    norm = {f"{name}{i}": np.abs(normal(4)) + 0.5 for i in range(3) for name in "gtmv"}
    before = parse(
        text(
            f"""a = Conv <{SAME}> (x, w) an = BatchNormalization(a, g0, t0, m0, v0)
            d = Conv(x, p) dn = BatchNormalization(d, g1, t1, m1, v1)
            i = BatchNormalization(x, g2, t2, m2, v2)
            s = Add(an, dn) r = Add(s, i) y = Relu(r)"""
        ),
        {"w": normal(4, 4, 3, 3), "p": normal(4, 4, 1, 1), **norm},
    )
    after, pipeline = before.copy(), Pipeline()
    pipeline.fixpoint(after, LINEAR_RULES)
    assert ops(after) == ["Conv", "Relu"]
    assert_same_numbers(before, after)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (f'a = Conv <{SAME}> (x, w) d = Conv <auto_pad = "SAME_UPPER"> (x, v) y = Add(a, d)', "pads by itself"),
        (f"a = Conv <{SAME}, group = 2> (x, u) d = Conv(x, v) y = Add(a, d)", "other types or channels"),
        (f"a = Conv <{SAME}, group = 2> (x, u) d = Conv(x, e) y = Add(a, d)", "have other group"),
        ("a = Conv <pads = [0, 1, 0, 1]> (x, h) d = Conv <pads = [1, 0, 1, 0]> (x, l) y = Add(a, d)", "do not fall"),
        (f"a = Conv <{SAME}> (x, w) d = Mul(x, spread) y = Add(a, d)", "varies over more than channels"),
        (f"a = Conv <{SAME}> (x, w) d = Div(big, x) y = Add(a, d)", "not linear"),
        (f"a = Conv <{SAME}> (x, one) d = Mul(x, big) y = Add(a, d)", "does not give as many channels"),
        ("a = Conv <pads = [1, 1, 3, 3], dilations = [2, 2]> (x, w) d = Mul(x, big) y = Add(a, d)", "no tap"),
        ("a = Conv <strides = [2, 2], pads = [5, 5, 5, 5]> (x, w) d = Mul(x, big) y = Add(a, d)", "has strides"),
        ("a = Conv(x, w) d = MaxPool <kernel_shape = [3, 3]> (x) y = Add(a, d)", None),
    ],
)
def test_refusals(body: str, reason: str | None) -> None:
    weights = {"w": normal(4, 4, 3, 3), "v": normal(4, 4, 1, 1), "u": normal(4, 2, 3, 3), "h": normal(4, 4, 1, 3)}
    weights |= {"l": normal(4, 4, 3, 1), "big": np.float32(1e4), "spread": normal(9, 1), "one": normal(1, 4, 3, 3)}
    before = parse(text(body), {**weights, "e": normal(4, 2, 1, 1)})
    after, records = transform(before, MergeBranches())
    assert ops(after) == ops(before)
    assert [reason in found for found in refusals(records)] == [True] if reason else not refusals(records)


def test_a_result_that_others_read_stays() -> None:
    before = parse(
        "g (float[N, 4, 9, 9] x) => (float[N, 4, P, Q] y, float[N, 4, P, Q] a)"
        f"{{ a = Conv <{SAME}> (x, w) d = Conv(x, v) y = Add(a, d) }}",
        {"w": normal(4, 4, 3, 3), "v": normal(4, 4, 1, 1)},
    )
    after, records = transform(before, MergeBranches())
    assert ops(after) == ["Conv", "Conv", "Add"]
    assert "is a graph output" in refusals(records)[0]


@given(st.floats(0.0, 4.0))
@settings(max_examples=20, deadline=None)
def test_a_shortcut_stays_where_8_bits_would_not_hold_it(scale: float) -> None:
    """Rounded to 8 bits by channel, what was merged is within a few dB of what the rule predicts."""
    weight = np.random.default_rng(5).normal(0, 0.02, (64, 64, 3, 3)).astype(np.float32)
    before = parse(
        f"g (float[N, 64, 5, 5] x) => (float[N, 64, P, Q] y){{ a = Conv <{SAME}> (x, w) d = Mul(x, s) y = Add(a, d) }}",
        {"w": weight, "s": np.float32(scale)},
    )
    after, records = transform(before, MergeBranches())
    merged = weight.astype(np.float64)
    merged[np.arange(64), np.arange(64), 1, 1] += np.float32(scale)
    step = np.abs(merged).max((1, 2, 3), keepdims=True) / 127
    error = np.rint(merged / step) * step - merged
    ratio = 10 * np.log10(np.square(merged).sum() / np.square(error).sum())
    event("stays" if refusals(records) else "merged")
    assert abs(ratio - CLEAN) < 1 or (ops(after) == ["Conv"]) == (ratio > CLEAN)
    assert not refusals(records) or "dB only" in refusals(records)[0]
