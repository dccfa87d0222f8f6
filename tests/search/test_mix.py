"""Mixed precision in a whole compile: found where a candidate loses too much, and only there."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import qcompiler
from qcompiler import Recipe
from qcompiler.report.record import Report
from qcompiler.search import mix
from qcompiler.search.costs import Costs
from qcompiler.search.limit import Limit
from qcompiler.search.sensitivity import Sensitivity
from tests.search.corruption import corrupted

CNN = Path(__file__).resolve().parents[2] / "models" / "digits_cnn"
MODEL, DATA, EVAL = CNN / "model.onnx", str(CNN / "calibration.npz"), str(CNN / "evaluation.npz")
STRICT = Recipe(precision="int8", samples=48, bench_seconds=0, sqnr_floor=46.0)


def compiled(recipe: Recipe = STRICT, output: Path | None = None) -> Report:
    return qcompiler.compile(MODEL, "onnxruntime", DATA, evaluation=DATA, recipe=recipe, output=output).report


def test_a_candidate_that_is_good_enough_is_not_taken_apart() -> None:
    report = compiled(replace(STRICT, sqnr_floor=5.0))
    assert report.search == {} and report.target["shipped"] == "int8"


def test_what_is_undecided_is_taken_apart_where_the_samples_could_prove_something(tmp_path: Path) -> None:
    with np.load(DATA) as arrays:
        np.savez(tmp_path / "x.npz", **{name: array for name, array in arrays.items() if name != "labels"})

    def compiled(recipe: Recipe) -> Report:
        return qcompiler.compile(MODEL, "onnxruntime", str(tmp_path / "x.npz"), recipe=recipe).report

    loose = replace(STRICT, sqnr_floor=5.0, metric="cosine", max_drop=Limit(0.5))
    whole = compiled(loose).accuracy
    assert whole.verdict == "holds" and whole.drop is not None and whole.ci_high is not None
    between = (whole.drop + whole.ci_high) / 2
    report = compiled(replace(loose, max_drop=Limit(between)))
    base = next(line for line in report.candidates if line.method == "auto")
    assert base.drop is not None and base.drop <= between and not base.shipped
    assert report.accuracy.verdict == "holds" and (report.accuracy.ci_high or 0.0) <= between
    assert [step["kept"] for step in report.search["steps"]].count(True) >= 1


def test_the_search_finds_a_mixed_plan_where_the_whole_one_is_broken(tmp_path: Path) -> None:
    report = compiled(output=tmp_path / "out")
    search = report.search
    assert search["base"] == "int8" and "46" in search["why"] and "not measured" in search["times"]
    shipped = next(line for line in report.candidates if line.shipped)
    assert shipped.precision == "int8" and "nodes float" in shipped.method
    assert shipped.worst_sqnr_db is not None and shipped.worst_sqnr_db >= 46.0
    floats = [node for node in report.nodes if node.rule == "placement"]
    assert floats and any("harms the outputs (alone" in node.reason for node in floats)
    assert any(node.precision == "int8" for node in report.nodes)
    damages = [group["damage"] for group in search["groups"]]
    assert damages == sorted(damages, reverse=True)
    assert [step["kept"] for step in search["steps"]].count(True) >= 1
    assert len(search["steps"]) <= mix.ROUNDS["balanced"]


def test_a_precision_by_name_is_refused_only_if_all_of_it_is_broken() -> None:
    for floor, shipped, status in ((46.0, "int8", 0), (400.0, "float", 3)):
        found = qcompiler.compile(MODEL, "onnxruntime", DATA, recipe=replace(STRICT, sqnr_floor=floor))
        assert any(line.reason.startswith("broken") for line in found.report.candidates)
        assert (found.report.target["shipped"], found.exit_status) == (shipped, status)


def test_the_same_inputs_give_the_same_bytes(tmp_path: Path) -> None:
    for name in "ab":
        compiled(output=tmp_path / name)
    for file in ("model.onnx", "plan.json"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_corrupted_sensitivities_make_it_slower_never_worse_than_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    real = mix.sweep

    def wrong(*args: object, **options: object) -> dict[str, tuple[Sensitivity, ...]]:
        found = real(*args, **options)  # type: ignore[arg-type]
        return {p: corrupted(ones, [10.0 ** ((7 * i) % 9 - 4) for i in range(len(ones))]) for p, ones in found.items()}

    monkeypatch.setattr(mix, "sweep", wrong)
    report = compiled()
    shipped = next(line for line in report.candidates if line.shipped)
    assert shipped.precision == "float" or (shipped.worst_sqnr_db or 0.0) >= 46.0
    for line in report.candidates:
        if line.precision != "float" and (line.worst_sqnr_db or 0.0) < 46.0:
            assert line.reason.startswith("broken")


def test_the_front_and_its_plans_are_written(tmp_path: Path) -> None:
    report = compiled(replace(STRICT, pareto=True), tmp_path / "out")
    front = json.loads((tmp_path / "out" / "pareto" / "front.json").read_text())
    on_it = [line for line in report.candidates if line.front]
    assert len(front["points"]) == len(on_it) >= 2
    for point in front["points"]:
        assert (tmp_path / "out" / "pareto" / point["plan"]).is_file()
    names = {artifact.path for artifact in report.artifacts}
    assert "pareto/front.json" in names
    assert len(report.candidates) >= 2 + len(report.search["steps"])


def test_size_can_be_the_objective() -> None:
    report = compiled(replace(STRICT, optimize="size"))
    assert any("kB" in node.reason for node in report.nodes if node.rule == "placement")
    small = min(line.bytes for line in report.candidates if not line.reason.startswith(("broken", "set aside")))
    assert next(line for line in report.candidates if line.shipped).bytes == small


def test_bit_operations_can_be_the_objective() -> None:
    report = compiled(replace(STRICT, optimize="bits"))
    assert any("Mbop" in node.reason for node in report.nodes if node.rule == "placement")
    assert next(line for line in report.candidates if line.shipped).precision == "int8"


def test_times_of_a_device_decide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Costs] = []
    real = mix.Dial

    def spy(tables: dict[str, Costs], *others: object) -> object:
        seen.extend(tables.values())
        return real(tables, *others)  # type: ignore[arg-type]

    monkeypatch.setattr(mix, "Dial", spy)
    (tmp_path / "t.json").write_text(json.dumps({"/0/0.0/Conv": {"int8": 5.0, "float": 1.0}}))
    report = compiled(replace(STRICT, latency=str(tmp_path / "t.json")))
    assert report.search["times"] == "measured on a device (t.json)"
    assert seen[0].quantized["/0/0.0/Conv"].seconds == pytest.approx(5e-3)
    conv = next(node for node in report.nodes if node.name == "/0/0.0/Conv")
    assert conv.reason == "does not pay in int8 (5000 us, 1000 us in float)"
