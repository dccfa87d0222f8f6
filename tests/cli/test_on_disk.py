"""Models larger than memory: the same bytes as in memory, within a bound, and after an interruption."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from models.decoder import Sizes, write
from tests.cli.conftest import Run

SMALL = Sizes(layers=2, width=128, hidden=352, vocabulary=512, length=64)
LARGE = Sizes(layers=13, width=512, hidden=1408, vocabulary=8192, length=64)
CALIBRATED = Sizes(layers=3, width=256, hidden=704, vocabulary=2048, length=64)
W4 = ("--target", "onnxruntime", "--precision", "w4", "--weight-method", "rtn", "--bench-seconds", "0", "-q")
MIB = 1 << 20


def weights(folder: Path) -> list[bytes]:
    return [(folder / name).read_bytes() for name in ("model.onnx", "model.onnx.data")]


def logits(path: Path) -> np.ndarray:
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    feed: dict[str, np.ndarray] = {"input_ids": np.arange(6)[None], "attention_mask": np.ones((1, 6), np.int64)}
    for tensor in session.get_inputs()[2:]:
        kind = np.float16 if "float16" in tensor.type else np.float32
        feed[tensor.name] = np.zeros((1, tensor.shape[1], 0, tensor.shape[3]), kind)
    return np.asarray(session.run(["logits"], feed)[0], np.float32)


@pytest.mark.parametrize(
    ("sizes", "options"),
    [
        (SMALL, ("--weight-method", "hqq")),
        (Sizes(2, 128, 352, 512, 64, tied=True), ("--table-bits", "4")),
        (Sizes(2, 128, 352, 512, 64, tied=True), ()),
        (Sizes(2, 128, 352, 512, 64, half=False), ("--symmetric", "--block", "128")),
        (SMALL, ("--portable", "--table-bits", "0")),
        (SMALL, ("--average-bits", "4.5")),
        (Sizes(1, 128, 160, 512, 64, experts=4), ()),
        (Sizes(1, 128, 160, 512, 64), ("--bits", "3")),
        (Sizes(1, 128, 160, 512, 64), ("--format", "mxfp4")),
        (Sizes(1, 128, 160, 512, 64, half=False), ("--format", "nvfp4")),
        (Sizes(1, 128, 160, 512, 64, half=False), ("--format", "fp8")),
        (Sizes(1, 128, 160, 512, 64), ("--format", "codebook", "--bits", "3")),
    ],
)
def test_bytes_are_those_of_a_compile_in_memory(run: Run, sizes: Sizes, options: tuple[str, ...]) -> None:
    model = write(Path("decoder"), sizes)
    assert run(model, *W4, *options, "-o", "memory").exit_code == 0
    assert run(model, *W4, *options, "-o", "disk", "--on-disk").exit_code == 0
    memory, disk = (onnx.load(f"{name}/model.onnx") for name in ("memory", "disk"))
    assert disk == memory
    stored = onnx.load("disk/model.onnx", load_external_data=False).graph.initializer
    places = [int(entry.value) for t in stored for entry in t.external_data if entry.key == "offset"]
    assert places and all(place % 4096 == 0 for place in places)
    report = json.loads(Path("disk/report.json").read_text())
    assert any("did not run" in note for note in report["notes"])
    exact, got = logits(model), logits(Path("disk/model.onnx"))
    assert np.corrcoef(exact.ravel(), got.ravel())[0, 1] > 0.9
    if sizes.tied:
        codes = [t for t in stored if t.data_type == onnx.TensorProto.UINT8 and np.prod(t.dims) >= 512 * 64]
        assert len(codes) == 1


def samples(path: str, model: Path, count: int = 3, length: int = 24) -> str:
    """Made-up tokens, with an empty cache."""
    graph, rng = onnx.load(model, load_external_data=False).graph, np.random.default_rng(len(path))
    feed: dict[str, np.ndarray] = {"input_ids": rng.integers(0, 500, (count, length))}
    feed["attention_mask"] = np.ones((count, length), np.int64)
    for info in list(graph.input)[2:]:
        kind = onnx.helper.tensor_dtype_to_np_dtype(info.type.tensor_type.elem_type)
        dims = [d.dim_value for d in info.type.tensor_type.shape.dim]
        feed[info.name] = np.zeros((count, dims[1], 0, dims[3]), kind)
    np.savez(path, **feed)  # type: ignore[arg-type]
    return path


@pytest.mark.parametrize(
    ("sizes", "options"),
    [
        (Sizes(2, 128, 352, 512, 64, half=False), ("--weight-method", "auto")),
        (Sizes(2, 128, 160, 512, 64, half=False, tied=True), ("--weight-method", "gptq", "--table-bits", "4")),
        (Sizes(2, 128, 160, 512, 64, half=False, tied=True), ()),
        (Sizes(1, 128, 160, 512, 64, half=False), ("--weight-method", "awq", "--portable", "--metric", "kl")),
    ],
)
def test_with_data_bytes_and_figures_are_those_of_a_compile_in_memory(
    run: Run, sizes: Sizes, options: tuple[str, ...]
) -> None:
    model = write(Path("decoder"), sizes)
    given = ("--data", samples("calibration.npz", model), "--eval", samples("evaluation.npz", model), *options)
    assert run(model, *W4, *given, "-o", "memory").exit_code == 0
    assert run(model, *W4, *given, "-o", "disk", "--on-disk").exit_code == 0
    assert onnx.load("disk/model.onnx") == onnx.load("memory/model.onnx")
    memory, disk = (json.loads(Path(f"{name}/report.json").read_text()) for name in ("memory", "disk"))
    assert disk["accuracy"] == memory["accuracy"] and disk["accuracy"]["samples"] == 3
    assert disk["language"] == memory["language"] and disk["language"]["positions"] == 72
    assert Path("disk/plan.json").read_text() == Path("memory/plan.json").read_text()


def test_a_model_of_float16_stays_one_and_loses_less_with_data(run: Run) -> None:
    model = write(Path("decoder"), SMALL)
    given = ("--eval", samples("evaluation.npz", model), "--metric", "kl", "--on-disk", "--accuracy-level", "0")
    data = ("--data", samples("calibration.npz", model, 24, 60))
    lost = {}
    for method in ("rtn", "gptq"):
        assert run(model, *W4, *given, *data, "--weight-method", method, "-o", method).exit_code == 0
        lost[method] = json.loads(Path(f"{method}/report.json").read_text())["accuracy"]["quantized"]
    assert lost["gptq"] < 0.9 * lost["rtn"]
    kinds = {t.data_type for t in onnx.load("gptq/model.onnx").graph.initializer}
    assert onnx.TensorProto.FLOAT16 in kinds and onnx.TensorProto.FLOAT not in kinds


def compile_on_disk(model: Path, output: Path, *options: str) -> list[str]:
    return [sys.executable, "-m", "qcompiler", str(model), *W4, "--on-disk", "-o", str(output), *options]


def peak(command: list[str]) -> int:
    """Peak resident bytes of a process of its own."""
    measure = "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True);"
    measure += "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    said = subprocess.run([sys.executable, "-c", measure, *command], check=True, capture_output=True, text=True).stdout
    return int(said) * (1 if sys.platform == "darwin" else 1024)


def test_memory_stays_below_twice_the_largest_weight(tmp_path: Path) -> None:
    small, large = write(tmp_path / "small", SMALL), write(tmp_path / "large", LARGE)
    size = (tmp_path / "large" / "model.onnx.data").stat().st_size
    fixed = peak(compile_on_disk(small, tmp_path / "a", "--journal", "none"))
    used = peak(compile_on_disk(large, tmp_path / "b", "--journal", "none"))
    largest = LARGE.vocabulary * LARGE.width * 2
    bound = 2 * largest + 8 * MIB
    assert used - fixed < bound < size / 2, f"{(used - fixed) / MIB:.1f} MiB of {bound / MIB:.1f}"


@pytest.mark.parametrize(("sizes", "by_data", "least"), [(LARGE, False, 20), (CALIBRATED, True, 9)])
def test_a_killed_compile_goes_on_with_the_weights_that_are_finished(
    run: Run, sizes: Sizes, by_data: bool, least: int
) -> None:
    model = write(Path("decoder"), sizes)
    more = ("--data", samples("calibration.npz", model), "--weight-method", "auto") if by_data else ()
    assert run(*compile_on_disk(model, Path("whole"), *more)[3:]).exit_code == 0
    command = compile_on_disk(model, Path("out"), "--journal", "journal", *more)
    process = subprocess.Popen(command, start_new_session=True)
    done = 0
    while process.poll() is None and done < least:
        for file in Path("journal").glob("shelves/*.jsonl"):
            with contextlib.suppress(OSError):
                done = file.read_bytes().count(b'"about"')
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL and not Path("out").exists()
    assert run(*command[3:]).exit_code == 0
    assert weights(Path("out")) == weights(Path("whole"))
    notes = json.loads(Path("out/report.json").read_text())["notes"]
    found = next(int(note.split()[0]) for note in notes if "found finished" in note)
    assert found >= least
    assert not list(Path("journal").glob("shelves/*"))


def test_what_cannot_stay_on_disk_is_said(run: Run) -> None:
    model = write(Path("decoder"), SMALL)
    for options in (("--precision", "w8"), ("--weight-method", "gptq")):
        result = run(model, *W4, *options, "--on-disk", "-o", "out")
        assert result.exit_code == 2 and "--on-disk" in result.stderr
