"""Several sets of shapes that share one binary."""

from pathlib import Path

import numpy as np
import onnx
import pytest

from qcompiler import Recipe, compiler, ir
from qcompiler.backends.qnn.backend import Qnn
from qcompiler.errors import UsageError
from tests.backends.qnn.helper import convnet, need_qnn, quantized
from tests.graphs import parse


def test_a_name_given_twice_makes_two_sets() -> None:
    recipe = Recipe().updated({"shapes": ["batch=1", "x=1x3x8x8", "x=1x3x16x16", "t=1:8:9"]})
    assert recipe.fixed_shapes == {"batch": "1", "x": "1x3x8x8"}
    assert recipe.other_shapes == [{"batch": "1", "x": "1x3x16x16"}]
    assert recipe.shape_ranges == {"t": "1:8:9"}


def test_one_set_has_no_others() -> None:
    assert Recipe().other_shapes == [] and Recipe(shapes={"n": "1"}).other_shapes == []


def dynamic(folder: Path) -> tuple[Path, list[dict[str, np.ndarray]]]:
    rng = np.random.default_rng(0)
    constants = {"w": rng.normal(size=(8, 3, 3, 3), scale=0.3).astype(np.float32)}
    model = parse("g (float[1,3,S,S] x) => (float[1,8,T,T] y) { c = Conv(x, w) y = Relu(c) }", constants)
    ir.save(model, folder / "model.onnx")
    return folder / "model.onnx", [{"x": rng.normal(size=(1, 3, 8, 8)).astype(np.float32)} for _ in range(4)]


def test_two_shapes_share_a_binary(tmp_path: Path) -> None:
    need_qnn()
    path, feeds = dynamic(tmp_path)
    recipe = Recipe(precision="w8a8", shapes={"S": "8;12"}, options={"emulate": 1})
    result = compiler.compile(path, "qnn", feeds, output=tmp_path / "out", recipe=recipe)
    assert not result.report.backend["failures"]
    contexts = [onnx.load(tmp_path / "out" / name) for name in ("model_ctx.onnx", "model_2_ctx.onnx")]
    binaries = {a.s for c in contexts for a in c.graph.node[0].attribute if a.name == "ep_cache_context"}
    assert binaries == {b"model_ctx_qnn.bin"} and (tmp_path / "out/model_2.qdq.onnx").is_file()
    assert [c.graph.input[0].type.tensor_type.shape.dim[2].dim_value for c in contexts] == [8, 12]
    emulations = result.report.backend["emulation"]
    assert [entry["shape"] for entry in emulations] == ["", "x=1x3x12x12"]  # type: ignore[attr-defined]
    ratios = [entry["outputs"]["y"]["qdq_db"] for entry in emulations]  # type: ignore[attr-defined]
    assert all(ratio is None or ratio > 30 for ratio in ratios)


def test_other_targets_take_one_set(tmp_path: Path) -> None:
    path, feeds = dynamic(tmp_path)
    with pytest.raises(UsageError, match="takes one set of shapes"):
        compiler.compile(path, "onnxruntime", feeds, recipe=Recipe(shapes={"S": "8;12"}))


def test_several_shapes_do_not_go_into_the_onnx_file(tmp_path: Path) -> None:
    path, feeds = dynamic(tmp_path)
    recipe = Recipe(precision="w8a8", shapes={"S": "8;12"}, options={"embed": True})
    with pytest.raises(UsageError, match="does not go with --embed"):
        compiler.compile(path, "qnn", feeds, recipe=recipe)


def test_blocks_are_for_those_who_ask() -> None:
    weight = np.random.default_rng(0).normal(size=(64, 8)).astype(np.float32)
    model = parse("g (float[2,64] x) => (float[2,8] y) { y = MatMul(x, w) }", {"w": weight})
    for blocks, kind in ((False, "int4 symmetric per axis 1"), (True, "int4 symmetric per block of 32 along axis 0")):
        candidate = quantized(model, "w4a16", Qnn(blocks=blocks))
        (choice,) = [str(d.choice) for s, d in candidate.plan.quantized() if s.tensor == "w"]
        assert choice == kind
    refused = quantized(convnet(), "w4a16", Qnn(blocks=True)).plan.nodes
    assert {node.rule for node in refused.values()}.isdisjoint({"matmul-blocks"})


def test_what_had_to_be_written_out_is_refused_at_several_shapes_in_plain_words(tmp_path: Path) -> None:
    need_qnn()
    rng = np.random.default_rng(0)
    model = parse("g (float[1,4,S,S] x) => (float[1,4,S,S] y) { r = Tanh(x) y = LRN<size=3>(r) }")
    ir.save(model, tmp_path / "model.onnx")
    feeds = [{"x": rng.normal(size=(1, 4, 8, 8)).astype(np.float32)} for _ in range(4)]
    recipe = Recipe(precision="w8a16", shapes={"S": "8;12"}, options={"emulate": 1})
    result = compiler.compile(tmp_path / "model.onnx", "qnn:sm8350", feeds, output=tmp_path / "out", recipe=recipe)
    (failure,) = result.report.backend["failures"]  # type: ignore[misc]
    assert result.exit_status == 3 and "had to be written out at one of them" in failure and "LRN" in failure
    assert (tmp_path / "out/model_ctx.onnx").is_file()
