"""guard: a pass that changes the function is found among many, taken back and named, and the rest is kept."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import onnx
import pytest

import qcompiler
from qcompiler import frontend, ir
from qcompiler.analysis.same_function import SameFunction
from qcompiler.backends import get
from qcompiler.backends.base import Conditioning
from qcompiler.backends.onnxruntime.backend import OnnxRuntime
from qcompiler.errors import PassError
from qcompiler.passes.fusion import fusion_rules
from qcompiler.passes.prepare import EliminateDead
from qcompiler.pipeline import GraphPass, PassRecord
from qcompiler.search.candidates import Drafter
from tests.graphs import ops, run
from tests.small import graph, normal
from tests.trained import pair, trained

BODY = """a = Conv <pads = [1, 1, 1, 1]> (x, w, b) n = BatchNormalization (a, g, e, u, s) r = Relu (n)
    p = Conv (r, k) q = Relu (p) t = Identity (q) y = Neg (t)"""
CONSTANTS = {"g": normal(8), "e": normal(8), "u": normal(8), "s": np.abs(normal(8)) + 0.5}
FEED = {"x": normal(1, 4, 16, 16)}


@dataclass(frozen=True)
class Wrong(GraphPass):
    """Replaces every node of one operator by another that does not compute the same."""

    name: ClassVar[str] = "wrong"
    old: str = "Relu"
    new: str = "Abs"

    def apply(self, model: ir.Model, record: PassRecord) -> None:
        edit = ir.Editor(model, model.graph)
        for node in model.nodes:
            if node.op == self.old:
                made = edit.add(self.new, list(node.inputs[:1]), name=f"{node.name}_wrong", before=node)
                edit.replace_uses(node.outputs[0], made.outputs[0])
                record.changes += 1
        EliminateDead().apply(model, record)


@dataclass(frozen=True)
class AlsoWrong(Wrong):
    name: ClassVar[str] = "also-wrong"


def saved(folder: Path, body: str = BODY, **constants: np.ndarray) -> Path:
    path = folder / "model.onnx"
    onnx.save(graph(body, constants={**CONSTANTS, **constants}).to_proto(), path)
    return path


def with_passes(monkeypatch: pytest.MonkeyPatch, *wrong: GraphPass) -> None:
    monkeypatch.setattr(frontend, "fusion_rules", lambda: (*fusion_rules()[:20], *wrong, *fusion_rules()[20:]))


def compiled(path: Path, precision: str = "float") -> tuple[qcompiler.Result, dict]:
    data = path.parent / "data.npz"
    np.savez(data, **FEED)
    recipe = qcompiler.Recipe(precision=precision, bench_seconds=0.0)
    folder = path.parent / "out"
    made = qcompiler.compile(path, "onnxruntime", data, output=folder, recipe=recipe)
    return made, json.loads((folder / "report.json").read_text())


def taken_back(report: dict, name: str) -> list[str]:
    line = next(line for line in report["passes"] if line["name"] == name)
    return [refusal["reason"] for refusal in line["refusals"] if refusal["reason"].startswith("taken back: ")]


@pytest.mark.parametrize("wrong", [(Wrong(),), (Wrong(), AlsoWrong(old="Neg", new="Identity"))])
def test_a_wrong_fusion_is_taken_back_by_a_compile(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, wrong: tuple[Wrong, ...]
) -> None:
    with_passes(monkeypatch, *wrong)
    path = saved(tmp_path)
    made, report = compiled(path)
    for step in wrong:
        (reason,) = taken_back(report, step.name)
        assert reason.startswith("taken back: output 'y' differs by")
        assert f"{step.name}: {reason}" in report["notes"]
    assert not any(taken_back(report, line["name"]) for line in report["passes"] if "wrong" not in line["name"])
    assert "BatchNormalization" not in ops(made.model), "what was right is kept"
    np.testing.assert_allclose(run(made.model, FEED)[0], run(ir.load(path), FEED)[0], rtol=1e-4, atol=1e-5)


def test_without_data_numbers_are_made_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with_passes(monkeypatch, Wrong())
    path = saved(tmp_path)
    made = qcompiler.compile(path, "onnxruntime", recipe=qcompiler.Recipe(bench_seconds=0.0))
    assert any(note.startswith("wrong: taken back: ") for note in made.report.notes)


def test_a_wrong_rewrite_of_a_target_is_taken_back(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    usual = OnnxRuntime.condition

    def condition(self: OnnxRuntime, precision: str, keep_float: tuple[str, ...]) -> Conditioning:
        found = usual(self, precision, keep_float)  # type: ignore[arg-type]
        return Conditioning((*found.passes[:3], Wrong(), *found.passes[3:]), found.given, found.aliases)

    monkeypatch.setattr(OnnxRuntime, "condition", condition)
    made, report = compiled(saved(tmp_path), "int8")
    assert len(taken_back(report, "wrong")) == 1
    assert made.plan.nodes["Conv_a"].precision == "int8"
    (got,), (wanted,) = run(made.model, FEED), run(ir.load(tmp_path / "model.onnx"), FEED)
    assert np.square(wanted).mean() > 100 * np.square(wanted - got).mean()


def test_a_pass_that_others_need_cannot_be_taken_back(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    ready = frontend.front(saved(tmp_path))

    def prepared(pipeline: object, model: ir.Model, shapes: object, *, unroll: bool) -> None:
        frontend.Pipeline.graph(pipeline, model, [Wrong(), NeedsAbs()])  # type: ignore[arg-type]

    monkeypatch.setattr(frontend, "prepare", prepared)
    with pytest.raises(PassError, match=r"wrong: it changes what the model computes .* cannot do without it"):
        frontend.front(ready.path).checked(SameFunction(FEED))


@dataclass(frozen=True)
class NeedsAbs(GraphPass):
    """Relies on what `Wrong` leaves."""

    name: ClassVar[str] = "needs-abs"

    def apply(self, model: ir.Model, record: PassRecord) -> None:
        if "Abs" not in ops(model):
            raise PassError("no Abs", where=self.name)


def test_a_model_that_cannot_run_compiles_and_says_so(tmp_path: Path) -> None:
    path = saved(tmp_path, "t = Reshape (x, s) y = Neg (t)", s=np.array([1, 4, 8, 8]))
    ready = frontend.front(path).checked(SameFunction())
    (note,) = ready.pipeline.trace.notes
    assert "could not be compared" in note and "Reshape" in note


def test_models_that_came_quantized_are_checked_on_both_sides_of_that(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    body = f"""{pair("xq", "x", "xs", "xz")} wd = DequantizeLinear <axis = 0> (w1, s1, z8)
        a = Conv <pads = [1, 1, 1, 1]> (xq, wd, b1) r = Relu (a) {pair("rq", "r", "rs", "rz")} y = Neg (rq)"""
    path = tmp_path / "trained.onnx"
    onnx.save(trained(body).to_proto(), path)
    feed = {"x": normal(1, 4, 12, 12)}
    assert not frontend.front(path).checked(SameFunction(feed)).pipeline.without
    assert len(frontend.front(path).spans) == 2
    with_passes(monkeypatch, Wrong(old="Neg", new="Identity"))
    assert list(frontend.front(path).checked(SameFunction(feed)).pipeline.without) == ["wrong"]
    monkeypatch.undo()
    usual = frontend.prepare

    def prepared(pipeline: frontend.Pipeline, model: ir.Model, shapes: object, *, unroll: bool) -> None:
        usual(pipeline, model)
        pipeline.graph(model, [Wrong()])

    monkeypatch.setattr(frontend, "prepare", prepared)
    assert list(frontend.front(path).checked(SameFunction(feed)).pipeline.without) == ["wrong"]


def test_nothing_wrong_costs_two_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    runs = []

    def counted(model: ir.Model, feed: object) -> object:
        runs.append(model)
        return usual(model, feed)  # type: ignore[arg-type]

    from qcompiler.analysis import same_function

    usual = same_function.run
    monkeypatch.setattr(same_function, "run", counted)
    same = SameFunction(FEED)
    ready = frontend.front(saved(tmp_path)).checked(same)
    assert len(runs) == 2 and not ready.pipeline.without
    Drafter(ready.prepared, get("onnxruntime"), same=same).draft("int8")
    assert len(runs) <= 3
