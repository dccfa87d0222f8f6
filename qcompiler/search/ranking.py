"""The groups of a model by the harm that quantizing each does, with what it costs and saves."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from qcompiler.errors import UsageError
from qcompiler.quant import Precision
from qcompiler.search.costs import Costs
from qcompiler.search.groups import Group
from qcompiler.search.sensitivity import Sensitivity

MEASURES = ("sqnr", "kl", "metric")
RUINED = 1e30
"""Stands for harm without bound, and for none that is a number; -300 dB in decibels. JSON knows no infinity."""


@dataclass(frozen=True)
class Ranked:
    """One group.

    Attributes:
        name, op, nodes: of the group; the nodes are those of the prepared graph.
        precision: that it was measured in.
        damage: noise over signal at the outputs with it alone quantized, summed over the outputs; `RUINED` at most.
        sqnr_db: SQNR of the worst output with it alone quantized; None where nothing changed.
        divergence: mean KL divergence of class scores, in nats; None without class scores.
        metric_loss: loss of the metric with it alone quantized; None where it was not measured.
        without_db: SQNR of the worst output with all others quantized; None where it was not measured.
        local_db: SQNR of what it hands on, its inputs float; None where nothing changed.
        quantized_us, quantized_noise_us, float_us, float_noise_us: microseconds in a run; None where nothing was timed.
    """

    name: str
    op: str
    nodes: tuple[str, ...]
    precision: str
    damage: float
    sqnr_db: float | None
    divergence: float | None
    metric_loss: float | None
    without_db: float | None
    local_db: float | None
    quantized_us: float | None
    quantized_noise_us: float | None
    float_us: float | None
    float_noise_us: float | None


@dataclass(frozen=True)
class Ranking:
    """The groups of one model.

    Attributes:
        model, target, variant, precision: what was measured.
        samples: how many.
        by: what the order is by.
        times: where the times come from; empty without.
        groups: most harmful first.
    """

    model: str
    target: str
    variant: str
    precision: str
    samples: int
    by: str
    times: str
    groups: tuple[Ranked, ...]


def check_measure(measure: str) -> None:
    """Refuses a measure that does not exist.

    Raises:
        UsageError: an unknown measure.
    """
    if measure not in MEASURES:
        raise UsageError(f"unknown measure {measure!r}", where="--by", hint=f"known: {', '.join(MEASURES)}")


def ranked(found: Sequence[Sensitivity], costs: Costs | None, measure: str = "sqnr") -> tuple[Ranked, ...]:
    """The groups, most harmful first; equal ones in the order of the graph.

    Raises:
        UsageError: an unknown measure, or one that was not measured.
    """
    check_measure(measure)
    lines = [_line(one, costs) for one in found]
    keys = {"sqnr": "damage", "kl": "divergence", "metric": "metric_loss"}

    def harm(line: Ranked) -> float:
        value = getattr(line, keys[measure])
        return -math.inf if value is None else float(value)

    if lines and measure != "sqnr" and all(getattr(line, keys[measure]) is None for line in lines):
        what = "the model has no class scores" if measure == "kl" else "there is no metric with a mean of scores"
        raise UsageError(f"cannot rank by {measure!r}: {what}", where="--by", hint="sqnr always works")
    return tuple(sorted(lines, key=harm, reverse=True))


def ranked_each(
    found: Mapping[Precision, Sequence[Sensitivity]], tables: Mapping[Precision, Costs | None]
) -> tuple[Ranked, ...]:
    """A line for each group in each precision that it may have, most harmful first."""
    lines = [
        line if len(tables) == 1 else replace(line, precision=precision)
        for precision, costs in tables.items()
        for line in ranked(found[precision], costs)
    ]
    return tuple(sorted(lines, key=lambda line: line.damage, reverse=True))


def _line(one: Sensitivity, costs: Costs | None) -> Ranked:
    quantized, floating = _times(one.group, costs)
    return Ranked(
        one.group.name,
        one.group.op,
        one.group.prepared or one.group.planned,
        one.group.precision,
        _bounded(one.alone.total),
        _finite(one.alone.sqnr_db),
        None if one.alone.divergence is None else _bounded(one.alone.divergence),
        None if one.metric_loss is None else _bounded(one.metric_loss),
        None if one.without is None else _finite(one.without.sqnr_db),
        _finite(one.local_db),
        *quantized,
        *floating,
    )


def _times(group: Group, costs: Costs | None) -> tuple[tuple[float | None, ...], tuple[float | None, ...]]:
    if costs is None or group.name not in costs.quantized:
        return (None, None), (None, None)
    sides = (costs.quantized[group.name], costs.floating[group.name])
    first, second = ((round(costs.scale * side.seconds, 3), round(costs.scale * side.noise, 3)) for side in sides)
    return first, second


def _finite(value: float) -> float | None:
    """Decibels; None where nothing changed."""
    if value == math.inf:
        return None
    return value if math.isfinite(value) else -10 * math.log10(RUINED)


def _bounded(value: float) -> float:
    return min(value, RUINED) if math.isfinite(value) else RUINED
