"""Metrics of language models, whose output holds scores of the next token: (..., positions, tokens).

    tokens        share of positions whose best token is the right one: the label's, else the float model's
    agreement     the same, the float model's whatever the labels say
    perplexity    exp(mean of -log softmax(scores)[right token]); the label's tokens, else the next ones of the input
    kl            mean of sum_t p_t (log p_t - log q_t), p = softmax(scores) of the float model, q of the other, in nats

A label under 0 stands for a position that does not count, and so does a 0 in an integer input with "mask" in its name.
The positions of one text depend on each other, so texts, not positions, are what is drawn again for the bounds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from qcompiler.analysis.measures import F64, Measure, Unit
from qcompiler.analysis.metrics import Array
from qcompiler.analysis.run import is_float
from qcompiler.data import Sample
from qcompiler.errors import DataError

IGNORED = -1


@dataclass(frozen=True)
class Tokens(Measure):
    """Exact agreement of tokens; an output of integers holds tokens itself."""

    labelled: bool = False

    @property
    def title(self) -> str:
        return "tokens" if self.labelled else "tokens equal to float"

    def scores(self, outputs: dict[str, Array], wanted: dict[str, Array], sample: Sample) -> Array:
        expected = chosen_tokens(wanted[self.output])
        right = labels_at(sample, expected.shape) if self.labelled else expected
        right = np.where(counting(sample, right.shape), right, IGNORED)
        found, counted = chosen_tokens(outputs[self.output]), right >= 0
        hits = (found == right) & counted if found.shape == right.shape else np.zeros(1, np.bool_)
        return np.array([[np.count_nonzero(hits), np.count_nonzero(counted)]], np.float64)

    def value(self, rows: Array) -> F64:
        total = rows.sum(-2)
        return np.asarray(np.where(total[..., 1] == 0, 1.0, total[..., 0] / np.maximum(total[..., 1], 1.0)))


@dataclass(frozen=True)
class Perplexity(Measure):
    """Perplexity of the right tokens."""

    labelled: bool = False
    higher: ClassVar[bool] = False
    unit: ClassVar[Unit] = "number"
    title: ClassVar[str] = "perplexity"

    def scores(self, outputs: dict[str, Array], wanted: dict[str, Array], sample: Sample) -> Array:
        scores, shape = outputs[self.output], wanted[self.output].shape[:-1]
        right = labels_at(sample, shape) if self.labelled else next_tokens(sample, shape)
        right = np.where(counting(sample, shape), right, IGNORED).reshape(-1)
        if scores.shape != wanted[self.output].shape:
            return np.array([[math.nan, 1.0]])
        rows = scores.reshape(-1, scores.shape[-1]).astype(np.float64)[right >= 0]
        picked = right[right >= 0]
        if picked.size and int(picked.max()) >= rows.shape[1]:
            raise DataError(f"token {int(picked.max())} is not one of {rows.shape[1]}", where=sample.name)
        rows -= rows.max(-1, keepdims=True, initial=-np.inf)
        surprise = np.log(np.exp(rows).sum(-1)) - rows[np.arange(picked.size), picked]
        return np.array([[float(surprise.sum()), picked.size]])

    def value(self, rows: Array) -> F64:
        total = rows.sum(-2)
        with np.errstate(over="ignore"):
            return np.asarray(np.exp(total[..., 0] / np.maximum(total[..., 1], 1.0)))


@dataclass(frozen=True)
class Divergence(Measure):
    """KL divergence of the next token's distribution from the float model's; that of the float model is 0."""

    higher: ClassVar[bool] = False
    unit: ClassVar[Unit] = "number"
    title: ClassVar[str] = "KL divergence from float"

    def scores(self, outputs: dict[str, Array], wanted: dict[str, Array], sample: Sample) -> Array:
        expected, found = wanted[self.output], outputs[self.output]
        if found.shape != expected.shape or found.ndim < 2:
            return np.array([[math.nan, 1.0]])
        counts = counting(sample, expected.shape[:-1])
        p, q = (log_softmax(scores[counts]) for scores in (expected, found))
        return np.array([[float((np.exp(p) * (p - q)).sum()), len(p)]])

    def value(self, rows: Array) -> F64:
        total = rows.sum(-2)
        return np.asarray(total[..., 0] / np.maximum(total[..., 1], 1.0))


def log_softmax(scores: Array) -> F64:
    """log softmax along the last axis, in float64."""
    wide = scores.astype(np.float64)
    wide -= wide.max(-1, keepdims=True, initial=-np.inf)
    return np.asarray(wide - np.log(np.exp(wide).sum(-1, keepdims=True)))


def chosen_tokens(output: Array) -> npt.NDArray[np.int64]:
    """The best token of each position, -1 where a score is NaN."""
    if not is_float(output):
        return output.astype(np.int64)
    scores = output.astype(np.float32, copy=False)
    return np.where(np.isnan(scores).any(-1), -1, scores.argmax(-1))


def labels_at(sample: Sample, shape: tuple[int, ...]) -> npt.NDArray[np.int64]:
    """The label as tokens, one for each position."""
    label = np.asarray(sample.label)
    if label.dtype.kind not in "iu" or label.size != math.prod(shape):
        raise DataError(
            f"the label has shape {list(label.shape)} and type {label.dtype}, but the model gives tokens of shape"
            f" {list(shape)}",
            where=sample.name,
            hint="labels are numbers of tokens, one for each position, or -1",
        )
    return label.reshape(shape).astype(np.int64)


def next_tokens(sample: Sample, shape: tuple[int, ...]) -> npt.NDArray[np.int64]:
    """The token that follows each position in the input of tokens; none does at the end."""
    name = token_input(sample, shape)
    if name is None:
        raise DataError(
            f"no integer input has the shape of the positions, {list(shape)}, so there are no next tokens",
            where=sample.name,
            hint="give labels",
        )
    tokens = sample.feed[name].astype(np.int64)
    last = np.full((*shape[:-1], 1), IGNORED)
    follows = counting(sample, shape)[..., 1:]
    return np.concatenate([np.where(follows, tokens[..., 1:], IGNORED), last], -1)


def token_input(sample: Sample, shape: tuple[int, ...]) -> str | None:
    """The first integer input of that shape that is no mask, no kind of token and no position."""
    for name, array in sample.feed.items():
        other = any(word in name.lower() for word in ("mask", "type", "position"))
        if array.dtype.kind in "iu" and array.shape == shape and shape and not other:
            return name
    return None


def counting(sample: Sample, shape: tuple[int, ...]) -> npt.NDArray[np.bool_]:
    """The positions that a mask among the inputs lets count."""
    counts = np.ones(shape, np.bool_)
    for name, array in sample.feed.items():
        if "mask" in name.lower() and array.dtype.kind in "iub" and array.shape == shape:
            counts &= array != 0
    return counts
