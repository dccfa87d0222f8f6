"""What the gate finds computed otherwise than planned goes back to float, where the precision was not asked for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

import qcompiler
from qcompiler import Recipe
from qcompiler.backends.base import Job
from qcompiler.backends.conformance import Conformance, Fallback
from qcompiler.backends.onnxruntime.backend import OnnxRuntime
from qcompiler.report.record import Report

CNN = Path(__file__).resolve().parents[2] / "models" / "digits_cnn"
NODE = "/0/0.0/Conv"


def compiled(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, precision: str, node: str = NODE, refused: tuple[str, ...] = ()
) -> tuple[Report, int]:
    """A compile for a backend that never computes a node in integers, or takes no model of some precisions; how often
    it was built."""
    real, built = OnnxRuntime.build, list[Job]()

    def build(self: OnnxRuntime, job: Job) -> Conformance:
        built.append(job)
        assert not any(job.folder.iterdir())
        found = real(self, job)
        if refused:
            return replace(found, failures=("not that",)) if job.precision in refused else found
        plan = job.plan.nodes.get(node)
        if plan is None or plan.precision != "float":
            there = Fallback(node, "Conv", "this processor has none")
            found = replace(found, fallback=(there,), failures=(f"{node} computes in float",))
        return found

    monkeypatch.setattr(OnnxRuntime, "build", build)
    recipe = Recipe(precision=precision, bench_seconds=0, samples=16, preset="fast")
    result = qcompiler.compile(
        CNN / "model.onnx", "onnxruntime", str(CNN / "calibration.npz"), recipe=recipe, output=tmp_path / "out"
    )
    return result.report, len(built)


def test_auto_gives_way(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    report, built = compiled(monkeypatch, tmp_path, "auto")
    assert built == 2
    assert report.target["shipped"] == "int8" and not report.backend["failures"]
    (node,) = [node for node in report.nodes if node.name == NODE]
    assert (node.precision, node.rule) == ("float", "conformance") and "this processor has none" in node.reason
    assert any(NODE in note and "back to float" in note for note in report.notes)


def test_what_was_asked_for_by_name_stays(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    report, built = compiled(monkeypatch, tmp_path, "int8")
    assert built == 1 and report.backend["failures"] == [f"{NODE} computes in float"]


def test_what_the_gate_refuses_gives_way_to_the_next(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    report, built = compiled(monkeypatch, tmp_path, "auto", refused=("int8",))
    assert built == 2 and not report.backend["failures"]
    assert report.target["shipped"] == "w8"
    assert report.candidates[0].reason == "broken: the gate fails: not that"


def test_nodes_that_the_search_cannot_place_leave_float(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    report, built = compiled(monkeypatch, tmp_path, "auto", node="made by the target")
    assert report.target["shipped"] == "float" and built == len(report.candidates) - 1
    assert all(line.reason.startswith("broken: the gate fails") for line in report.candidates[:-2])
    assert report.backend["failures"]
