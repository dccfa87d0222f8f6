"""The other commands, on the models of the repository."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import CNN, FAST, Run

MODEL, DATA = CNN / "model.onnx", CNN / "calibration.npz"
ORT = ("--target", "onnxruntime")


def test_statistics_are_collected_once_and_compiled_from(run: Run) -> None:
    result = run("calibrate", MODEL, *ORT, "--data", DATA, "--samples", "8")
    assert result.exit_code == 0 and Path("model.stats.npz").is_file(), result.output
    assert "--stats model.stats.npz" in result.stdout
    result = run(
        MODEL, *ORT, "--stats", "model.stats.npz", "--precision", "int8", "--bench-seconds", "0", "-o", "out", "--json"
    )
    data = json.loads(result.stdout)
    assert data["calibration"]["samples"] == 8 and data["target"]["shipped"] == "int8"
    # merged in, and written over what is ours
    args = (
        "calibrate",
        MODEL,
        *ORT,
        "--data",
        DATA,
        "--samples",
        "4",
        "--merge",
        "model.stats.npz",
        "-o",
        "model.stats.npz",
    )
    assert run(*args, "-q").output == ""
    result = run(
        MODEL, *ORT, "--stats", "model.stats.npz", "--precision", "int8", "--bench-seconds", "0", "-o", "out", "--json"
    )
    assert json.loads(result.stdout)["calibration"]["samples"] == 12


def test_inspect(run: Run) -> None:
    result = run("inspect", MODEL)
    assert result.exit_code == 0 and "Conv 24" in result.stdout and "onnxruntime int8" in result.stdout
    facts = json.loads(run("inspect", MODEL, "--json", "--shape", "batch=4").stdout)
    assert facts["inputs"][0]["shape"] == [4, 1, 32, 32]
    names = [node["name"] for node in facts["prepared"]]
    listed = run("inspect", MODEL, "--nodes").stdout
    assert len(names) == len(set(names)) and all(f" {name} -> " in listed for name in names)
    assert list(Path.cwd().iterdir()) == []


def test_inspect_of_an_output_folder_is_that_of_the_model_in_it(run: Run) -> None:
    Path("out").mkdir()
    Path("out/model.onnx").write_bytes(Path(MODEL).read_bytes())
    assert run("inspect", "out", "--json").stdout == run("inspect", "out/model.onnx", "--json").stdout
    Path("out/model.onnx").unlink()
    result = run("inspect", "out")
    assert result.exit_code == 2 and "holds no model.onnx" in result.stderr


def test_the_names_that_inspect_lists_are_those_that_keep_float_takes(run: Run) -> None:
    facts = json.loads(run("inspect", MODEL, "--json").stdout)
    name = next(node["name"] for node in facts["prepared"] if node["op"] == "Gemm")
    run(MODEL, *ORT, "--data", DATA, "--precision", "int8", *FAST, "--keep-float", name, "-o", "out", "-q")
    found = json.loads(run("explain", "out", "--node", name, "--json").stdout)
    assert found[0]["precision"] == "float" and "--keep-float" in found[0]["reason"]


def test_explain(run: Run, compiled: Path) -> None:
    text = run("explain", compiled).stdout
    assert "quantized, by rule of the target:" in text and "conv" in text
    (gemm,) = json.loads(run("explain", compiled, "--node", "*Gemm", "--json").stdout)
    assert gemm["precision"] == "int8" and gemm["inputs"][1]["dtype"].startswith("int8")
    weight = gemm["inputs"][1]["tensor"]
    found = json.loads(run("explain", compiled, "--tensor", weight, "--json").stdout)
    assert found[0]["stored"][0]["scale"] == gemm["inputs"][1]["scale"] and len(found[0]["stored"][0]["scale"]) == 10
    assert "input 1" in run("explain", compiled / "report.json", "--node", "*Gemm").stdout
    result = run("explain", compiled, "--node", "/9/Gem")
    assert result.exit_code == 2 and "close: /9/Gemm" in result.stderr
    result = run("explain", compiled, "--node", "a", "--tensor", "b")
    assert result.exit_code == 2 and "not both" in result.stderr


def test_compare(run: Run, compiled: Path) -> None:
    result = run("compare", MODEL, compiled, "--data", DATA, "--samples", "4", "--json")
    facts = json.loads(result.stdout)
    ratios = [line["sqnr_db"] for line in facts["tensors"]]
    assert facts["samples"] == 4 and ratios == sorted(ratios) and 5 < ratios[0] < 60
    text = run("compare", MODEL, compiled, "--data", DATA, "--samples", "4", "--top", "3").stdout
    assert f"{ratios[0]:.1f}" in text.splitlines()[2] and max(map(len, text.splitlines())) <= 80


def test_bench(run: Run, compiled: Path) -> None:
    facts = json.loads(run("bench", MODEL, compiled, "--data", DATA, "--seconds", "0.2", "--json").stdout)
    assert [line["model"] for line in facts["models"]] == [str(MODEL), str(compiled)]
    assert facts["models"][0]["speedup"] == 1.0 and facts["models"][1]["median_ms"] > 0
    text = run("bench", MODEL, "--shape", "batch=2", "--seconds", "0.1").stdout
    assert "made up" in text


@pytest.mark.parametrize("name", ["onnxruntime", "onnxruntime:vnni"])
def test_targets(run: Run, name: str) -> None:
    assert "onnxruntime: ONNX Runtime" in run("targets").stdout
    assert json.loads(run("targets", "--json").stdout)[0]["name"] == "onnxruntime"
    assert "QLinearConv" in run("targets", name).stdout
    assert json.loads(run("targets", name, "--json").stdout)["rules"]["int8"]


def test_diff(run: Run, compiled: Path) -> None:
    same = run("diff", compiled, compiled)
    assert same.exit_code == 0 and "the plans are the same" in same.stdout
    run(MODEL, *ORT, "--data", DATA, "--precision", "int8", *FAST, "--keep-float", "/1/*/Conv", "-o", "other", "-q")
    result = run("diff", compiled, "other")
    assert result.exit_code == 3 and "int8 -> float" in result.stdout and "size [bytes]" in result.stdout
    facts = json.loads(run("diff", compiled, "other/plan.json", "--json").stdout)
    assert facts["same"] is False and facts["nodes"] and all(node["b"] == "float" for node in facts["nodes"])
    assert run("diff", compiled, "nothing").exit_code == 2
    assert run("diff", compiled, "other", "-q").stdout == ""
