"""reduce-mean-to-pool: a mean over all spatial axes is a pool, any other mean is not."""

from __future__ import annotations

import numpy as np
import pytest

from qcompiler.passes.prepare import ReduceMeanToPool
from tests.graphs import assert_same_numbers, ops, parse, refusals, transform


@pytest.mark.parametrize("axes", [[2, 3], [3, 2], [-1, -2], [2, -1]])
@pytest.mark.parametrize("keepdims", [0, 1])
def test_rewrites(axes: list[int], keepdims: int) -> None:
    text = f"""g (float[N, 3, 4, 5] x) => (float[{"A, B, C, D" if keepdims else "A, B"}] y) {{
        m = ReduceMean <keepdims = {keepdims}> (x, axes) y = Relu(m) }}"""
    before = parse(text, {"axes": np.array(axes)})
    after, records = transform(before, ReduceMeanToPool())
    assert ops(after) == ["GlobalAveragePool", *([] if keepdims else ["Flatten"]), "Relu"]
    assert records[0].changes == 1
    assert_same_numbers(before, after)


def test_rewrites_the_older_form_and_three_spatial_axes() -> None:
    text = "g (float[N, 3, 4, 5, 2] x) => (float[A, B, C, D, E] y) { y = ReduceMean <axes = [2, 3, 4]> (x) }"
    before = parse(text, opset=17)
    after, _ = transform(before, ReduceMeanToPool())
    assert ops(after) == ["GlobalAveragePool"]
    assert [tensor.name for tensor in after.outputs] == ["y"]
    assert_same_numbers(before, after)


@pytest.mark.parametrize(
    ("inputs", "node", "axes", "reason"),
    [
        ("float[N, 3, 4, 5] x", "(x, axes)", [2], "axes [2] of {} are not all spatial axes of rank 4"),
        ("float[N, 3, 4, 5] x", "(x, axes)", [1, 2, 3], "axes [1, 2, 3] of {} are not all spatial axes of rank 4"),
        ("float[N, 3, 4, 5] x", "(x)", None, "axes [] of {} are not all spatial axes of rank 4"),
        ("float[N, 3, 4] x", "(x, axes)", [-1], "axes [-1] of {} are not all spatial axes of rank 3"),
        ("double[N, 3, 4, 5] x", "(x, axes)", [2, 3], "'x', input of {}, is float64, not float32"),
        ("float[N, 3, 4, 5] x, int64[2] axes", "(x, axes)", None, "axes 'axes' of {} are not constant"),
    ],
)
def test_refuses(inputs: str, node: str, axes: list[int] | None, reason: str) -> None:
    kind = inputs.partition("[")[0]
    text = f"g ({inputs}) => ({kind} y) {{ m = ReduceMean {node} y = ReduceMax <keepdims = 0> (m) }}"
    after, records = transform(parse(text, {} if axes is None else {"axes": np.array(axes)}), ReduceMeanToPool())
    assert ops(after) == ["ReduceMean", "ReduceMax"]
    assert refusals(records) == [reason.format("ReduceMean 'n0_ReduceMean'")]


def test_refuses_an_unknown_rank() -> None:
    text = """g (float[N, 3, 4, 5] x, int64[K] s) => (float y) {
        r = Reshape(x, s) m = ReduceMean(r, axes) y = ReduceMax <keepdims = 0> (m) }"""
    _, records = transform(parse(text, {"axes": np.array([2, 3])}), ReduceMeanToPool())
    assert refusals(records) == ["the rank of 'r', input of ReduceMean 'n1_ReduceMean', is unknown"]
