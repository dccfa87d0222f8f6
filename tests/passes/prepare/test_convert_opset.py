"""convert-opset: every operator means in the new opset what it meant in the old one, or the opset stays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from qcompiler import ir
from qcompiler.passes.prepare import ConvertOpset, EliminateDead, InferShapes, NameEverything
from qcompiler.pipeline import PassRecord
from tests.graphs import assert_same_numbers, ops, parse, transform

IMAGE = "g (float[1, 2, 4, 4] x) => (float[A, B, C, D] y)"
MATRIX = "g (float[2, 3, 4] x) => (float[A, B, C] y)"
OPEN = "g (float[N, 3, M] x) => (float[N, 3, M] y)"
SEQUENCE = "g (float[2, 1, 3] x) => (float[A, B, C, D] y)"
QDQ = "QuantizeLinear DequantizeLinear"
WEIGHT = {"w": np.arange(12, dtype=np.float32).reshape(3, 4)}
GRID = np.linspace(-1, 1, 16, dtype=np.float32).reshape(1, 4, 2, 2)
LSTM = {"w": np.full((1, 8, 3), 0.3, np.float32), "r": np.full((1, 8, 2), -0.2, np.float32)}
SCALES = {"s": np.array([1, 1, 2, 2], np.float32)}
FRACTION = {"s": np.array([1, 1, 1.6, 1.6], np.float32)}
SHRINK = {"s": np.array([1, 1, 0.6, 0.6], np.float32)}
NORM = {name: np.array([1, 2, 3], np.float32) for name in ("s", "b", "m", "v")}
QUANT = {"s": np.array([0.1, 0.2, 0.3], np.float32), "z": np.array([3, 4, 5], np.uint8)}


def model(opset: int, text: str, constants: dict[str, np.ndarray] | None = None) -> ir.Model:
    return parse(f'<ir_version: 8, opset_import: ["" : {opset}, "com.microsoft" : 1]>\n{text}', constants)


def convert(before: ir.Model, target: int = 21) -> tuple[ir.Model, PassRecord]:
    after, records = transform(before, NameEverything(), EliminateDead(), InferShapes(), ConvertOpset(target))
    return after, records[-1]


CASES = [
    (7, f"{MATRIX} {{ y = Clip <min = -0.5, max = 0.5> (x) }}", {}, "Clip"),
    (7, f"{MATRIX} {{ y = Clip <max = 0.5> (x) }}", {}, "Clip"),
    (8, f"{MATRIX} {{ y = Softmax(x) }}", {}, "Shape Flatten Softmax Reshape"),
    (11, f"{MATRIX} {{ y = Softmax <axis = -1> (x) }}", {}, "Softmax"),
    (11, f"{OPEN} {{ y = LogSoftmax <axis = 1> (x) }}", {}, "Shape Flatten LogSoftmax Reshape"),
    (11, f"{MATRIX} {{ y = Hardmax <axis = 2> (x) }}", {}, "Hardmax"),
    (9, f"{MATRIX} {{ y = Pad <pads = [0, 1, 1, 0, 0, 2], value = 1.5> (x) }}", {}, "Pad"),
    (9, f"{MATRIX} {{ y = Slice <starts = [1, -2], ends = [3, 100], axes = [0, 1]> (x) }}", {}, "Slice"),
    (9, f"{MATRIX} {{ y, i = TopK <k = 2, axis = 1> (x) z = Identity(i) }}", {}, "TopK"),
    (11, f"{MATRIX} {{ a = Unsqueeze <axes = [0, -1]> (x) y = Squeeze <axes = [0, 4]> (a) }}", {}, "Unsqueeze Squeeze"),
    (11, f"{MATRIX} {{ a, b = Split <axis = 2, split = [1, 3]> (x) y = Sub(b, a) }}", {}, "Split Sub"),
    (13, f"{MATRIX} {{ a, b = Split <axis = 2> (x) y = Sub(b, a) }}", {}, "Split Sub"),
    (9, f"{MATRIX} {{ y = Dropout <ratio = 0.3> (x) }}", {}, "Dropout"),
    (8, f"{MATRIX} {{ y = BatchNormalization <epsilon = 0.1> (x, s, b, m, v) }}", NORM, "BatchNormalization"),
    (14, f"{MATRIX} {{ y = BatchNormalization(x, s, b, m, v) }}", NORM, "BatchNormalization"),
    (8, f'{IMAGE} {{ y = Upsample <mode = "nearest", scales = [1.0, 1.0, 2.0, 2.0]> (x) }}', {}, "Resize"),
    (9, f'{IMAGE} {{ y = Upsample <mode = "linear"> (x, s) }}', SCALES, "Resize"),
    (9, f'{IMAGE} {{ y = Upsample <mode = "nearest"> (x, s) }}', FRACTION, "Resize"),
    (10, f'{IMAGE} {{ y = Resize <mode = "linear"> (x, s) }}', FRACTION, "Resize"),
    (10, f'{IMAGE} {{ y = Resize <mode = "linear"> (x, s) }}', SHRINK, "Resize"),
    (10, f'{IMAGE} {{ y = Resize <mode = "nearest"> (x, s) }}', FRACTION, "Resize"),
    (10, f'{IMAGE} {{ y = Resize <mode = "nearest"> (x, s) }}', SHRINK, "Resize"),
    (13, f'{IMAGE} {{ y = Resize <mode = "cubic", cubic_coeff_a = -0.5> (x, , s) }}', SCALES, "Resize"),
    (11, f"{MATRIX} {{ y = ReduceMean <axes = [1]> (x) }}", {}, "ReduceMean"),
    (17, f"{MATRIX} {{ y = ReduceL2 <axes = [-1, 0]> (x) }}", {}, "ReduceL2"),
    (12, "g (double[2, 3] x) => (double[A] y) { y = ReduceSum <axes = [0], keepdims = 0> (x) }", {}, "ReduceSum"),
    (17, f"{MATRIX} {{ y = ReduceMax(x) }}", {}, "ReduceMax"),
    (9, "g (float[2, 3] x, float[4] b) => (float[2, 4] y) { y = Gemm <alpha = 0.5> (x, w, b) }", WEIGHT, "Gemm"),
    (10, f"{IMAGE} {{ y = AveragePool <kernel_shape = [3, 3], ceil_mode = 1> (x) }}", {}, "AveragePool"),
    (8, f"{IMAGE} {{ y = MaxPool <kernel_shape = [2, 2]> (x) }}", {}, "MaxPool"),
    (16, f'{IMAGE} {{ y = GridSample <mode = "bicubic"> (x, k) }}', {"k": GRID}, "GridSample"),
    (13, f"{MATRIX} {{ q = QuantizeLinear(x, s, z) y = DequantizeLinear(q, s, z) }}", QUANT, QDQ),
    (17, f"{SEQUENCE} {{ y = LSTM <hidden_size = 2> (x, w, r) }}", LSTM, "LSTM"),
    (15, f"{MATRIX} {{ a = com.microsoft.Gelu(x) y = ReduceSum(a, k) }}", {"k": np.array([1])}, "Gelu ReduceSum"),
]


@pytest.mark.parametrize(("opset", "text", "constants", "wanted"), CASES)
def test_same_numbers(opset: int, text: str, constants: dict[str, np.ndarray], wanted: str) -> None:
    before = model(opset, text, constants)
    after, record = convert(before)
    assert after.opset == 21
    assert after.header.ir_version == 10
    assert ops(after) == wanted.split()
    assert record.notes == [f"opset {opset} converted to 21"]
    assert_same_numbers(before, after)


@pytest.mark.parametrize(
    ("opset", "text", "constants", "reached", "note"),
    [
        (
            11, f"{MATRIX} {{ y = Hardmax(x) }}", {}, 12,
            "opset 11 converted to 12, not 21: Hardmax 'n0_Hardmax' has no form in opset 13 "
            "(it works on several axes at once, from 1 on)",
        ),
        (
            10, "g (float[1, 2, 4, 4] x, float[4] s) => (float[A, B, C, D] y) { y = Resize(x, s) }", {}, 10,
            "opset 10 kept: Resize 'n0_Resize' has no form in opset 11 "
            "(its scales are not constant, and whether it enlarges decides how it rounds)",
        ),
        (
            10, f"{IMAGE} {{ y = Resize(x, s) }}", {"s": np.array([1, 1, 2, 0.5], np.float32)}, 10,
            "opset 10 kept: Resize 'n0_Resize' has no form in opset 11 "
            "(it enlarges one axis and shrinks another, which no rounding rule serves)",
        ),
        (
            10, "g (float[2, 3] x) => (float[2, 3] y, bool[2, 3] m) { y, m = Dropout(x) }", {}, 11,
            "opset 10 converted to 11, not 21: Dropout 'n0_Dropout' has no form in opset 12 (its mask is used)",
        ),
    ],
)  # fmt: skip
def test_goes_as_far_as_it_can(
    opset: int, text: str, constants: dict[str, np.ndarray], reached: int, note: str
) -> None:
    before = model(opset, text, constants)
    after, record = convert(before)
    assert after.opset == reached
    assert record.notes == [note]
    if not before.inputs[1:]:
        assert_same_numbers(before, after)


def test_group_normalization_with_a_scale_per_group_stays() -> None:
    text = (
        "g (float[1, 4, 2] x, float[2] s) => (float[1, 4, 2] y) { y = GroupNormalization <num_groups = 2> (x, s, s) }"
    )
    # the checker calls the operator deprecated in these opsets
    before = ir.Model.from_proto(onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 18]>\n{text}'))
    ConvertOpset().apply(before, record := PassRecord("convert-opset"))
    assert before.opset == 18
    assert record.notes[0].startswith("opset 18 kept: GroupNormalization '' has no form in opset 19 (")


def test_clip_limits_get_the_type_of_the_input() -> None:
    before = model(7, "g (double[2] x) => (double[2] y) { y = Clip <min = -0.5> (x) }")
    after, _ = convert(before)
    assert after.nodes[0].inputs[1].dtype == np.float64


def test_converts_subgraphs_and_keeps_everything_else() -> None:
    text = """<ir_version: 8, opset_import: ["" : 11], producer_name: "maker", doc_string: "what it is">
    g (bool c, float[2, 3] x) => (float[A, B] y) {
        y = If (c) <then_branch = t () => (float[A, B] r) { u = ReduceSum <axes = [1]> (x) r = Softmax <axis = 1> (u) },
                    else_branch = e () => (float[A, B] s) { s = Unsqueeze <axes = [0]> (h) }>
        h = ReduceMax <axes = [1], keepdims = 0> (x) }"""
    proto = onnx.parser.parse_model(text.replace("h = Red", "k = Red").replace("(h)", "(k)"))
    # nodes in order, with documentation and metadata on the one that will change
    proto.graph.node.insert(0, proto.graph.node.pop())
    proto.graph.node[0].name, proto.graph.node[0].doc_string = "max", "the largest"
    helper.set_model_props(proto, {"author": "somebody"})
    before = ir.Model.from_proto(proto)
    after, record = convert(before)
    assert [node.op for node in after.all_nodes()] == ["ReduceMax", "If", "ReduceSum", "Softmax", "Unsqueeze"]
    assert after.opset == 21
    assert record.changes == 1 + 4
    result = after.to_proto()
    assert (result.producer_name, result.doc_string) == ("maker", "what it is")
    assert [(p.key, p.value) for p in result.metadata_props] == [("author", "somebody")]
    assert (result.graph.node[0].name, result.graph.node[0].doc_string) == ("max", "the largest")
    x = np.array([[1, 2, 3], [4, 5, 7]], np.float32)
    assert_same_numbers(before, after, [{"c": np.array(flag), "x": x} for flag in (True, False)])


def test_newer_models_stay() -> None:
    before = parse("g (float[2] x) => (float[2] y) { y = Relu(x) }", opset=22)
    after, record = convert(before)
    assert (after.opset, record.changes, record.notes) == (22, 0, [])


def test_another_target() -> None:
    after, record = convert(model(11, f"{MATRIX} {{ y = ReduceSum <axes = [1]> (x) }}"), target=13)
    assert (after.opset, record.notes) == (13, ["opset 11 converted to 13"])


def test_never_touches_large_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = model(
        11,
        "g (float[N, 64] x) => (float[N, 1] y) { m = MatMul(x, w) y = ReduceSum <axes = [1]> (m) t = Transpose(w) }",
        {"w": np.ones((64, 64), np.float32)},
    )
    onnx.save(
        before.to_proto(), tmp_path / "m.onnx", save_as_external_data=True, location="m.data", size_threshold=1024
    )
    loaded = ir.Model.from_proto(onnx.load(tmp_path / "m.onnx", load_external_data=False), tmp_path)
    (tmp_path / "m.data").unlink()
    ConvertOpset().apply(loaded, record := PassRecord("convert-opset"))
    InferShapes().apply(loaded, record)
    assert loaded.opset == 21
    assert loaded.nodes[0].outputs[0].shape == ["N", 64]


def test_a_node_of_unknown_types_and_rank_converts() -> None:
    text = f"{MATRIX} {{ a = com.microsoft.Mystery(x) b = Squeeze <axes = [0]> (a) y = Unsqueeze <axes = [0]> (b) }}"
    proto = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 11, "com.microsoft" : 1]>\n{text}')
    converted = ir.Model.from_proto(proto)
    NameEverything().apply(converted, PassRecord("name-everything"))
    ConvertOpset().apply(converted, record := PassRecord("convert-opset"))
    assert record.notes == ["opset 11 converted to 21"]
    axes = converted.nodes[1].inputs[1]
    assert numpy_helper.to_array(converted.to_proto().graph.initializer[0]).tolist() == [0]
    assert isinstance(axes, ir.Constant)


def test_an_operator_that_is_in_no_opset_stays() -> None:
    graph = helper.make_graph(
        [
            helper.make_node("NoSuchOp", ["x"], ["a"], name="a"),
            helper.make_node("ReduceSum", ["a"], ["y"], name="s", axes=[1]),
        ],
        "g",
        [helper.make_tensor_value_info("x", 1, [2, 3])],
        [helper.make_tensor_value_info("y", 1, [2, 1])],
    )
    converted = ir.Model.from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)]))
    ConvertOpset().apply(converted, PassRecord("convert-opset"))
    assert ops(converted) == ["NoSuchOp", "ReduceSum"]
    assert len(converted.nodes[1].inputs) == 2
