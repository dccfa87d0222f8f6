"""Outputs that are no tensors are judged by the numbers in them."""

from __future__ import annotations

import math

import numpy as np
import pytest

from qcompiler.analysis import SessionConfig
from qcompiler.analysis.ask import measure_for
from qcompiler.analysis.record import floats, power
from qcompiler.analysis.run import Runner
from qcompiler.data import Sample
from tests.graphs import parse

A, B = np.float32([1, 2]), np.float32([[3], [4]])


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (B, [[3], [4]]),
        ([A, B], [1, 2, 3, 4]),
        ([{1: 0.5, 0: 0.25}, {1: 2.0, 0: 1.0}], [0.25, 0.5, 1.0, 2.0]),
        ({"a": A}, [1, 2]),
        (np.int64([1]), None),
        ([np.int64([1]), "a"], None),
        ([], None),
        (None, None),
    ],
)
def test_numbers_of_an_output(value: object, expected: list[float] | None) -> None:
    found = floats(value)
    assert (None if found is None else found.tolist()) == expected


def test_a_sequence_that_lost_a_tensor_is_a_total_loss() -> None:
    wanted = floats([A, B])
    assert wanted is not None
    assert power(wanted, floats([A, B])) == (30.0, 0.0)
    assert power(wanted, floats([A])) == (30.0, math.inf)
    assert power(wanted, floats([])) == (30.0, math.inf)


def test_a_model_that_gives_a_sequence_alone_is_judged_by_it() -> None:
    model = parse("g (float[2, 2] x) => (seq(float) y) { h = Relu(x) y = SequenceConstruct(h, x) }")
    feed = {"x": np.float32([[1, -2], [3, 4]])}
    outputs = Runner(model, SessionConfig()).run(feed, sample="s")
    assert measure_for(None, outputs, Sample(feed, None, "s")).title == "lowest output SQNR [dB]"
    found = floats(outputs["y"])
    assert found is not None
    assert found.tolist() == [1, 0, 3, 4, 1, -2, 3, 4]
