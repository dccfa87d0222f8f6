"""importance: what an error in a channel does to the operators that read it, checked by making errors."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from qcompiler import ir
from qcompiler.passes.plan.importance import importance
from tests.graphs import run
from tests.small import graph, normal

F64 = npt.NDArray[np.float64]
UNEVEN = np.float32([0.01, 1, 10, 0.1])
CONSTANTS = {
    "full": normal(8, 4, 3, 3) * UNEVEN.reshape(1, 4, 1, 1),
    "each": normal(8, 1, 3, 3) * UNEVEN.repeat(2).reshape(8, 1, 1, 1),
    "up": normal(4, 5, 2, 2) * UNEVEN.reshape(4, 1, 1, 1),
    "rows": normal(6, 4) * UNEVEN,
    "columns": normal(4, 6) * UNEVEN[:, None],
    "factor": UNEVEN.reshape(1, 4, 1, 1),
    "flat": np.array([1, 4]),
}


def measured(model: ir.Model, shape: tuple[int, ...], axis: int) -> F64:
    """Squared error of the result for an error of one channel of the input at a time."""
    rng = np.random.default_rng(0)
    x = np.zeros(shape, np.float32)
    base, found = run(model, {"x": x})[0], []
    for channel in range(shape[axis]):
        off = x.copy()
        np.moveaxis(off, axis, 0)[channel] = rng.normal(size=np.moveaxis(off, axis, 0)[channel].shape)
        found.append(float(np.square(run(model, {"x": off})[0] - base).sum()))
    return np.array(found)


@pytest.mark.parametrize(
    ("body", "shape"),
    [
        ("y = Conv(x, full)", (1, 4, 40, 40)),
        ("y = Conv<group = 4>(x, each)", (1, 4, 40, 40)),
        ("y = ConvTranspose(x, up)", (1, 4, 40, 40)),
        ("t = Identity(x) u = Mul(t, factor) y = Conv(u, full)", (1, 4, 40, 40)),
        ("t = MatMul(x, columns) y = Relu(t)", (400, 4)),
        ("y = Gemm<transB = 1>(x, rows)", (400, 4)),
        ("t = Conv(x, full) u = Conv<group = 4>(x, each) y = Add(t, u)", (1, 4, 40, 40)),
        ("p = Concat<axis = 1>(x, x) y = Conv<group = 2>(p, full)", (1, 4, 40, 40)),
    ],
)
def test_predicts_the_error_of_the_reader(body: str, shape: tuple[int, ...]) -> None:
    sizes = ", ".join(map(str, shape))
    outputs = "float[N, M, P, Q] y" if len(shape) > 2 else "float[N, M] y"
    model = graph(body, inputs=f"float[{sizes}] x", outputs=outputs, constants=CONSTANTS)
    found = importance(model)["x"]
    assert found.axis == (1 if len(shape) > 2 else -1)
    error = measured(model, shape, found.axis)
    if "Relu" in body:
        error *= 2
    ratios = error / found.channels
    np.testing.assert_allclose(ratios / np.median(ratios), 1, rtol=0.35)


def test_a_pooled_vector_keeps_its_channels() -> None:
    body = "p = GlobalAveragePool(x) f = Reshape(p, flat) y = Gemm<transB = 1>(f, rows)"
    model = graph(body, outputs="float[N, M] y", constants=CONSTANTS)
    found = importance(model)
    assert (found["x"].axis, found["p"].axis, found["f"].axis) == (1, 1, -1)
    np.testing.assert_allclose(found["x"].channels, np.square(CONSTANTS["rows"], dtype=np.float64).sum(0))


@pytest.mark.parametrize(
    "body",
    [
        "t = Conv(a, full) s = Softmax<axis = 1>(a) y = Conv(s, full)",
        "y = Conv(x, full) z = Softmax(a)",
        "f = Reshape(a, long) y = MatMul(f, wide)",
        "t = Transpose<perm = [0, 2, 3, 1]>(a) y = MatMul(t, columns)",
        "y = Conv(a, same)",
        "w2 = Identity(full) y = Conv(a, w2)",
    ],
)
def test_nothing_is_said_where_a_reader_does_not_tell(body: str) -> None:
    more = {"long": np.array([1, -1]), "wide": normal(1024, 3), "same": np.ones((8, 4, 1, 1), np.float32)}
    model = graph(f"a = Identity(x) {body}", outputs="float[N] y", constants={**CONSTANTS, **more})
    assert "a" not in importance(model)


def test_outputs_say_nothing() -> None:
    outputs = "float[N, M, P, Q] y, float[N, M, P, Q] a"
    model = graph("a = Relu(x) y = Conv(a, full)", outputs=outputs, constants=CONSTANTS)
    assert importance(model) == {}
