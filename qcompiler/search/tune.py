"""Session options for the shipped model: tried by measurement, kept only if they clearly pay.

    offered      what the backend thinks may matter for this graph, one option at a time
    tried        each beside the plain session, in alternating blocks
    confirmed    the best one, and all that gained together, once more, beside the float model too
    kept         the fastest, if it is more than KEEP times as fast as the plain session, beyond the noise of both
                 rounds, and loses no accuracy against it

Who runs the model without the options must get a correct and fast model, too; so candidates are judged and chosen
under the plain session, and a gain of a few percent does not make anyone carry options around.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from qcompiler import ir
from qcompiler.analysis import (
    Evaluation,
    Runner,
    SessionConfig,
    Speedup,
    Timing,
    TimingCache,
    evaluate,
    measure_each,
    speedup,
)
from qcompiler.analysis.evaluate import figures
from qcompiler.analysis.session import config_of
from qcompiler.data import Sample
from qcompiler.search.judge import FeedArrays, First

KEEP = 1.03
LOSS_DB = 1.0
ROUNDING_DB = 80.0
"""From here on two models differ in the rounding of float32 sums alone."""
SAMPLES = 32


@dataclass(frozen=True)
class Tried:
    """One set of options: how many times as fast as the plain session it is, and what became of it."""

    config: SessionConfig
    gain: Speedup
    said: str


@dataclass(frozen=True, eq=False)
class Tuned:
    """The session that a model ships with.

    Attributes:
        config: the plain one where nothing else pays.
        tried: what was measured.
        given, plain, timing: the model as given, and the shipped one without and with the options, from one
            measurement; None where nothing was confirmed.
    """

    config: SessionConfig
    tried: tuple[Tried, ...] = ()
    given: Timing | None = None
    plain: Timing | None = None
    timing: Timing | None = None


def tune(
    original: ir.Model,
    model: ir.Model,
    offered: Sequence[SessionConfig],
    feeds: Sequence[FeedArrays],
    source: Iterable[Sample] | None,
    *,
    threads: int,
    seconds: float,
    metric: str | None = None,
    cache: TimingCache | None = None,
) -> Tuned:
    """Chooses the session options of a model.

    Args:
        original: the model as given.
        model: to be shipped.
        offered: by the backend; the first is the plain session.
        feeds: what latency is measured on, each alone.
        source: samples for the accuracy; without any, `feeds` serve.
        threads: of the runtime.
        seconds: time for all measurements, about; 0 tries nothing.
        metric: as in the recipe.

    Raises:
        ModelError, DataError: as for the measurements that were made before.
    """
    plain = SessionConfig(threads=threads)
    others = dict.fromkeys([*(replace(config, threads=threads) for config in offered), config_of(original, threads)])
    others.pop(plain, None)
    if not others or seconds <= 0 or not feeds:
        return Tuned(plain)
    runners = {config: Runner(model, config) for config in (plain, *others)}
    gains = gains_of(runners, feeds, plain, seconds / 2, cache)
    good = [config for config in others if pays(gains[config])]
    if not good:
        return Tuned(
            plain,
            tuple(
                Tried(config, gains[config], f"not kept: not over {100 * (KEEP - 1):.0f} % faster") for config in others
            ),
        )
    best = max(good, key=lambda config: gains[config].ratio)
    finalists = dict.fromkeys([best, together(good)])
    for config in finalists:
        runners.setdefault(config, Runner(model, config))
    reference = Runner(original, config_of(original, threads))
    timings = measure_each(
        {"given": reference, **{name(c): runners[c] for c in (plain, *finalists)}},
        feeds, seconds=seconds / 2 / (2 + len(finalists)), cache=cache,
    )  # fmt: skip
    gains |= {config: speedup(timings[name(plain)], timings[name(config)]) for config in finalists}
    chosen = max(finalists, key=lambda config: gains[config].ratio)
    said = "kept" if pays(gains[chosen]) else "not kept: the gain was not confirmed"
    samples = First(source, SAMPLES) if source is not None else [Sample(feed, None, "feed") for feed in feeds]
    if said == "kept" and less_accurate(reference, runners[plain], runners[chosen], samples, metric):
        said = "not kept: it costs accuracy"
    config = chosen if said == "kept" else plain
    tried = dict.fromkeys([*others, *finalists])
    return Tuned(
        config,
        tuple(Tried(c, gains[c], said if c == chosen else "not kept: not the fastest") for c in tried),
        timings["given"],
        timings[name(plain)],
        timings[name(config)],
    )


def name(config: SessionConfig) -> str:
    """Options as a key."""
    return repr(config)


def pays(gain: Speedup) -> bool:
    """Whether a gain is worth carrying options around."""
    return gain.ratio > max(KEEP, 1 + gain.noise)


def together(configs: Sequence[SessionConfig]) -> SessionConfig:
    """All options at once; level and threads of the first."""
    off = dict.fromkeys(name for config in configs for name in config.disabled_optimizers)
    entries = dict(entry for config in configs for entry in config.entries)
    return replace(configs[0], disabled_optimizers=tuple(off), entries=tuple(entries.items()))


def gains_of(
    runners: Mapping[SessionConfig, Runner],
    feeds: Sequence[FeedArrays],
    plain: SessionConfig,
    seconds: float,
    cache: TimingCache | None,
) -> dict[SessionConfig, Speedup]:
    """How many times as fast as the plain session each is."""
    each = seconds / len(runners)
    timings = measure_each({name(c): r for c, r in runners.items()}, feeds, seconds=each, cache=cache)
    return {config: speedup(timings[name(plain)], timings[name(config)]) for config in runners}


def less_accurate(
    reference: Runner, plain: Runner, chosen: Runner, samples: Iterable[Sample], metric: str | None
) -> bool:
    """Whether the options cost more than `LOSS_DB` at the worst output, or a point of the metric."""
    found = evaluate(reference, {"plain": plain, "chosen": chosen}, samples, metric=metric)
    before, after = found["plain"], found["chosen"]
    return worst(after) < min(worst(before) - LOSS_DB, ROUNDING_DB) or (
        before.measure.unit != "noise" and extra(before, after) > 0.01 * before.base
    )


def extra(before: Evaluation, after: Evaluation) -> float:
    """How much more of the metric the second loses."""
    return float(before.measure.loss(figures(before.scores), figures(after.scores)))


def worst(evaluation: Evaluation) -> float:
    """Lowest SQNR of the outputs, dB."""
    return min(evaluation.output_sqnr_db.values(), default=math.inf)
