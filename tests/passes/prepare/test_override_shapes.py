"""override-shapes: dynamic dimensions become numbers; what fits nothing is an error that says what there is."""

from __future__ import annotations

import numpy as np
import pytest

from qcompiler import ir
from qcompiler.errors import UsageError
from qcompiler.passes.prepare import OverrideShapes, parse_shape
from tests.graphs import assert_same_numbers, parse, transform

CHOICES = "inputs: x, z; dynamic dimensions: N, H, W, K"
TEXT = """g (float[N, 3, H, W] x, float[N, K] z) => (float[N, 3, H, W] y, float[N, K] v) {
    a = Relu(x) y = Neg(a) v = Exp(z) }"""


def shapes(model: ir.Model) -> dict[str, list[int | str | None] | None]:
    tensors = [*model.inputs, *(tensor for node in model.nodes for tensor in node.outputs)]
    return {tensor.name: tensor.shape for tensor in tensors}


def override(*texts: str) -> OverrideShapes:
    return OverrideShapes(tuple(parse_shape(text) for text in texts))


def test_a_named_dimension_is_fixed_everywhere() -> None:
    before = parse(TEXT)
    after, records = transform(before, override("N=4"))
    assert shapes(after) == {
        "x": [4, 3, "H", "W"], "z": [4, "K"], "a": [4, 3, "H", "W"], "y": [4, 3, "H", "W"], "v": [4, "K"],
    }  # fmt: skip
    assert records[0].changes == 2
    feed = {"x": np.ones((4, 3, 2, 2), np.float32), "z": np.ones((4, 5), np.float32)}
    assert_same_numbers(before, after, [feed])


def test_an_input_shape_binds_its_dimensions_for_the_others() -> None:
    after, _ = transform(parse(TEXT), override("x=2x3x8x?"))
    assert shapes(after)["a"] == [2, 3, 8, "W"]
    assert shapes(after)["z"] == [2, "K"]


def test_shapes_behind_arithmetic_follow() -> None:
    before = parse("g (float[N, 2, H] x) => (float[A, B] y) { f = Flatten(x) y = Concat <axis = 1> (f, f) }")
    after, _ = transform(before, override("x=4x2x5"))
    assert shapes(after) == {"x": [4, 2, 5], "f": [4, 10], "y": [4, 20]}


def test_where_inference_is_silent_the_stated_shape_stays_with_numbers() -> None:
    before = parse("g (float[N, 2] x, int64[2] s) => (float[A, B] y) { f = Reshape(x, s) y = Neg(f) }")
    f = before.nodes[0].outputs[0]
    next(ir.editors(before)).retype(f, np.dtype(np.float32), ["N", 2])
    after, _ = transform(before, override("N=3"))
    assert shapes(after)["f"] == [3, 2]


def test_nothing_to_override() -> None:
    _, records = transform(parse(TEXT), OverrideShapes())
    assert records[0].changes == 0


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["M=4"], f"--shape: 'M' is neither an input nor a dynamic dimension ({CHOICES})"),
        (["x=2x3"], "x: 2 dimensions given for an input with 4 (Nx3xHxW)"),
        (["x=2x4x8x8"], "x: dimension 1 is 3 in the model and cannot become 4"),
        (["x=2x3x8x8", "z=3x1"], "z: dimension 'N' is given as 2 and as 3"),
        (["N=2", "N=3"], "N: dimension 'N' is given as 2 and as 3"),
        (["N=2x2"], f"--shape: 'N' is neither an input nor a dynamic dimension ({CHOICES})"),
    ],
)  # fmt: skip
def test_errors(texts: list[str], message: str) -> None:
    with pytest.raises(UsageError) as error:
        transform(parse(TEXT), override(*texts))
    assert str(error.value) == message


@pytest.mark.parametrize("text", ["", "N", "N=", "=1", "N=0", "N=-1", "x=1x2x", "x=1.5", "x=axb", "N=1 "])
def test_text_that_is_no_shape(text: str) -> None:
    with pytest.raises(UsageError, match="is not a shape"):
        parse_shape(text)


def test_text_that_is_a_shape() -> None:
    assert parse_shape("batch=1") == ("batch", (1,))
    assert parse_shape("input=1x3x224X224") == ("input", (1, 3, 224, 224))
    assert parse_shape("a=b=?x2") == ("a=b", (0, 2))
