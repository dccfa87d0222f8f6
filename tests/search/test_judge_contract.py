"""The contract from end to end: real models, spoilt more and more; what ships keeps it, or it is said to be broken."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from qcompiler import compiler, ir
from qcompiler.analysis import Runner, SessionConfig, evaluate
from qcompiler.data import open_source
from qcompiler.errors import UsageError
from qcompiler.frontend import front
from qcompiler.recipe import Recipe
from qcompiler.search.contest import Contract
from qcompiler.search.evaluations import Evaluations
from qcompiler.search.judge import Verdicts, judge
from qcompiler.search.limit import UNSTATED, Limit

CNN = Path(__file__).resolve().parents[2] / "models" / "digits_cnn"


class Spoilt:
    """A candidate whose weights are off by a share of their size."""

    def __init__(self, model: ir.Model, precision: str) -> None:
        self.model = self.runs = model
        self.precision, self.method, self.placed, self.refused = precision, "", 0, ""


@pytest.fixture(scope="module")
def spoilt(tmp_path_factory: pytest.TempPathFactory) -> list[Spoilt]:
    """Noise of 2 to 60 % in the weights, and float."""
    found, random = [], np.random.default_rng(0)
    for share in (0.6, 0.3, 0.15, 0.02):
        proto = onnx.load(CNN / "model.onnx")
        for tensor in proto.graph.initializer:
            values = numpy_helper.to_array(tensor)
            if values.ndim > 1 and values.dtype == np.float32:
                noise = random.normal(0, share * values.std(), values.shape)
                tensor.CopyFrom(numpy_helper.from_array((values + noise).astype(np.float32), tensor.name))
        path = tmp_path_factory.mktemp("spoilt") / "model.onnx"
        onnx.save(proto, path)
        found.append(Spoilt(ir.load(path), "int8"))
    original = ir.load(CNN / "model.onnx")
    return [*found, Spoilt(original, "float"), Spoilt(original, "float")]


def judged(candidates: list[Spoilt], limit: Limit, *, insist: bool = False, first: int | None = None) -> Verdicts:
    source = open_source(CNN / "evaluation.npz", front(CNN / "model.onnx").inputs, limit=first)
    original = candidates[-1].model
    return judge(
        original, candidates, evaluations=Evaluations(original, source), config=SessionConfig(),  # type: ignore[arg-type]
        contract=Contract(limit, 0.95), insist=insist, floor=-1000.0, seconds=0, bench_feeds=(),
        tell=lambda done, total: None,
    )  # fmt: skip


@pytest.mark.parametrize("text", ["1%", "0.5%", "3pt", "2% relative", "none"])
def test_however_bad_the_candidates_are_no_broken_promise_is_shipped(spoilt: list[Spoilt], text: str) -> None:
    """As after a search that was misled: candidates in a bad order. The drop is counted anew, apart from the judge."""
    limit = Limit.of(text)
    found = judged(spoilt, limit)
    shipped = spoilt[found.choice.index]
    source = open_source(CNN / "evaluation.npz", front(CNN / "model.onnx").inputs)
    counted = evaluate(Runner(spoilt[-1].model), {"it": Runner(shipped.model)}, source)["it"]
    drop = float(counted.float_scores.mean() - counted.scores.mean())
    allowed = limit.in_units_of(counted.measure, counted.base)
    assert drop <= (0.02 if allowed is None else allowed)
    assert found.choice.verdict in (("informative",) if allowed is None else ("holds", "undecided"))
    assert found.outcomes[0].judged.drop is not None and found.outcomes[0].judged.drop > 0.1
    assert found.choice.reasons[0].startswith("broken: the metric falls by")
    result = found.outcomes[0].result
    assert result is not None and (result.early or text == "none")  # broken by far: 64 samples are enough


def test_a_precision_asked_for_by_name_is_reported_broken(spoilt: list[Spoilt]) -> None:
    only = [spoilt[0], *spoilt[-2:]]
    for limit in (Limit.of("1%"), UNSTATED):
        found = judged(only, limit, insist=True)
        assert found.choice.index == 1 and found.choice.broken == (0,)
        assert found.choice.reasons[0].startswith("broken")


def test_few_samples_say_how_many_are_needed(spoilt: list[Spoilt]) -> None:
    found = judged([spoilt[3], *spoilt[-2:]], Limit.of("1%"), first=60)
    result = found.outcomes[0].result
    assert found.choice.verdict == "undecided" and result is not None
    assert result.needed is not None and 300 <= result.needed <= 303


@pytest.mark.parametrize(
    ("recipe", "status", "verdict"),
    [
        (Recipe(precision="int8"), 0, "undecided"),
        (Recipe(precision="int8", max_drop=Limit.of("1%")), 4, "undecided"),
        (Recipe(precision="int8", max_drop=Limit.of("none")), 0, "informative"),
        (Recipe(precision="int8", max_drop=Limit.of("30%")), 0, "holds"),
        (Recipe(precision="int8", metric="perplexity@logits", max_drop=Limit.of("1")), 0, "holds"),
        (Recipe(precision="int8", metric="mse", max_drop=Limit.of("1e-6")), 3, "holds"),
    ],
)
def test_exit_statuses_of_a_compile(recipe: Recipe, status: int, verdict: str, tmp_path: Path) -> None:
    from dataclasses import replace

    data = np.load(CNN / "evaluation.npz")
    labels = {} if recipe.metric == "mse" else {"labels": data["labels"][:30]}
    np.savez(tmp_path / "few.npz", image=data["image"][:30], **labels)
    result = compiler.compile(
        CNN / "model.onnx", "onnxruntime", str(CNN / "calibration.npz"), evaluation=str(tmp_path / "few.npz"),
        recipe=replace(recipe, bench_seconds=0, samples=16),
    )  # fmt: skip
    accuracy = result.report.accuracy
    assert (result.exit_status, accuracy.verdict) == (status, verdict), accuracy
    assert accuracy.limit == str(recipe.max_drop) and accuracy.stated == recipe.max_drop.stated
    notes = [note for note in result.report.notes if "cannot show that the loss is within 1%" in note]
    assert len(notes) == (1 if verdict == "undecided" and not recipe.max_drop.stated else 0)
    if verdict == "undecided":
        assert accuracy.samples == 30 and (accuracy.samples_needed or 0) >= 299


def test_a_limit_that_does_not_fit_the_metric_is_said_to(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="perplexity has no points"):
        compiler.compile(
            CNN / "model.onnx", "onnxruntime", str(CNN / "calibration.npz"),
            recipe=Recipe(metric="perplexity", max_drop=Limit.of("1pt"), bench_seconds=0, samples=8),
        )  # fmt: skip
