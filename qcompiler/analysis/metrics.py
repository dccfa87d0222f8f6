"""What a model's outputs say: classes, or the number that a user's metric gives.

Class scores are the first output that holds floats, has more than one value along its last axis, and nothing but a
batch before it; (N, classes, 1, 1) counts too. A metric is a function

    metric(outputs: dict[str, array], label) -> number        higher is better

that judges the outputs of one sample; the mean over the samples counts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from qcompiler.analysis.run import is_float
from qcompiler.data import Sample
from qcompiler.data.python_values import imported
from qcompiler.errors import DataError, UsageError

Array = npt.NDArray[Any]
Metric = Callable[[dict[str, Array], Any], float]


def load_metric(metric: str | Metric) -> Metric:
    """The user's function.

    Raises:
        UsageError: the text names nothing that can be called.
    """
    if not isinstance(metric, str):
        return metric
    module, colon, name = metric.partition(":")
    if not (module and colon and name):
        raise UsageError(
            f"metric {metric!r} is neither a known name nor of the form package.module:callable",
            hint="known: top-1, top-5, mse, sqnr, cosine, spearman, perplexity, tokens, kl, agreement, f1:0.5",
        )
    try:
        found: Any = imported(metric)
    except DataError as error:
        raise UsageError(error.what, where=f"metric {metric}", hint=error.hint) from error
    if not callable(found):
        raise UsageError("is not a function", where=f"metric {metric}")
    return found  # type: ignore[no-any-return]


def title_of(metric: str | Metric) -> str:
    """How a report calls the user's function."""
    return metric if isinstance(metric, str) else str(getattr(metric, "__qualname__", type(metric).__name__))


def class_output(outputs: Mapping[str, Array]) -> str | None:
    """The output that holds class scores, judged by its values for one sample."""
    return next((name for name, array in outputs.items() if is_float(array) and _rows(array) is not None), None)


def _rows(scores: Array) -> Array | None:
    """Class scores as (rows, classes), None where they are no class scores."""
    shape = list(scores.shape)
    if len(shape) == 4 and shape[2:] == [1, 1]:
        shape = shape[:2]
    if not 1 <= len(shape) <= 2 or shape[-1] < 2 or scores.size == 0:
        return None
    return scores.reshape(-1, shape[-1])


def decisions(scores: Array) -> npt.NDArray[np.int64]:
    """The class of each row, the first of equal ones; -1 where a score is NaN."""
    rows = _rows(scores)
    if rows is None:
        return np.zeros(0, np.int64)
    numbers = rows.astype(np.float32, copy=False)
    return np.where(np.isnan(numbers).any(1), -1, numbers.argmax(1))


def best_classes(scores: Array, count: int) -> npt.NDArray[np.int64]:
    """The `count` best classes of each row, best first, the first of equal ones before the others.

    Nothing but -1 where a score is NaN.
    """
    if count == 1:
        return decisions(scores)[:, None]
    rows = _rows(scores)
    if rows is None:
        return np.zeros((0, count), np.int64)
    numbers = rows.astype(np.float32, copy=False)
    best = np.argsort(-numbers, axis=1, kind="stable")[:, :count]
    best[np.isnan(numbers).any(1)] = -1
    return best


def labels_of(sample: Sample, scores: Array) -> npt.NDArray[np.int64]:
    """The classes of one sample, as many as it has rows of scores."""
    rows = _rows(scores)
    labels = np.asarray(sample.label)
    size, classes = rows.shape if rows is not None else (0, 0)
    if labels.dtype.kind not in "iu" or labels.size != size:
        raise DataError(
            f"the label has shape {list(labels.shape)} and type {labels.dtype}, but the model gives {size} rows of"
            f" {classes} class scores",
            where=sample.name,
            hint="labels are class numbers; for anything else give --metric package.module:callable",
        )
    if labels.size and not 0 <= int(labels.min()) <= int(labels.max()) < classes:
        raise DataError(
            f"the label is {labels.reshape(-1).tolist()}, but there are {classes} classes", where=sample.name
        )
    return labels.reshape(-1).astype(np.int64)


def measured(measure: Metric, outputs: dict[str, Array], sample: Sample) -> float:
    try:
        value = float(measure(outputs, sample.label))
    except Exception as error:  # the user's code may raise anything
        raise DataError(f"the metric raised {type(error).__name__}: {error}", where=sample.name) from error
    if not math.isfinite(value):
        raise DataError(f"the metric gave {value}", where=sample.name, hint="it must give a finite number")
    return value
