"""What a language model lost, and how fast it speaks: beside perplexity, for models whose output scores the next token.

    KL          mean over positions of sum_t p_t (log p_t - log q_t), p of the float model, q of the other
    agreement   share of positions whose best token is the same
    prompt      tokens a second of one run over the first sample as it is
    step        tokens a second, one token at a time, behind the tokens of that sample

A step needs a cache: inputs `past_*` that the outputs `present*` of the same name fill. Masks grow with it, positions
go on; where there is an input that this does not tell the value of, no step is timed.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt

from qcompiler.analysis.evaluate import Runs
from qcompiler.analysis.measures_of_text import counting, log_softmax, token_input
from qcompiler.analysis.run import Runner
from qcompiler.data import Sample

Feed = dict[str, npt.NDArray[Any]]
SAMPLES = 32
RUNS = 9


@dataclass(frozen=True)
class Speech:
    """Tokens a second; None where it was not timed."""

    prompt: float | None
    step: float | None


def divergence(
    reference: Runs, other: Runs, output: str, source: Iterable[Sample], samples: int = SAMPLES
) -> tuple[float, float, int] | None:
    """KL to the reference, agreement with it, and the number of positions; None where no output scores tokens."""
    lost, same, count = 0.0, 0, 0
    for sample in itertools.islice(iter(source), samples):
        ours, theirs = (runner.run(sample.feed, sample=sample.name)[output] for runner in (other, reference))
        if theirs.ndim < 2 or theirs.shape != ours.shape or theirs.dtype.kind != "f":
            return None
        counts = counting(sample, theirs.shape[:-1])
        q, p = (log_softmax(scores[counts]) for scores in (ours, theirs))
        lost += float((np.exp(p) * (p - q)).sum())
        same += int((p.argmax(-1) == q.argmax(-1)).sum())
        count += len(p)
    return (lost / count, same / count, count) if count else None


def speech(runners: Mapping[str, Runner], output: str, sample: Sample, runs: int = RUNS) -> dict[str, Speech]:
    """Tokens a second of some models, in turns: medians of `runs`."""
    first = next(iter(runners.values()))
    results = first.run(sample.feed, sample=sample.name)
    tokens = int(np.prod(results[output].shape[:-1]))
    prompt = timed(runners, dict(sample.feed), runs)
    step = step_feed(sample, results, output)
    steps = timed(runners, step, runs) if step is not None else {}
    batch = int(results[output].shape[0])
    return {name: Speech(tokens / prompt[name], batch / steps[name] if name in steps else None) for name in runners}


def timed(runners: Mapping[str, Runner], feed: Feed, runs: int) -> dict[str, float]:
    """Median seconds of each model on a feed."""
    times: dict[str, list[float]] = {name: [] for name in runners}
    for number in range(runs + 1):
        for name, runner in runners.items():
            start = time.perf_counter()
            runner.run(feed)
            if number:  # the first run of each only warms up
                times[name].append(time.perf_counter() - start)
    return {name: median(some) for name, some in times.items()}


def step_feed(sample: Sample, results: Feed, output: str) -> Feed | None:
    """The feed of one more token; None where it cannot be told."""
    shape = results[output].shape[:-1]
    tokens = token_input(sample, shape)
    if tokens is None or len(shape) != 2:
        return None
    feed: Feed = {tokens: results[output][:, -1:].argmax(-1).astype(sample.feed[tokens].dtype)}
    past = 0
    for name, value in sample.feed.items():
        if name.startswith("past"):
            made = results.get(name.replace("past_key_values", "present")) if value.ndim == 4 else None
            if made is None:
                return None
            feed[name], past = made, int(made.shape[2])
    if not past:
        return None
    for name, value in sample.feed.items():
        if name in feed:
            continue
        if value.ndim != 2 or value.dtype.kind not in "iub":
            return None
        if "mask" in name:
            feed[name] = np.ones((len(value), past + 1), value.dtype)
        elif "position" in name:
            feed[name] = np.full((len(value), 1), past, value.dtype)
        else:
            return None
    return feed
