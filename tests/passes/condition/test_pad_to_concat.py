"""Paddings with another constant than zero become Concat."""

from __future__ import annotations

import numpy as np
import pytest

from qcompiler.passes.condition.pad_to_concat import PadToConcat
from tests.graphs import assert_same_numbers, ops, parse, transform

ONE = np.float32(1)


@pytest.mark.parametrize(
    ("pads", "wanted"),
    [
        ([0, 0, 0, 0, 0, 1], ["Concat"]),
        ([0, 2, 0, 0, 0, 0], ["Concat"]),
        ([0, 1, 2, 0, 3, 1], ["Concat", "Concat"]),
        ([1, 1, 1, 1, 1, 1], ["Concat", "Concat", "Concat"]),
    ],
)
def test_each_axis(pads: list[int], wanted: list[str]) -> None:
    before = parse("g (float[2, 3, 4] x) => (float[A, B, C] y) { y = Pad(x, p, v) }", {"p": np.int64(pads), "v": ONE})
    after, records = transform(before, PadToConcat())
    assert ops(after) == wanted and records[0].changes == 1
    assert after.nodes[-1].name == before.nodes[0].name
    assert_same_numbers(before, after)


@pytest.mark.parametrize(
    ("text", "constants"),
    [
        ("y = Pad(x, p, v)", {"v": np.float32(0)}),
        ("y = Pad(x, p)", {}),
        ('y = Pad <mode = "edge"> (x, p, v)', {"v": ONE}),
        ("y = Pad(x, crop, v)", {"v": ONE}),
        ("y = Pad(x, none, v)", {"v": ONE}),
        ("y = Pad(x, last, v, axis)", {"v": ONE}),
        ("u = ReduceMax <keepdims = 0> (x) y = Pad(x, p, u)", {}),
    ],
)
def test_what_stays(text: str, constants: dict[str, np.ndarray]) -> None:
    numbers = {"p": [0, 0, 1, 0, 0, 1], "crop": [0, 0, 1, 0, 0, -1], "none": [0] * 6, "last": [0, 1], "axis": [-1]}
    given = {name: np.int64(values) for name, values in numbers.items()}
    before = parse(f"g (float[2, 3, 4] x) => (float[A, B, C] y) {{ {text} }}", {**given, **constants})
    after, records = transform(before, PadToConcat())
    assert "Pad" in ops(after) and records[0].changes == 0


def test_an_unknown_size_stays() -> None:
    before = parse(
        "g (float[N, 3, 4] x) => (float[A, B, C] y) { y = Pad(x, p, v) }",
        {"p": np.int64([0, 0, 0, 0, 0, 1]), "v": ONE},
    )
    assert transform(before, PadToConcat())[1][0].changes == 0
