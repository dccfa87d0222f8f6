"""Metrics by name: their values by hand, their direction, what they read, and what they refuse."""

from __future__ import annotations

import math
import pickle
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy.stats import spearmanr

from qcompiler.analysis.ask import check_metric, measure_for
from qcompiler.analysis.evaluate import Evaluation, evaluate
from qcompiler.analysis.measures import Fidelity, Measure
from qcompiler.analysis.measures_of_ranks import spearman
from qcompiler.data import Sample
from qcompiler.errors import DataError, UsageError

Arrays = dict[str, npt.NDArray[Any]]


class Fixed:
    """A model that gives fixed outputs, one after the other."""

    def __init__(self, *outputs: Arrays) -> None:
        self.outputs = outputs

    def run(self, feed: Any, *, sample: str = "") -> Arrays:
        return self.outputs[int(sample)]


def judged(
    metric: str | None, wanted: list[Arrays], got: list[Arrays], labels: list[Any] | None = None, **feed: Any
) -> Evaluation:
    """The evaluation of a model that gives `got` where the float model gives `wanted`."""
    samples = [Sample(dict(feed), labels[i] if labels else None, str(i)) for i in range(len(wanted))]
    return evaluate(Fixed(*wanted), {"it": Fixed(*got)}, samples, metric=metric)["it"]


def ys(*rows: Any) -> list[Arrays]:
    return [{"y": np.asarray(row, np.float32)} for row in rows]


def loss(evaluation: Evaluation) -> float:
    before, after = (rows.reshape(len(rows), -1) for rows in (evaluation.float_scores, evaluation.scores))
    return float(evaluation.measure.loss(before, after))


WANTED = ys([[5, 4, 3, 2]], [[1, 9, 2, 3]], [[0, 1, 2, 3]])
GOT = ys([[4, 5, 3, 2]], [[1, 2, 9, 3]], [[math.nan, 1, 2, 3]])


def test_top_k() -> None:
    labels = [0, 1, 2]
    first = judged("top-1", WANTED, GOT, labels)
    assert (first.metric, first.float_value, first.value, loss(first)) == ("top-1", 2 / 3, 0.0, 2 / 3)
    second = judged("top-2", WANTED, GOT, labels)
    assert (second.metric, second.float_value, second.value) == ("top-2", 1.0, 1 / 3)
    alone = judged("top-2", WANTED, GOT)
    assert (alone.metric, alone.float_value, alone.value) == ("top-2 agreement with float", 1.0, 1 / 3)
    assert alone.agreement == 0.0
    ties = judged("top-1", ys([[1, 1, 0]]), ys([[0, 1, 1]]), [0])
    assert (ties.float_value, ties.value) == (1.0, 0.0)


def test_squared_error() -> None:
    labelled = judged("mse", ys([1, 2], [3, 4]), ys([1, 1], [3, 4]), [np.float32([1, 2]), np.float32([3, 5])])
    assert (labelled.metric, labelled.float_value, labelled.value, loss(labelled)) == ("mse", 0.25, 0.5, 0.25)
    assert judged("mse", ys([1, 2]), ys([1, 1])).value == 0.5
    assert math.isnan(judged("mse", ys([1, 2]), ys([1])).value)


def test_signal_to_noise() -> None:
    labels = [np.float32([3, 4])]
    found = judged("sqnr", ys([3, 4.5]), ys([3, 5]), labels)
    assert found.float_value == pytest.approx(20) and found.value == pytest.approx(10 * math.log10(25))
    assert loss(found) == pytest.approx(10 * math.log10(4)) and found.measure.unit == "dB"
    alone = judged("sqnr", ys([3, 4]), ys([3, 4.5]))
    assert alone.metric == "lowest output SQNR [dB]" and isinstance(alone.measure, Fidelity)
    assert (alone.value, loss(alone)) == (pytest.approx(20), pytest.approx(0.01))


def test_cosine() -> None:
    found = judged("cosine", ys([3, 4], [1, 0], [0, 0]), ys([4, 3], [-2, 0], [0, 0]))
    assert (found.metric, found.float_value) == ("cosine against float", 1.0)
    assert found.scores.ravel() == pytest.approx([0.96, -1, 1]) and loss(found) == pytest.approx(1 - 0.96 / 3)
    assert judged("cosine", ys([3, 4]), ys([math.nan, 0])).value == -1.0


def test_masks() -> None:
    wanted, got = ys([[0.9, 0.4, 0.1, 0.6]], [[0.1, 0.1, 0.1, 0.1]]), ys([[0.9, 0.1, 0.4, 0.1]], [[0.5, 0, 0, 0]])
    found = judged("f1:0.3", wanted, got)
    assert (found.metric, found.float_value) == ("f1:0.3 against float", 1.0)
    assert found.value == 2 * 1 / (3 + 3)  # of 3 and 3 values over 0.3, in all samples, one is shared
    labelled = judged("f1:0.5", wanted, got, [np.array([[1, 1, 0, 0]]), np.array([[0, 0, 0, 0]])])
    assert (labelled.metric, labelled.float_value, labelled.value) == ("f1:0.5", 0.5, 2 / 3)
    assert judged("f1:0.5", ys([0.0]), ys([0.0])).value == 1.0


def logits(*tokens: int, vocabulary: int = 4) -> npt.NDArray[np.float32]:
    return np.eye(vocabulary, dtype=np.float32)[list(tokens)][None] * 3


def test_tokens() -> None:
    ids, mask = np.array([[1, 2, 3]]), np.array([[1, 1, 0]])
    wanted, got = [{"y": logits(2, 3, 1)}], [{"y": logits(2, 1, 0)}]
    assert judged("tokens", wanted, got, ids=ids).value == 1 / 3
    found = judged(None, wanted, got, ids=ids, attention_mask=mask)
    assert (found.metric, found.float_value, found.value) == ("tokens equal to float", 1.0, 0.5)
    labelled = judged(None, wanted, got, [np.array([[2, 1, -1]])], ids=ids)
    assert (labelled.metric, labelled.float_value, labelled.value, loss(labelled)) == ("tokens", 0.5, 1.0, -0.5)
    whole = judged(None, [{"y": np.array([[4, 5]])}], [{"y": np.array([[4, 6]])}], x=np.float32([1]))
    assert (whole.metric, whole.value) == ("tokens equal to float", 0.5)


def test_perplexity() -> None:
    ids = np.array([[1, 2, 3]])
    wanted, got = [{"y": logits(2, 3, 1)}], [{"y": logits(2, 1, 1)}]
    found = judged("perplexity", wanted, got, ids=ids)
    right = -math.log(math.exp(3) / (math.exp(3) + 3))
    assert found.float_value == pytest.approx(math.exp(right))
    assert found.value == pytest.approx(math.exp(right + 3 / 2)) and loss(found) > 0
    labelled = judged("perplexity", wanted, got, [np.array([[2, -100, 1]])], ids=ids)
    assert labelled.value == labelled.float_value == pytest.approx(math.exp(right))
    masked = judged("perplexity", wanted, got, ids=ids, attention_mask=np.array([[1, 1, 0]]))
    assert masked.value == masked.float_value == pytest.approx(math.exp(right))
    large = judged("perplexity", [{"y": logits(2, 3, 1) * 1e30}], [{"y": logits(2, 3, 1) * 1e30}], ids=ids)
    assert large.value == 1.0
    assert math.isnan(judged("perplexity", wanted, [{"y": logits(2, 1, 1) * np.nan}], ids=ids).value)
    with pytest.raises(DataError, match="no integer input has the shape of the positions"):
        judged("perplexity", wanted, got, x=np.float32([1]))
    with pytest.raises(DataError, match=r"token 7 is not one of 4"):
        judged("perplexity", wanted, got, [np.array([[7, 1, 1]])], ids=ids)


def test_spearman() -> None:
    random = np.random.default_rng(0)
    x, y = random.integers(0, 6, 40).astype(float), random.integers(0, 6, 40).astype(float)
    assert float(spearman(x, y)) == pytest.approx(spearmanr(x, y).statistic)
    assert spearman(np.stack([x, y]), np.stack([y, y])) == pytest.approx([spearmanr(x, y).statistic, 1.0])
    values = judged("spearman", ys([1], [2], [3], [4]), ys([1], [3], [2], [4]), [10, 20, 30, 40])
    assert (values.metric, values.float_value, values.value) == ("spearman", 1.0, pytest.approx(0.8))
    pairs = judged(
        "spearman",
        ys([[1, 0], [1, 0]], [[1, 0], [0, 1]], [[1, 0], [1, 1]]),
        ys(*[[[1, 0], [1, 0]]] * 3),
        [5.0, 1.0, 3.0],
    )
    assert (pairs.float_value, pairs.value) == (1.0, 0.0)
    alone = judged("spearman", ys([1, 2, 3]), ys([1, 3, 2]))
    assert (alone.metric, alone.value) == ("spearman against float", 0.5)
    with pytest.raises(DataError, match="neither one value nor two rows"):
        judged("spearman", ys([1, 2, 3]), ys([1, 2, 3]), [1])


def test_what_is_asked_where_nothing_is_said() -> None:
    unit = np.float32([[0.6, -0.8]])
    cases: list[tuple[Arrays, Any, dict[str, Any], str]] = [
        ({"y": np.float32([[0.6, 0.8]])}, None, {}, "top-1 agreement with float"),
        ({"y": unit}, None, {}, "cosine against float"),
        ({"y": unit}, 1, {}, "top-1"),
        ({"y": np.zeros((1, 2, 3, 3), np.float32)}, None, {}, "lowest output SQNR [dB]"),
        ({"y": logits(1, 2)}, None, {"ids": np.array([[1, 2]])}, "tokens equal to float"),
        ({"y": logits(1, 2)}, None, {"mask": np.array([[1, 2]])}, "lowest output SQNR [dB]"),
        ({"y": np.array([[3]])}, None, {}, "tokens equal to float"),
    ]  # fmt: skip
    for outputs, label, feed, title in cases:
        assert measure_for(None, outputs, Sample(feed, label, "0")).title == title


def test_an_output_may_be_named() -> None:
    outputs: Arrays = {"a": np.float32([[1, 2]]), "b": np.float32([[3, 4]])}
    assert measure_for("mse@b", outputs, Sample({}, None, "0")).output == "b"
    assert measure_for("f1:0.5@b", outputs, Sample({}, None, "0")).output == "b"
    assert measure_for("top-1@b", outputs, Sample({}, 1, "0")).output == "b"
    assert measure_for("mse", outputs, Sample({}, None, "0")).output == "a"
    with pytest.raises(DataError, match=r"no output 'c' \(the model gives 'a', 'b'\)"):
        measure_for("mse@c", outputs, Sample({}, None, "0"))


@pytest.mark.parametrize("metric", ["top-1", "top-3", "mse", "sqnr", "cosine", "spearman", "f1:0.5"])
def test_float_beside_itself_loses_nothing_and_measures_travel(metric: str) -> None:
    found = judged(metric, WANTED, WANTED)
    assert loss(found) == 0 and pickle.loads(pickle.dumps(found.measure)) == found.measure
    assert isinstance(found.measure, Measure)


@pytest.mark.parametrize(
    ("metric", "words"),
    [
        ("top-0", "counts no class"),
        ("f1:much", "'much' is not a number"),
        ("accuracy", "neither a known name nor of the form package.module:callable"),
    ],
)
def test_names_that_mean_nothing(metric: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        check_metric(metric)


def test_labels_and_outputs_that_do_not_fit() -> None:
    for metric, label, words in (
        ("mse", np.float32([1, 2, 3]), r"the label has shape \[3\].* output 'y' has shape \[1, 4\]"),
        ("tokens", np.array([1, 2]), r"the label has shape \[2\].* tokens of shape \[1\]"),
        ("spearman", np.array([1, 2]), r"the label has shape \[2\]"),
    ):
        with pytest.raises(DataError, match=words):
            judged(metric, WANTED, GOT, [label] * 3)
    with pytest.raises(DataError, match="no output of the model holds numbers"):
        judged("mse", [{"y": np.array([1])}], [{"y": np.array([1])}])
    with pytest.raises(DataError, match="no output of the model holds class scores"):
        judged("top-1", ys(1.0), ys(1.0))


def test_divergence_and_agreement_are_with_float_whatever_the_labels() -> None:
    ids, mask, labels = np.array([[1, 2, 3]]), np.array([[1, 1, 0]]), [np.array([[0, 0, 0]])]
    wanted, got = [{"y": logits(2, 3, 1)}], [{"y": logits(2, 1, 0)}]
    p = math.exp(3) / (math.exp(3) + 3)
    moved = 3 * (p - math.exp(0) / (math.exp(3) + 3))  # the peak elsewhere
    found = judged("kl", wanted, got, labels, ids=ids)
    assert (found.metric, found.float_value) == ("KL divergence from float", 0.0)
    assert found.value == pytest.approx(moved * 2 / 3) and loss(found) == found.value
    assert judged("kl", wanted, got, labels, ids=ids, attention_mask=mask).value == pytest.approx(moved / 2)
    assert math.isnan(judged("kl", wanted, [{"y": logits(2, 1)}], ids=ids).value)
    assert judged("kl", wanted, wanted, ids=ids).value == 0.0
    agreement = judged("agreement", wanted, got, labels, ids=ids)
    assert (agreement.metric, agreement.float_value, agreement.value) == ("tokens equal to float", 1.0, 1 / 3)
