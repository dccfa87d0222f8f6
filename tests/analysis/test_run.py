"""Sessions: settings, errors in one line, weights beside the model."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import external_data_helper

from qcompiler import ir
from qcompiler.analysis import Runner, SessionConfig
from qcompiler.analysis.run import reason
from qcompiler.errors import DataError, ModelError
from tests.graphs import parse

RELU = "g (float[N,3] x) => (float[N,3] y) { y = Relu(x) }"


def test_runs_and_names_outputs() -> None:
    runner = Runner(parse("g (float[N] x) => (float[N] y, float[N] z) { y = Relu(x)  z = Neg(x) }"))
    assert (runner.inputs, runner.outputs) == (("x",), ("y", "z"))
    outputs = runner.run({"x": np.float32([-1, 2])})
    assert {name: array.tolist() for name, array in outputs.items()} == {"y": [0, 2], "z": [1, -2]}


def test_computes_only_the_outputs_that_are_asked_for() -> None:
    model = parse("g (float[N] x) => (float[N] y, float[N] z) { y = Relu(x)  z = Neg(x) }")
    assert list(Runner(model, outputs=["z"]).run({"x": np.float32([3])})) == ["z"]


@pytest.mark.parametrize(
    ("feed", "words"),
    [
        ({}, "Required inputs (['x']) are missing"),
        ({"x": np.zeros((2, 4), np.float32)}, "Got invalid dimensions for input: x"),
        ({"x": np.zeros((2, 3))}, "Unexpected input data type"),
        ({"x": np.zeros((2, 3), np.float32), "extra": np.zeros(1)}, "Invalid input name: extra"),
    ],
)
def test_a_feed_that_does_not_fit_is_one_line_with_the_sample(
    feed: dict[str, np.ndarray], words: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(DataError) as caught:
        Runner(parse(RELU)).run(feed, sample="calib.npz[3]")
    assert str(caught.value).startswith("calib.npz[3]: ")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_a_node_that_fails_is_named_without_source_paths(capfd: pytest.CaptureFixture[str]) -> None:
    model = parse("g (float[N] x, int64[M] k) => (float[A,B] y) { [squeeze_it] y = Reshape(x, k) }")
    with pytest.raises(DataError) as caught:
        Runner(model).run({"x": np.zeros(6, np.float32), "k": np.array([4, 4])}, sample="s7")
    text = str(caught.value)
    assert text.startswith("s7: the model cannot run on this sample: Reshape node 'squeeze_it': ")
    assert "requested shape:{4,4}" in text
    assert ".h:" not in text and "onnxruntime::" not in text
    assert capfd.readouterr() == ("", "")


def test_a_model_that_is_refused_is_one_line(capfd: pytest.CaptureFixture[str]) -> None:
    model = parse("g (float[2] x) => (float[2] y) { y = Relu(x) }")
    model.nodes[0].op = "Rely"
    with pytest.raises(ModelError, match=r"^ONNX Runtime cannot load the model: .*Rely") as caught:
        Runner(model)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_a_file_that_is_no_model_is_named(tmp_path: Path) -> None:
    path = tmp_path / "broken.onnx"
    path.write_bytes(b"garbage")
    with pytest.raises(ModelError, match=r"^broken\.onnx: ONNX Runtime cannot load the model: "):
        Runner(path)


def test_reason_is_cut_and_flat() -> None:
    assert reason(ValueError("a\n  b " + "c" * 400)) == "a b " + "c" * 293 + "..."


def test_level_and_optimisers_reach_the_session(tmp_path: Path) -> None:
    model = parse(
        "g (float[1,2,4,4] x) => (float[1,2,4,4] y) { c = Conv(x, w)  y = Relu(c) }",
        {"w": np.ones((2, 2, 1, 1), np.float32)},
    )

    def ops(config: SessionConfig) -> list[str]:
        Runner(model, config)
        return sorted(node.op_type for node in onnx.load(tmp_path / "seen.onnx").graph.node)

    path = tmp_path / "seen.onnx"
    assert ops(SessionConfig("off", save_optimized=path)) == ["Conv", "Relu"]
    assert ops(SessionConfig("extended", save_optimized=path)) == ["FusedConv"]
    kept = SessionConfig("extended", disabled_optimizers=("ConvActivationFusion",), save_optimized=path)
    assert ops(kept) == ["Conv", "Relu"]


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.int64])
def test_external_weights_are_handed_over(tmp_path: Path, dtype: type) -> None:
    weights = np.arange(2048).reshape(2, 1024).astype(dtype)
    kind = {np.float32: "float", np.float16: "float16", np.int64: "int64"}[dtype]
    proto = parse(f"g ({kind}[2,1024] x) => ({kind}[2,1024] y) {{ y = Add(x, w) }}", {"w": weights}).to_proto()
    external_data_helper.convert_model_to_external_data(proto, location="w.bin", size_threshold=0)
    onnx.save(proto, tmp_path / "model.onnx")
    model = ir.load(tmp_path / "model.onnx")
    feed = {"x": np.ones((2, 1024), dtype)}
    np.testing.assert_array_equal(Runner(model).run(feed)["y"], weights + 1)
    np.testing.assert_array_equal(Runner(tmp_path / "model.onnx").run(feed)["y"], weights + 1)


def test_same_numbers_every_time() -> None:
    rng = np.random.default_rng(0)
    model = parse(
        "g (float[1,8,16,16] x) => (float[1,8,16,16] y) { c = Conv<pads = [1,1,1,1]>(x, w)  y = Relu(c) }",
        {"w": rng.normal(size=(8, 8, 3, 3)).astype(np.float32)},
    )
    feed = {"x": rng.normal(size=(1, 8, 16, 16)).astype(np.float32)}
    runs = {Runner(model).run(feed)["y"].tobytes() for _ in range(3)}
    assert len(runs) == 1


def test_profile(tmp_path: Path) -> None:
    model = parse("g (float[N] x) => (float[N] y) { [wave] y = Sin(x) }")
    runner = Runner(model, SessionConfig(profile=tmp_path / "p"))
    for _ in range(3):
        runner.run({"x": np.float32([1])})
    path = runner.end_profile()
    events = json.loads(path.read_text())
    assert path.parent == tmp_path
    assert sum(event["name"] == "wave_kernel_time" for event in events) == 3


def test_a_full_disk_behind_the_graph_that_is_written_is_named() -> None:
    with pytest.raises(ModelError, match=r"/dev: ONNX Runtime cannot write its graph.*is there space"):
        Runner(parse(RELU), SessionConfig(save_optimized=Path("/dev/full")))
