"""Evaluation beside the float model: classes, agreement, metrics of the user, SQNR; and labels that do not fit."""

from __future__ import annotations

import math
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qcompiler.analysis import Evaluation, Runner, evaluate, measure_for, records, sweep
from qcompiler.analysis.ask import check_metric
from qcompiler.analysis.evaluate import total
from qcompiler.analysis.metrics import class_output
from qcompiler.data import Sample
from qcompiler.errors import DataError, UsageError
from tests.graphs import parse

SCORES = "g (float[N,3] x) => (float[N,3] y) { y = Mul(x, k) }"
FLOAT = Runner(parse(SCORES, {"k": np.float32([1, 1, 1])}))
SECOND = Runner(parse(SCORES, {"k": np.float32([1, 2, 1])}))
BROKEN = Runner(parse(SCORES, {"k": np.float32([np.nan, 1, 1])}))

ROWS = [[3, 2, 1], [1, 2, 3], [9, 1, 2], [1, 5, 2]]
"""Classes by FLOAT: 0 2 0 1; by SECOND: 1 1 0 1."""


def samples(labels: list[Any] | None = None) -> list[Sample]:
    rows = [np.float32([row]) for row in ROWS]
    return [Sample({"x": row}, labels[i] if labels else None, f"s[{i}]") for i, row in enumerate(rows)]


def test_top_1_with_labels() -> None:
    result = evaluate(FLOAT, {"a": SECOND, "b": FLOAT}, samples([0, 1, 0, 0]))["a"]
    assert (result.metric, result.output, result.samples) == ("top-1", "y", 4)
    assert result.float_scores.tolist() == [True, False, True, False]
    assert result.scores.tolist() == [False, True, True, False]
    assert result.scores.dtype == np.bool_
    assert (result.float_value, result.value, result.agreement) == (0.5, 0.5, 0.5)


def test_agreement_without_labels() -> None:
    results = evaluate(FLOAT, {"a": SECOND, "b": FLOAT}, samples())
    assert results["a"].metric == "top-1 agreement with float"
    assert (results["a"].float_value, results["a"].value) == (1.0, 0.5)
    assert results["a"].scores.tolist() == [False, False, True, True]
    assert results["b"].value == 1.0 and results["b"].output_sqnr_db == {"y": math.inf}


def test_sqnr_of_the_outputs_is_over_all_samples() -> None:
    result = evaluate(FLOAT, {"a": SECOND}, samples())["a"]
    rows = np.float64(ROWS)
    wanted = 10 * math.log10((rows**2).sum() / (rows[:, 1] ** 2).sum())
    assert result.output_sqnr_db == {"y": pytest.approx(wanted)}


def test_a_batch_has_one_label_per_row() -> None:
    sample = Sample({"x": np.float32(ROWS)}, np.array([0, 1, 0, 0]), "batch")
    result = evaluate(FLOAT, {"a": SECOND}, [sample])["a"]
    assert result.samples == 1 and result.scores.tolist() == [False, True, True, False]


def test_nan_agrees_with_nothing_and_is_never_right() -> None:
    result = evaluate(FLOAT, {"a": BROKEN}, samples([0, 2, 0, 1]))["a"]
    assert (result.float_value, result.value, result.agreement) == (1.0, 0.0, 0.0)
    assert result.output_sqnr_db == {"y": -math.inf}


@pytest.mark.parametrize(
    ("label", "words"),
    [
        (3, r"^s\[0\]: the label is \[3\], but there are 3 classes"),
        (-1, r"^s\[0\]: the label is \[-1\], but there are 3 classes"),
        (np.array([0, 1]), r"^s\[0\]: the label has shape \[2\] and type int64, but the model gives 1 rows of 3 class"),
        (np.float32([0.5]), r"the label has shape \[1\] and type float32"),
    ],
)
def test_labels_that_do_not_fit(label: Any, words: str) -> None:
    with pytest.raises(DataError, match=words):
        evaluate(FLOAT, {"a": SECOND}, samples([label] * 4))


SHAPES = {
    "ids": np.zeros((1, 5), np.int64),
    "map": np.zeros((1, 5, 5), np.float32),
    "one": np.zeros((1, 1), np.float32),
    "pooled": np.zeros((1, 5, 1, 1), np.float32),
    "plain": np.zeros((1, 5), np.float32),
}


def test_the_class_output_is_the_first_that_can_be() -> None:
    assert class_output(SHAPES) == "pooled"
    assert class_output({name: SHAPES[name] for name in ("ids", "one", "plain")}) == "plain"
    assert class_output({name: SHAPES[name] for name in ("ids", "map", "one")}) is None
    assert class_output({"vector": np.zeros(4, np.float16)}) == "vector"


def test_without_classes_the_lowest_sqnr_counts() -> None:
    text = "g (float[1,2,2] x) => (float[1,2,2] y, float[1,2,2] z) { y = Mul(x, k)  z = Neg(x) }"
    first, second = (Runner(parse(text, {"k": np.float32(k)})) for k in (1, 1.1))
    source = [Sample({"x": np.ones((1, 2, 2), np.float32)}, None, "one")]
    result = evaluate(first, {"a": second}, source)["a"]
    assert (result.metric, result.output, result.agreement) == ("lowest output SQNR [dB]", "", None)
    assert result.value == pytest.approx(20, abs=1e-4) and result.float_value == math.inf
    assert result.output_sqnr_db["z"] == math.inf
    assert float(result.measure.loss(result.float_scores, result.scores)) == pytest.approx(0.01, rel=1e-5)
    with pytest.raises(DataError, match=r"^one: no output of the model holds class scores .* \(give --metric"):
        evaluate(first, {"a": second}, [Sample(source[0].feed, 1, "one")])


def second_score(outputs: Mapping[str, np.ndarray], label: Any) -> float:
    return float(outputs["y"][0, 1]) * label


def test_a_metric_of_the_user() -> None:
    result = evaluate(FLOAT, {"a": SECOND}, samples([1, 1, 2, 0]), metric=second_score)["a"]
    assert result.metric == "second_score"
    assert result.float_scores.tolist() == [2, 2, 2, 0] and result.scores.tolist() == [4, 4, 4, 0]
    assert (result.float_value, result.value, result.agreement) == (1.5, 3.0, None)


def test_a_metric_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "judges_of_mine.py").write_text(
        "def peak(outputs, label):\n    return outputs['y'].max()\n\n"
        "def bad(outputs, label):\n    return 1 / 0\n\n"
        "number = 3\n"
    )
    monkeypatch.chdir(tmp_path)
    result = evaluate(FLOAT, {"a": SECOND}, samples(), metric="judges_of_mine:peak")["a"]
    assert (result.metric, result.float_value, result.value) == ("judges_of_mine:peak", 5.0, 6.75)
    with pytest.raises(DataError, match=r"^s\[0\]: the metric raised ZeroDivisionError: division by zero"):
        evaluate(FLOAT, {"a": SECOND}, samples(), metric="judges_of_mine:bad")
    for name, words in (
        ("judges_of_mine", "is neither a known name nor of the form package.module:callable"),
        ("judges_of_mine:missing", "has no 'missing'"),
        ("no_such_module_here:f", "No module named 'no_such_module_here'"),
        ("judges_of_mine:number", "is not a function"),
    ):
        with pytest.raises(UsageError, match=words):
            check_metric(name)


def test_a_metric_must_give_finite_numbers() -> None:
    with pytest.raises(DataError, match=r"^s\[0\]: the metric gave nan"):
        evaluate(FLOAT, {"a": SECOND}, samples(), metric=lambda outputs, label: math.nan)


def test_each_model_runs_once_per_sample() -> None:
    calls: list[str] = []

    class Counted(Runner):
        def run(self, feed: Mapping[str, np.ndarray], *, sample: str = "") -> dict[str, np.ndarray]:
            calls.append(sample)
            return super().run(feed, sample=sample)

    model = parse(SCORES, {"k": np.float32([1, 1, 1])})
    evaluate(Counted(model), {"a": SECOND, "b": SECOND}, samples())
    assert calls == ["s[0]", "s[1]", "s[2]", "s[3]"]


def test_no_samples() -> None:
    with pytest.raises(DataError, match="holds no samples"):
        evaluate(FLOAT, {"a": SECOND}, [])


@pytest.mark.parametrize("labels", [None, [0, 1, 0, 0]])
def test_shards_give_the_evaluation_of_the_whole(labels: list[Any] | None) -> None:
    every = samples(labels)
    whole = evaluate(FLOAT, {"a": SECOND}, every)["a"]
    measure = measure_for(None, FLOAT.run(every[0].feed), every[0])
    shards = [records(FLOAT, SECOND, every[start : start + 2], measure=measure) for start in (0, 2)]
    sent = [pickle.loads(pickle.dumps(shard)) for shard in shards]
    first, second = (Evaluation.of(pickle.loads(pickle.dumps(measure)), shard) for shard in sent)
    joined = first.merge(second)
    assert figures(joined) == figures(whole)
    assert [record.sample for record in joined.records] == ["s[0]", "s[1]", "s[2]", "s[3]"]


def figures(evaluation: Evaluation) -> tuple[Any, ...]:
    of_scores = evaluation.float_scores.tobytes(), evaluation.scores.tobytes()
    return evaluation.metric, evaluation.value, evaluation.agreement, dict(evaluation.output_sqnr_db), of_scores


def test_a_candidate_that_is_taken_out_runs_no_more() -> None:
    candidates = {"a": SECOND, "b": FLOAT}
    seen = []
    for _, found in sweep(FLOAT, candidates, samples()):
        seen.append(list(found))
        candidates.pop("b", None)
    assert seen == [["a", "b"], ["a"], ["a"], ["a"]]


def test_powers_too_large_for_a_number_are_infinite() -> None:
    assert total([1.7e308] * 3) == math.inf
    assert total([1e16, 1.0, -1e16]) == 1.0
