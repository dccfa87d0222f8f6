from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import onnxruntime as ort
import pytest

from qcompiler import compiler
from qcompiler.search.limit import Limit
from tests.cli.conftest import CNN, FAST, Run
from tests.report.hand_made import report

MODEL, DATA = CNN / "model.onnx", CNN / "calibration.npz"
ORT = ("--target", "onnxruntime")


def test_a_compile_leaves_a_model_that_runs_and_a_report(compiled: Path) -> None:
    assert {"model.onnx", "plan.json", "report.json"} <= {path.name for path in compiled.iterdir()}
    session = ort.InferenceSession(compiled / "model.onnx", providers=["CPUExecutionProvider"])
    assert [value.name for value in session.get_outputs()] == ["logits"]
    data = json.loads((compiled / "report.json").read_text())
    assert data["target"]["shipped"] == "int8" and data["calibration"]["samples"] == 24
    assert all(node["outputs"] for node in data["nodes"])
    # every node of the plan has a decision of its own, also those that the target's rewrites made
    assert "subgraph" not in {node["rule"] for node in data["nodes"]}


def test_the_table(run: Run) -> None:
    result = run(MODEL, *ORT, "--data", DATA, *FAST, "-o", "out")
    assert result.exit_code == 0 and result.stderr == ""
    lines = result.stdout.splitlines()
    assert lines[0].startswith("model.onnx -> onnxruntime:vnni, int8, ")
    assert max(map(len, lines)) <= 80
    assert any(line.startswith("top-1") for line in lines) and any(line.startswith("weights") for line in lines)
    assert result.stdout.endswith("report.json\n") and "\x1b" not in result.stdout


def test_json_is_report_json_and_nothing_else(run: Run) -> None:
    result = run(MODEL, *ORT, "--data", DATA, *FAST, "-o", "out", "--json")
    assert result.exit_code == 0 and result.stderr == ""
    assert result.stdout == Path("out/report.json").read_text(encoding="utf-8")


def test_session_options_are_beside_the_model_and_the_cache_where_asked_for(run: Run) -> None:
    assert run(MODEL, *ORT, "--data", DATA, *FAST, "-o", "out", "-q").exit_code == 0
    assert not Path("out/model.optimized.onnx").exists()
    result = run(MODEL, *ORT, "--data", DATA, *FAST, "--precision", "int8", "--optimized", "-o", "out")
    assert result.exit_code == 0 and "cache: model.optimized.onnx" in result.stdout
    session = json.loads(Path("out/session.json").read_text())
    assert session["disabled_optimizers"] == [] and session["checked"]["ops"]["QLinearConv"] > 0
    assert session["optimized"]["onnxruntime"] == ort.__version__
    report = json.loads(Path("out/report.json").read_text())
    assert {"session.json", "model.optimized.onnx"} <= {artifact["path"] for artifact in report["artifacts"]}
    assert report["session"]["snippet"][0] == "import onnxruntime as ort"
    assert report["backend"]["findings"] == []


def test_quiet_prints_nothing(run: Run) -> None:
    result = run("-q", MODEL, *ORT, *FAST, "-o", "out")
    assert (result.exit_code, result.output) == (0, "")


def test_the_default_folder_and_that_only_our_own_is_replaced(run: Run) -> None:
    fast = (MODEL, *ORT, "--precision", "float", "--bench-seconds", "0", "-q")
    assert run(*fast).exit_code == 0
    assert [path.name for path in Path.cwd().iterdir()] == ["model-onnxruntime"]
    first = Path("model-onnxruntime/report.json").stat().st_ino
    assert run(*fast).exit_code == 0
    assert Path("model-onnxruntime/report.json").stat().st_ino != first
    Path("model-onnxruntime/report.json").unlink()
    result = run(*fast)
    assert result.exit_code == 2 and "holds files that qcompile did not write" in result.stderr
    assert Path("model-onnxruntime/model.onnx").is_file()


def test_a_variant_is_part_of_the_default_folder(run: Run) -> None:
    assert (
        run(MODEL, "--target", "onnxruntime:vnni", "--precision", "float", "--bench-seconds", "0", "-q").exit_code == 0
    )
    assert [path.name for path in Path.cwd().iterdir()] == ["model-onnxruntime-vnni"]


def test_dumps(run: Run) -> None:
    assert run(MODEL, *ORT, "--precision", "float", "--bench-seconds", "0", "-q", "--dump-passes", "d").exit_code == 0
    assert any("fold-batchnorm" in path.name for path in Path("d").iterdir())


def test_options_reach_the_compiler(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

    def fake(*args: Any, **options: Any) -> SimpleNamespace:
        calls.append((args, options))
        return SimpleNamespace(exit_status=0, report=report())

    monkeypatch.setattr(compiler, "compile", fake)
    Path("r.toml").write_text('method = "mse"\nsamples = 5\nconfidence = 0.9\nkeep_float = ["a"]\n')
    result = run(
        MODEL, "--target", "onnxruntime:vnni", "--recipe", "r.toml", "--precision", "int8", "--data", "d.npz", "--eval",
        "e.npz", "--max-drop", "0.5%", "-o", "out", "--keep-float", "x*", "--keep-float", "y", "--samples", "7",
        "--shape", "batch=1", "--shape", "x=1x2", "--metric", "p.m:f", "--stats", "s.npz", "--dump-passes", "d",
        "--threads", "2", "--bench-seconds", "0.5", "--optimized", "--confidence", "0.99",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    ((args, options),) = calls
    assert args == (MODEL, "onnxruntime:vnni", "d.npz")
    recipe = options.pop("recipe")
    assert (recipe.precision, recipe.method, recipe.samples, recipe.confidence) == ("int8", "mse", 7, 0.99)
    assert recipe.keep_float == ("x*", "y") and recipe.max_drop == Limit.of("0.5%") and recipe.metric == "p.m:f"
    assert recipe.shapes == {"batch": "1", "x": "1x2"} and (recipe.threads, recipe.bench_seconds) == (2, 0.5)
    assert callable(options.pop("progress"))
    assert recipe.options == {"optimized": True}
    assert options == {
        "output": Path("out"), "evaluation": "e.npz", "stats": Path("s.npz"), "dump_passes": Path("d"),
    }  # fmt: skip


@pytest.mark.parametrize(("statuses", "expected"), [((0, 0), 0), ((0, 4), 4), ((4, 3), 3), ((3, 4), 3), ((4, 0), 4)])
def test_several_targets(run: Run, monkeypatch: pytest.MonkeyPatch, statuses: tuple[int, int], expected: int) -> None:
    folders = []

    def fake(
        model: Path, target: str, data: object, *, output: Path, dump_passes: Path, **options: Any
    ) -> SimpleNamespace:
        folders.append((str(output), str(dump_passes)))
        return SimpleNamespace(exit_status=statuses[len(folders) - 1], report=report())

    monkeypatch.setattr(compiler, "compile", fake)
    args = (MODEL, *ORT, "--target", "onnxruntime:vnni", "-o", "out", "--dump-passes", "d")
    result = run(*args)
    assert result.exit_code == expected
    assert folders == [("out/onnxruntime", "d/onnxruntime"), ("out/onnxruntime-vnni", "d/onnxruntime-vnni")]
    assert result.stdout.count("net.onnx -> ") == 2
    folders.clear()
    assert len(json.loads(run(*args, "--json").stdout)) == 2


def test_verbose_shows_all_reasons_and_the_passes(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiler, "compile", lambda *a, **o: SimpleNamespace(exit_status=0, report=replace(report())))
    text = run(MODEL, *ORT, "-v").stdout
    assert "kept float by --keep-float 'head'" in text and "more reason" not in text
    assert "fold-batchnorm  1  0.010 s" in text


SLOW = """
import pathlib, time
import numpy as np

def samples():
    for i in range(60):
        pathlib.Path("started").touch()
        time.sleep(0.05)
        yield {"image": np.full((1, 1, 32, 32), i / 60, np.float32)}
"""


def start(folder: Path, **options: Any) -> subprocess.Popen[str]:
    """A compile in a process of its own whose samples come slowly."""
    (folder / "slow.py").write_text(SLOW)
    command = [
        sys.executable, "-m", "qcompiler", str(MODEL), *ORT, "--data", "slow:samples", "--samples", "30", "-o", "out",
        "--bench-seconds", "0", "--method", "minmax", "--precision", "int8",
    ]  # fmt: skip
    # a shell that runs the tests in the background hands on that interrupts are to be ignored
    heard = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    return subprocess.Popen(command, cwd=folder, text=True, env=environment, preexec_fn=heard, **options)


@pytest.mark.parametrize(
    ("number", "status", "word"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")]
)
def test_an_interrupted_compile_leaves_nothing_behind(tmp_path: Path, number: int, status: int, word: str) -> None:
    process = start(tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 60
    while not (tmp_path / "started").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.5)
    process.send_signal(number)
    stdout, stderr = process.communicate(timeout=60)
    assert (process.returncode, stdout, stderr) == (status, "", f"qcompile: {word}; nothing unfinished is left\n")
    assert {path.name for path in tmp_path.iterdir()} - {"__pycache__"} == {"slow.py", "started"}


def test_a_file_of_times_is_read_before_any_work(run: Run, tmp_path: Path) -> None:
    (tmp_path / "times.npz").write_bytes(b"PK\x03\x04\xff\xfe")
    result = run(str(MODEL), *ORT, "--latency", str(tmp_path / "times.npz"))
    assert result.exit_code == 2 and "holds no times" in result.stderr
