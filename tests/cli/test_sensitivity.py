"""qcompile sensitivity."""

from __future__ import annotations

import json
from pathlib import Path

from tests.cli.conftest import Run

CNN = Path(__file__).resolve().parents[2] / "models" / "digits_cnn"
MODEL, DATA = str(CNN / "model.onnx"), str(CNN / "evaluation.npz")
COMMAND = ("sensitivity", MODEL, "--target", "onnxruntime", "--data", DATA, "--use", "16", "--samples", "32")


def test_the_most_harmful_groups_come_first_and_the_file_holds_them_all(run: Run) -> None:
    result = run(*COMMAND, "--top", "3", "-o", "ranking.json")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert "16 samples" in lines[0] and lines[1].split()[:2] == ["group", "operator"]
    assert any(line.startswith("and ") and "--top" in line for line in lines)
    assert all(len(line) <= 90 for line in lines)
    ranking = json.loads(Path("ranking.json").read_text())
    damages = [group["damage"] for group in ranking["groups"]]
    assert damages == sorted(damages, reverse=True) and damages[0] > 0
    assert ranking["precision"] == "int8" and ranking["samples"] == 16 and ranking["times"] == "measured"
    assert all(group["quantized_us"] is not None for group in ranking["groups"])


def test_json_alone_by_metric_without_times(run: Run) -> None:
    result = run(*COMMAND, "--by", "metric", "--without", "--bench-seconds", "0", "--json")
    assert result.exit_code == 0, result.output
    ranking = json.loads(result.stdout)
    assert ranking["by"] == "metric" and ranking["times"] == ""
    assert all(g["metric_loss"] is not None and g["float_us"] is None for g in ranking["groups"])
    assert any(g["without_db"] is not None for g in ranking["groups"])
    again = run(*COMMAND, "--by", "metric", "--without", "--bench-seconds", "0", "--json")
    assert again.stdout == result.stdout


def test_what_cannot_be_ranked_by_is_said_in_one_line(run: Run) -> None:
    result = run(*COMMAND, "--by", "entropy")
    assert result.exit_code == 2 and "--by: unknown measure 'entropy'" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_a_file_that_cannot_be_written(run: Run) -> None:
    result = run(*COMMAND, "--bench-seconds", "0", "-o", "nowhere/ranking.json")
    assert result.exit_code == 2 and "nowhere/ranking.json: cannot be written" in result.stderr
