"""min-max-to-clip, merge-clips, clip-to-relu: one form for every bound."""

from __future__ import annotations

import numpy as np
import pytest

from qcompiler.passes.fusion.clip_to_relu import ClipToRelu
from qcompiler.passes.fusion.merge_clips import MergeClips
from qcompiler.passes.fusion.min_max_to_clip import MinMaxToClip
from tests.graphs import assert_same_numbers, ops, parse, refusals, transform

RULES = (MinMaxToClip(), MergeClips(), ClipToRelu())


def numbers(**values: float) -> dict[str, np.ndarray]:
    return {name: np.array(value, np.float32) for name, value in values.items()}


@pytest.mark.parametrize(
    ("body", "constants", "wanted"),
    [
        ("y = Max(x, a)", {"a": -0.5}, ["Clip"]),
        ("y = Min(a, x)", {"a": [0.5]}, ["Clip"]),
        ("y = Max(x, a)", {"a": 0.0}, ["Relu"]),
        ("r = Relu(x) y = Min(r, a)", {"a": 0.6}, ["Clip"]),
        ("r = Min(x, b) y = Max(r, a)", {"a": 0.0, "b": 0.6}, ["Clip"]),
        ("r = Clip(x, a, b) y = Relu(r)", {"a": -0.3, "b": 0.6}, ["Clip"]),
        ("r = Clip(x, a, b) y = Clip(r, c)", {"a": -0.3, "b": 0.6, "c": 0.1}, ["Clip"]),
        ("r = Clip(x, a, b) y = Clip(r, c, d)", {"a": -1, "b": -0.5, "c": 0.1, "d": 0.2}, ["Clip"]),
        ("r = Relu(x) y = Relu(r)", {}, ["Relu"]),
        ("r = Relu(x) s = Clip(r, a) y = Relu(s)", {"a": -0.5}, ["Relu"]),
        ("y = Clip(x, a, b)", {"a": 0.0, "b": np.inf}, ["Relu"]),
        ("y = Clip(x, a, b)", {"a": 0.0, "b": np.finfo(np.float32).max}, ["Relu"]),
        ("y = Clip(x, a, b)", {"a": 0.0, "b": 6.0}, ["Clip"]),
    ],
)
def test_joins_bounds(body: str, constants: dict[str, float], wanted: list[str]) -> None:
    before = parse(f"g (float[N, 8] x) => (float[N, 8] y) {{ {body} }}", numbers(**constants))
    after, records = transform(before, *RULES)
    assert ops(after) == wanted
    assert refusals(records) == []
    assert_same_numbers(before, after, rtol=0, atol=0)


def test_a_bound_that_guards_a_division_stays() -> None:
    before = parse("g (float[N, 8] x) => (float[N, 8] y) { y = Clip(x, a) }", numbers(a=1e-12))
    after, _ = transform(before, *RULES)
    assert ops(after) == ["Clip"]
    assert_same_numbers(before, after, [{"x": np.zeros((1, 8), np.float32)}], rtol=0, atol=0)


def test_integers_are_left_alone() -> None:
    before = parse("g (int64[N] x) => (int64[N] y) { y = Max(x, a) }", {"a": np.array(1, np.int64)})
    after, records = transform(before, *RULES)
    assert ops(after) == ["Max"] and refusals(records) == []


def test_refuses_a_bound_per_channel() -> None:
    before = parse("g (float[N, 8] x) => (float[N, 8] y) { y = Max(x, a) }", {"a": np.arange(8, dtype=np.float32)})
    after, records = transform(before, MinMaxToClip())
    assert ops(after) == ["Max"]
    assert refusals(records) == ["constant 'a' of shape [8] may broaden 'x'"]


def test_refuses_a_bound_that_adds_a_dimension() -> None:
    before = parse("g (float[8] x) => (float[1, 8] y) { y = Max(x, a) }", {"a": np.zeros((1, 1), np.float32)})
    after, records = transform(before, MinMaxToClip())
    assert ops(after) == ["Max"]
    assert refusals(records) == ["constant 'a' of shape [1, 1] may broaden 'x'"]


def test_refuses_a_computed_bound() -> None:
    text = "g (float[N, 8] x, float a) => (float[N, 8] y) { r = Relu(x) y = Clip(r, , a) }"
    after, records = transform(parse(text), MergeClips())
    assert ops(after) == ["Relu", "Clip"]
    assert refusals(records) == ["a bound of Clip 'n1_Clip' is not constant"]


def test_refuses_an_inner_bound_with_another_reader() -> None:
    text = "g (float[N, 8] x) => (float[N, 8] y, float[N, 8] z) { r = Relu(x) y = Clip(r, , a) z = Exp(r) }"
    after, records = transform(parse(text, numbers(a=1.0)), MergeClips())
    assert ops(after) == ["Relu", "Clip", "Exp"]
    assert refusals(records) == ["'r', output of Relu 'n0_Relu', is also used by 'n2_Exp'"]
