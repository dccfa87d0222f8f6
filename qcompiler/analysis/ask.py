"""Which metric is meant: by name, by a function of the user, or by what the model gives.

    top-1, top-5, ...      the label, else float's decision, is among the K best classes
    mse, sqnr, cosine      of values
    spearman               of ranks
    perplexity, tokens     of language models; so are kl and agreement, with the float model whatever the labels
    f1:THRESHOLD           of masks: where the output is over the threshold
    package.module:name    the user's function of outputs and label

`NAME@OUTPUT` reads that output; else the first of floats, or the first of class scores, is read. Without a name:

    integer labels for class scores                 top-1
    integer labels, one for each position           tokens
    an output of tokens, or of scores for tokens    tokens equal to float
    rows of length 1: embeddings                    cosine against float
    class scores                                    top-1 agreement with float
    anything else                                   lowest SQNR of the outputs
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

import numpy as np

from qcompiler.analysis.measures import Agreement, Fidelity, Hits, Measure, Own
from qcompiler.analysis.measures_of_ranks import RanksInside, RanksOver
from qcompiler.analysis.measures_of_text import Divergence, Perplexity, Tokens, token_input
from qcompiler.analysis.measures_of_values import Cosine, MaskF1, SignalToNoise, SquaredError
from qcompiler.analysis.metrics import Array, Metric, class_output, load_metric, title_of
from qcompiler.analysis.run import is_float
from qcompiler.data import Sample
from qcompiler.errors import DataError, UsageError

NAMES = (
    "top-1", "top-K", "mse", "sqnr", "cosine", "spearman", "perplexity", "tokens", "kl", "agreement", "f1:THRESHOLD",
)  # fmt: skip
PLAIN = "mse|sqnr|cosine|spearman|perplexity|tokens|kl|agreement"
KNOWN = re.compile(rf"(top-(?P<best>\d+)|f1:(?P<level>[^@]+)|(?P<plain>{PLAIN}))(@(?P<output>.+))?")
UNIT_LENGTH = 1e-3

_VALUES: Mapping[str, Callable[[str, bool], Measure]] = {
    "mse": SquaredError,
    "sqnr": lambda output, labelled: SignalToNoise(output, True) if labelled else Fidelity(),
    "cosine": Cosine,
    "spearman": lambda output, labelled: RanksOver(output) if labelled else RanksInside(output),
    "perplexity": Perplexity,
    "tokens": Tokens,
    "kl": lambda output, _: Divergence(output),
    "agreement": lambda output, _: Tokens(output),
}


def check_metric(metric: str | Metric | None) -> None:
    """Refuses what names no metric, before anything runs.

    Raises:
        UsageError: saying what would do.
    """
    if isinstance(metric, str) and (known := KNOWN.fullmatch(metric)):
        if known["best"] and int(known["best"]) < 1:
            raise UsageError(f"{metric!r} counts no class", where="metric", hint="top-1, top-5, ...")
        if known["level"]:
            level_of(known["level"])
    elif metric is not None:
        load_metric(metric)


def measure_for(metric: str | Metric | None, outputs: dict[str, Array], sample: Sample) -> Measure:
    """What to ask, decided on the first sample and the float model's outputs for it.

    Raises:
        DataError: there are labels and nothing to compare them with, or no output that the metric could read.
        UsageError: `metric` names nothing that can be called.
    """
    if metric is None:
        return by_itself(outputs, sample)
    known = KNOWN.fullmatch(metric) if isinstance(metric, str) else None
    if known is None:
        return Own("", metric, title_of(metric))
    check_metric(metric)
    labelled = sample.label is not None
    if known["best"]:
        output = named(known["output"], outputs) or class_output(outputs)
        if output is None:
            raise DataError("no output of the model holds class scores", where=sample.name, hint="try another --metric")
        return (Hits if labelled else Agreement)(output, int(known["best"]))
    output = named(known["output"], outputs) or first_floats(outputs, sample, known["plain"] in ("tokens", "agreement"))
    if known["level"]:
        return MaskF1(output, labelled, level_of(known["level"]))
    return _VALUES[known["plain"]](output, labelled)


def by_itself(outputs: dict[str, Array], sample: Sample) -> Measure:
    """What to ask where nothing is said."""
    chosen, text = class_output(outputs), token_output(outputs, sample)
    if sample.label is not None:
        label = np.asarray(sample.label)
        if chosen is not None:
            return Hits(chosen)
        if text is not None and label.dtype.kind in "iu":
            return Tokens(text, True)
        raise DataError(
            "no output of the model holds class scores to compare labels with",
            where=sample.name,
            hint=f"give --metric: {', '.join(NAMES)}, or package.module:callable",
        )
    if text is not None:
        return Tokens(text)
    if chosen is None:
        return Fidelity()
    return Cosine(chosen) if is_embedding(outputs[chosen]) else Agreement(chosen)


def named(output: str | None, outputs: Mapping[str, Array]) -> str | None:
    """The output that was named."""
    if output is not None and output not in outputs:
        hint = f"the model gives {', '.join(map(repr, outputs))}"
        raise DataError(f"the model has no output {output!r}", where="--metric", hint=hint)
    return output


def first_floats(outputs: Mapping[str, Array], sample: Sample, integers: bool = False) -> str:
    """The first output of floats, else of integers where those will do."""
    found = next((name for name, array in outputs.items() if is_float(array)), None)
    if found is None and integers:
        found = next((name for name, array in outputs.items() if is_integer(array)), None)
    if found is None:
        raise DataError("no output of the model holds numbers that this metric reads", where=sample.name)
    return found


def token_output(outputs: Mapping[str, Array], sample: Sample) -> str | None:
    """The output that holds scores of tokens for each position of the input; or tokens, where there are no floats."""
    for name, array in outputs.items():
        if is_float(array) and array.ndim == 3 and array.shape[-1] > 1 and token_input(sample, array.shape[:-1]):
            return name
    if any(is_float(array) for array in outputs.values()):
        return None
    return next((name for name, array in outputs.items() if is_integer(array) and array.size), None)


def is_integer(value: object) -> bool:
    """Whether an output is a tensor of integers; it may be a sequence or a map."""
    return isinstance(value, np.ndarray) and value.dtype.kind in "iu"


def is_embedding(rows: Array) -> bool:
    """Whether every row has length 1, with values under 0: a direction, not scores of classes."""
    values = rows.reshape(-1, rows.shape[1] if rows.ndim > 1 else rows.size).astype(np.float64)
    lengths = np.linalg.norm(values, axis=1)
    return bool((np.abs(lengths - 1) < UNIT_LENGTH).all() and (values < 0).any(1).all())


def level_of(text: str) -> float:
    """The threshold of a mask."""
    try:
        return float(text)
    except ValueError as error:
        raise UsageError(f"{text!r} is not a number", where="metric", hint="for instance f1:0.5") from error
