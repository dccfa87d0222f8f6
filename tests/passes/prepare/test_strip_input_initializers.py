"""strip-input-initializers: what has a value is no input."""

from __future__ import annotations

import numpy as np
import onnx

from qcompiler import ir
from qcompiler.passes.prepare import StripInputInitializers
from tests.graphs import assert_same_numbers, transform

TEXT = """<ir_version: {ir_version}, opset_import: ["" : 21]>
g (float[2] x, float[2] w, float[2] b) => (float[2] y) <float[2] w = {{1, 2}}, float[2] b = {{3, 4}}> {{
    [mul] m = Mul(x, w) [add] y = Add(m, b) }}"""


def model(ir_version: int) -> ir.Model:
    return ir.Model.from_proto(onnx.parser.parse_model(TEXT.format(ir_version=ir_version)))


def test_strips_and_says_which() -> None:
    before = model(10)
    after, records = transform(before, StripInputInitializers())
    assert [info.name for info in after.to_proto().graph.input] == ["x"]
    assert [tensor.name for tensor in after.to_proto().graph.initializer] == ["w", "b"]
    assert records[0].changes == 2
    assert records[0].notes == ["initializers listed as inputs are constants now: 'w', 'b'"]
    assert_same_numbers(before, after, [{"x": np.array([1, 2], np.float32)}])


def test_where_the_ir_version_demands_the_listing_there_is_nothing_to_say() -> None:
    after, records = transform(model(3), StripInputInitializers())
    assert records[0].notes == []
    assert records[0].changes == 2
    assert after.header.ir_version == 4
    onnx.checker.check_model(after.to_proto())
