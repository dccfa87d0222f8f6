"""gather-nd-to-gather: GatherND by single numbers becomes Gather."""

from __future__ import annotations

import numpy as np
import pytest

from qcompiler.passes.prepare import GatherNDToGather
from tests.graphs import assert_same_numbers, ops, parse, transform

TABLE = np.arange(24, dtype=np.float32).reshape(4, 3, 2)
CHOSEN = {"i": np.array([3, 0, -1])}


def test_the_axis_that_unsqueeze_added_goes() -> None:
    text = """g (float[1] x) => (float[3, 3, 2] y) <int64[1] last = {1}> {
        u = Unsqueeze(i, last) t = GatherND <batch_dims = 0> (w, u) y = Add(t, x) }"""
    before = parse(text, {"w": TABLE, **CHOSEN})
    after, (record,) = transform(before, GatherNDToGather())
    (gather,) = (node for node in after.nodes if node.op == "Gather")
    assert gather.inputs[1].name == "i" and gather.name == before.nodes[1].name
    assert record.changes == 1
    assert_same_numbers(before, after, rtol=0, atol=0)


@pytest.mark.parametrize("shape", [(3, 1), (1, 3, 1), (1,)])
def test_other_indices_are_squeezed(shape: tuple[int, ...]) -> None:
    indices = CHOSEN["i"][-int(np.prod(shape)) :].reshape(shape)
    form = ", ".join(map(str, (*shape[:-1], 3, 2)))
    text = f"g (float[1] x) => (float[{form}] y) {{ t = GatherND(w, i) y = Add(t, x) }}"
    before = parse(text, {"w": TABLE, "i": indices})
    after, _ = transform(before, GatherNDToGather())
    assert sorted(ops(after)) == ["Add", "Gather", "Squeeze"]
    assert_same_numbers(before, after, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("node", "indices"),
    [("GatherND(w, i)", [[1, 2], [3, 0]]), ("GatherND <batch_dims = 1> (w, i)", [[0], [1], [2], [0]])],
)
def test_others_stay(node: str, indices: list[list[int]]) -> None:
    before = parse(f"g (float[1] x) => (float[A, B] y) {{ t = {node} y = Add(t, x) }}",
                   {"w": TABLE, "i": np.array(indices)})  # fmt: skip
    _, (record,) = transform(before, GatherNDToGather())
    assert record.changes == 0
