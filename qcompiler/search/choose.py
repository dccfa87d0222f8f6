"""Which candidate is shipped: pure arithmetic on what was measured.

    broken       an output's SQNR is under the floor, or the loss is surely larger than allowed
    slower       no faster than the model as given or the fused float model, beyond the noise of the measurement
    shipped      the fastest of the rest; among nearly equal ones (`NEARLY_EQUAL`) within `CLEAN` dB of float the first
                 in the order tried; where the fastest is further from float, the nearest to it (`WORTH_ACCURACY`)

Without `max_drop` a candidate is still broken when the loss of the metric is surely more than `COLLAPSE`: nobody who
did not ask for a contract asked for a collapse. Under `max_drop` a candidate may be shipped while undecided, if its
point estimate keeps the promise; the exit status then says so.

A figure that is not a number speaks against its candidate: outputs of NaN are broken, a speed of NaN is no speed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

COLLAPSE = 0.02
AGREEMENT_COLLAPSE = 0.05
NEAR = 10.0
NEARLY_EQUAL = 1.05
CLEAN = 20.0
WORTH_ACCURACY = 1.15
FLOAT_NOISE = 0.02

Verdict = Literal["holds", "broken", "undecided", "informative", "not measured"]


@dataclass(frozen=True)
class Judged:
    """What was measured of one candidate.

    Attributes:
        precision: of the candidate.
        worst_output: name of the output with the lowest SQNR, and `worst_sqnr_db` its ratio; None where not measured.
        drop, ci_low, ci_high: loss of the metric and its confidence interval, as fractions; None where not measured.
        agreement: the metric is agreement with float, not truth; it loses more for the same harm.
        speedup: over the model as given; None where not measured.
        noise: spread of the speed-up, in the same unit.
    """

    precision: str
    worst_output: str = ""
    worst_sqnr_db: float | None = None
    drop: float | None = None
    ci_low: float | None = None
    ci_high: float | None = None
    agreement: bool = False
    speedup: float | None = None
    noise: float = 0.0


@dataclass(frozen=True)
class Choice:
    """The decision.

    Attributes:
        index: of the shipped candidate.
        reasons: one sentence for each candidate.
        verdict: on the contract, for the shipped candidate.
        broken: indices of candidates that are broken.
    """

    index: int
    reasons: tuple[str, ...]
    verdict: Verdict
    broken: tuple[int, ...]


def breakage(judged: Judged, max_drop: float | None, floor: float) -> str | None:
    """Why a candidate must not be shipped at any speed; None where it may."""
    if judged.precision == "float":
        return None
    if judged.worst_sqnr_db is not None and not judged.worst_sqnr_db >= floor:
        return f"output {judged.worst_output!r} has an SQNR of {judged.worst_sqnr_db:.1f} dB, under {floor:g}"
    if judged.drop is None:
        return None
    if math.isnan(judged.drop):
        return "the metric is not a number"
    surely = judged.ci_low if judged.ci_low is not None else -math.inf
    if max_drop is None:
        if judged.agreement and (judged.worst_sqnr_db or 0.0) >= NEAR:
            return None
        limit = AGREEMENT_COLLAPSE if judged.agreement else COLLAPSE
        return f"the metric falls by {judged.drop:.2%}, surely more than {limit:.0%}" if surely > limit else None
    if surely > max_drop:
        return f"the metric falls by {judged.drop:.2%}, surely more than the {max_drop:.2%} allowed"
    if judged.drop > max_drop:
        return f"the metric falls by {judged.drop:.2%}, more than the {max_drop:.2%} allowed"
    return None


def verdict(judged: Judged, max_drop: float | None) -> Verdict:
    """What can be said of the contract for one candidate."""
    if judged.precision == "float" and max_drop is not None:
        return "holds"
    if judged.drop is None or judged.ci_high is None or judged.ci_low is None:
        return "not measured" if max_drop is None else "undecided"
    if max_drop is None:
        return "informative"
    if judged.ci_high <= max_drop:
        return "holds"
    return "broken" if judged.ci_low > max_drop else "undecided"


def faster(judged: Judged, bar: float) -> bool:
    """Whether a candidate is faster than `bar` beyond its noise; True where nothing was measured."""
    return judged.speedup is None or judged.speedup >= bar + judged.noise


def choose(candidates: Sequence[Judged], max_drop: float | None, floor: float) -> Choice:
    """The candidate to ship; the last ones are float models, which are never broken, the very last one as given."""
    reasons: dict[int, str] = {}
    open_: list[int] = []
    floats = [judged for judged in candidates if judged.precision == "float"]
    bar = max([1.0, *(judged.speedup for judged in floats if judged.speedup is not None and judged.speedup > 1.0)])
    for index, judged in enumerate(candidates):
        reason = breakage(judged, max_drop, floor)
        if reason is not None:
            reasons[index] = f"broken: {reason}"
        elif judged.precision != "float" and not faster(judged, bar):
            figures = f"{judged.speedup:.2f} times, float {bar:.2f}, noise {judged.noise:.2f}"
            reasons[index] = f"no faster than float ({figures})"
        else:
            open_.append(index)
    quantized = [i for i in open_ if candidates[i].precision != "float"]
    top, clean = 0.0, True
    if quantized:
        fastest = candidates[max(quantized, key=lambda i: candidates[i].speedup or 0.0)]
        top, ratio = fastest.speedup or 0.0, fastest.worst_sqnr_db
        clean = ratio is None or ratio >= CLEAN
        margin = NEARLY_EQUAL if clean else WORTH_ACCURACY
        near = [i for i in quantized if (candidates[i].speedup or 0.0) * margin >= top]
        if clean:
            # all of these are good enough: the first is the one with the most in integers, and so the smallest
            best = next(i for i in near if (candidates[i].worst_sqnr_db or CLEAN) >= CLEAN)
        else:
            best = max(near, key=lambda i: (candidates[i].worst_sqnr_db or 0.0, -i))
    else:
        # rewriting must pay, too: a float model that became slower gives way to the model as given
        unharmed = (i for i in open_ if (candidates[i].speedup or 1.0) >= 1 - max(candidates[i].noise, FLOAT_NOISE))
        best = next(unharmed, open_[-1])
    for index in open_:
        judged = candidates[index]
        speed = "" if judged.speedup is None else f" ({judged.speedup:.2f} times)"
        if index == best:
            alone = judged.precision == "float" and len(floats) < len(candidates)
            first = judged.precision == "float" or (judged.speedup or 0.0) == top
            nearest = "the first" if clean else "the nearest to float"
            reasons[index] = f"shipped: {nearest} of those nearly as fast as the fastest{speed}"
            if top == 0.0 and not alone and judged.precision != "float":
                reasons[index] = "shipped: the first that is not broken; nothing was timed"
            elif alone or first:
                reasons[index] = "shipped: no quantized candidate is left" if alone else f"shipped: the fastest{speed}"
        else:
            reasons[index] = f"not faster than the shipped one{speed}" if top else "after the shipped one in order"
    broken = tuple(i for i in range(len(candidates)) if reasons[i].startswith("broken"))
    ordered = tuple(reasons[i] for i in range(len(candidates)))
    return Choice(best, ordered, verdict(candidates[best], max_drop), broken)
