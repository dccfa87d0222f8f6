from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from qcompiler import ir
from qcompiler.analysis.finite_weights import STEP, check_weights
from qcompiler.errors import ModelError
from qcompiler.frontend import front
from tests.graphs import parse

NAN, INF = float("nan"), float("inf")


def with_value(value: float, shape: tuple[int, ...] = (3, 3), dtype: type = np.float32) -> np.ndarray:
    """Ones, and `value` in the last place but one."""
    values = np.ones(shape, dtype)
    values.reshape(-1)[-2] = value
    return values


REFUSED = {
    "weight NaN": ("MatMul(x, w)", NAN, "weight 'w' of MatMul 'n' holds nan at [2, 1]"),
    "weight infinite": ("MatMul(x, w)", INF, "weight 'w' of MatMul 'n' holds inf at [2, 1]"),
    "left operand": ("MatMul(w, x)", -INF, "weight 'w' of MatMul 'n' holds -inf at [2, 1]"),
    "bias NaN": ("Add(x, w)", NAN, "weight 'w' of Add 'n' holds nan at [2, 1]"),
    "both": ("Gemm(x, x, w)", NAN, "weight 'w' of Gemm 'n' holds nan at [2, 1]"),
}
KEPT = {
    "mask": ("Add(x, w)", -INF),
    "bias that rules a class out": ("Gemm(x, x, w)", -INF),
    "end of a Clip": ("Max(x, w)", INF),
    "chosen from": ("Where(mask, x, w)", NAN),
    "table": ("Gather(w, rows)", NAN),
}
GRAPH = "g (float[3, 3] x, bool[3, 3] mask, int64[2] rows, float[3, 3] w) => (float[a, b] y) {{ [n] y = {} }}"


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    expression, value, message = REFUSED[name]
    model = parse(GRAPH.format(expression), {"w": with_value(value)})
    with pytest.raises(ModelError) as found:
        check_weights(model, "m.onnx")
    assert str(found.value) == f"m.onnx: {message} (its training diverged, or the file was damaged)"


@pytest.mark.parametrize("name", KEPT)
def test_kept(name: str) -> None:
    expression, value = KEPT[name]
    check_weights(parse(GRAPH.format(expression), {"w": with_value(value)}), "m.onnx")


def test_bfloat16_and_the_last_of_many() -> None:
    text = "g (bfloat16[3, 3] x, bfloat16[3, 3] w) => (bfloat16[a, b] y) { [n] y = MatMul(x, w) }"
    with pytest.raises(ModelError, match="holds nan"):
        check_weights(parse(text, {"w": with_value(NAN, dtype=ml_dtypes.bfloat16)}), "m.onnx")
    text = f"g (float[1, 2] x, float[2, {STEP}] w) => (float[a, b] y) {{ [n] y = MatMul(x, w) }}"
    with pytest.raises(ModelError, match=rf"holds nan at \[1, {STEP - 2}\]"):
        check_weights(parse(text, {"w": with_value(NAN, (2, STEP))}), "m.onnx")


def test_before_any_weight_is_changed(tmp_path: Path) -> None:
    """Named as in the file, though the normalization would be folded into the convolution."""
    weights = {name: np.ones(3, np.float32) for name in "sbm"}
    model = parse(
        "g (float[1, 3, 4, 4] x, float[3, 3, 1, 1] w, float[3] s, float[3] b, float[3] m, float[3] v)"
        " => (float[a, b, c, d] y)"
        " { t = Identity(w) c = Conv(x, t) [norm] y = BatchNormalization(c, s, b, m, v) }",
        {**weights, "w": np.ones((3, 3, 1, 1), np.float32), "v": with_value(NAN, (3,))},
    )
    ir.save(model, tmp_path / "m.onnx")
    with pytest.raises(ModelError, match="weight 'v' of BatchNormalization 'norm' holds nan"):
        front(tmp_path / "m.onnx")
