"""Legality: what is repaired keeps its numbers and is taken by the builder; what is not is refused by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from qcompiler import ir
from qcompiler.backends.tensorrt.build import build, version
from qcompiler.backends.tensorrt.legal import Legalise
from qcompiler.backends.tensorrt.refusals import said
from qcompiler.backends.tensorrt.variants import GPUS
from qcompiler.errors import ModelError
from qcompiler.pipeline import Pipeline
from tests.graphs import run

Tensors = dict[str, np.ndarray]
rng = np.random.default_rng(0)


def model(nodes: list[onnx.NodeProto], constants: Tensors, x: list[int], y: list[int]) -> ir.Model:
    """y of x, float32."""
    for number, node in enumerate(nodes):
        node.name = f"{node.op_type.lower()}{number}"
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, x)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, y)],
        [numpy_helper.from_array(values, name) for name, values in constants.items()],
    )  # fmt: skip
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    return ir.Model.from_proto(onnx.shape_inference.infer_shapes(proto))


def legal(before: ir.Model, variant: str = "sm89") -> tuple[ir.Model, list[str]]:
    after, pipeline = before.copy(), Pipeline()
    pipeline.graph(after, [Legalise(GPUS[variant])])
    return after, pipeline.trace.notes


def node(op: str, inputs: str, output: str, **attrs: object) -> onnx.NodeProto:
    return helper.make_node(op, inputs.split(), output.split(), **attrs)


S, W = np.float32(0.02), rng.integers(-127, 128, size=(32, 32)).astype(np.int8)
PAIR = [node("QuantizeLinear", "x s z", "q"), node("DequantizeLinear", "q s z", "d")]
ZERO = {"s": S, "z": np.int8(0)}


def test_a_quantized_constant_is_moved_behind_dequantization(tmp_path: Path) -> None:
    before = model(
        [*PAIR, node("Transpose", "w", "t", perm=[1, 0]), node("DequantizeLinear", "t s z", "v"),
         node("MatMul", "d v", "y")],
        {**ZERO, "w": W}, [4, 32], [4, 32],
    )  # fmt: skip
    after, notes = legal(before)
    assert len(notes) == 1 and "moves values in place of codes" in notes[0]
    order = [n.op for n in after.nodes]
    assert order.index("DequantizeLinear") < order.index("Transpose")
    feed = {"x": rng.normal(size=(4, 32)).astype(np.float32)}
    np.testing.assert_array_equal(run(before, feed)[0], run(after, feed)[0])
    if version():
        ir.save(before, tmp_path / "before.onnx")
        ir.save(after, tmp_path / "after.onnx")
        refused = build(tmp_path / "before.onnx", "SM89", {})
        assert not refused.ok and "nothing stands between a quantized constant" in said(refused)
        assert build(tmp_path / "after.onnx", "SM89", {}).ok


ROWS = np.linspace(0.01, 0.03, 32).astype(np.float32)


@pytest.mark.parametrize(
    ("move", "axis", "shape"),
    [
        (node("Transpose", "w", "t", perm=[1, 0]), 0, [32, 32]), (node("Transpose", "w", "t"), 1, [32, 32]),
        (node("Gather", "w i", "t", axis=0), 1, [3, 32]), (node("Gather", "w j", "t", axis=0), 2, [2, 2, 32]),
        (node("Gather", "w i", "t", axis=1), 0, [32, 3]), (node("Slice", "w a b c", "t"), 1, [16, 32]),
    ],
)  # fmt: skip
def test_scales_follow_the_axis_of_a_moved_constant(
    move: onnx.NodeProto, axis: int, shape: list[int], tmp_path: Path
) -> None:
    whole = onnx.NodeProto.FromString(move.SerializeToString())
    constants = {
        "w": W, "r": ROWS, "i": np.array([5, 0, 31]), "j": np.array([[5, 0], [31, 7]]), "a": np.array([8]),
        "b": np.array([24]), "c": np.array([0]),
    }  # fmt: skip
    before = model(
        [whole, node("DequantizeLinear", "t r", "v", axis=axis), node("Mul", "v x", "y")], constants, [1], shape
    )
    after, notes = legal(before)
    assert len(notes) == 1 and [n.op for n in after.nodes] == ["DequantizeLinear", move.op_type, "Mul"]
    feed = {"x": np.float32([1.5])}
    np.testing.assert_array_equal(run(before, feed)[0], run(after, feed)[0])
    if version() and move.op_type == "Gather":
        ir.save(after, tmp_path / "after.onnx")
        assert build(tmp_path / "after.onnx", "SM89", {}).ok


@pytest.mark.parametrize(
    ("move", "axis", "shape"),
    [
        (node("Gather", "w p", "t", axis=0), 0, [32, 32]),  # each row brings its own scale
        (node("Reshape", "w f", "t"), 1, [4, 32, 8]),
        (node("Slice", "w n m o k", "t"), 0, [32, 32]),  # backwards
    ],
)
def test_scales_that_would_have_to_move_are_refused(move: onnx.NodeProto, axis: int, shape: list[int]) -> None:
    whole = onnx.NodeProto.FromString(move.SerializeToString())
    constants = {
        "w": W, "r": ROWS, "p": np.arange(32)[::-1].copy(), "f": np.array([4, 32, 8]), "n": np.array([-1]),
        "m": np.array([-33]), "o": np.array([0]), "k": np.array([-1]),
    }  # fmt: skip
    nodes = [whole, node("DequantizeLinear", "t r", "v", axis=axis), node("Mul", "v x", "y")]
    with pytest.raises(ModelError, match="is moved in front of DequantizeLinear") as caught:
        legal(model(nodes, constants, [1], shape))
    assert caught.value.where == f"{move.op_type} '{move.op_type.lower()}0'"


def test_an_int32_bias_becomes_float() -> None:
    codes = rng.integers(-1000, 1000, size=32).astype(np.int32)
    scale = rng.uniform(0.001, 0.002, size=32).astype(np.float32)
    before = model(
        [*PAIR, node("DequantizeLinear", "w s z", "v"), node("DequantizeLinear", "b sb", "c", axis=0),
         node("Gemm", "d v c", "y")],
        {**ZERO, "w": W, "b": codes, "sb": scale}, [4, 32], [4, 32],
    )  # fmt: skip
    after, notes = legal(before)
    assert notes == ["DequantizeLinear 'dequantizelinear3': int32 bias became float: TensorRT takes no other"]
    feed = {"x": rng.normal(size=(4, 32)).astype(np.float32)}
    np.testing.assert_array_equal(run(before, feed)[0], run(after, feed)[0])


def test_half_of_an_attention_is_float() -> None:
    before = model(
        [*PAIR, node("Transpose", "d", "k", perm=[0, 2, 1]), node("Relu", "x", "v"), node("Relu", "d", "e"),
         node("QuantizeLinear", "e s z", "qe"), node("DequantizeLinear", "qe s z", "de"),
         node("MatMul", "de k", "scores"), node("Softmax", "scores", "p", axis=-1), node("MatMul", "p v", "y")],
        ZERO, [2, 16, 32], [2, 16, 32],
    )  # fmt: skip
    after, notes = legal(before)
    assert len(notes) == 1 and "the other product of the attention" in notes[0]
    scores = next(n for n in after.nodes if n.op == "MatMul")
    assert scores.inputs[0].inputs[0].op == "Relu"


@pytest.mark.parametrize(
    ("nodes", "constants", "words"),
    [
        ([*PAIR[:1], node("DequantizeLinear", "q s z", "y")], {"s": S, "z": np.int8(3)}, "zero point 'z' is not 0"),
        ([*PAIR[:1], node("DequantizeLinear", "q s z", "y")], {"s": S, "z": np.uint8(0)}, "TensorRT stores no uint8"),
        ([*PAIR[:1], node("DequantizeLinear", "q s z", "y")], {"s": S, "z": np.int16(0)}, "TensorRT stores no int16"),
        ([*PAIR[:1], node("DequantizeLinear", "q s z", "y")], {"s": -S, "z": np.int8(0)}, "scale 's' is not positive"),
        ([node("DynamicQuantizeLinear", "x", "q s z"), node("DequantizeLinear", "q s z", "y")], {}, "no such operator"),
        ([*PAIR, node("DequantizeLinear", "w sb", "v", axis=0, block_size=16), node("MatMul", "d v", "y")],
         {**ZERO, "w": W, "sb": np.full((2, 32), S)}, "the scales of one block for all"),
    ],
)  # fmt: skip
def test_what_cannot_be_repaired_is_refused_by_name(
    nodes: list[onnx.NodeProto], constants: Tensors, words: str
) -> None:
    with pytest.raises(ModelError, match=words) as caught:
        legal(model([onnx.NodeProto.FromString(n.SerializeToString()) for n in nodes], constants, [4, 32], [4, 32]))
    assert caught.value.where and caught.value.hint


def test_types_that_a_gpu_lacks() -> None:
    import ml_dtypes

    w = rng.integers(-7, 8, size=(32, 32)).astype(ml_dtypes.int4)
    graph = model(
        [node("DequantizeLinear", "w sb", "v", axis=0, block_size=16), node("MatMul", "x v", "y")],
        {"w": w, "sb": np.full((2, 32), S)}, [4, 32], [4, 32],
    )  # fmt: skip
    legal(graph, "sm80")
    with pytest.raises(ModelError, match="sm75 has no int4"):
        legal(graph, "sm75")
