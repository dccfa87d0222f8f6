"""What is promised of the loss, and what a measured candidate makes of it: broken, set aside, or fit to be shipped.

    stated promise      broken where the loss is more than the limit, by its estimate or surely
    unstated promise    set aside where the estimate is more than the limit; broken where it is a collapse
    no promise          broken where it is a collapse: surely more than `COLLAPSE`, or of agreement with float more than
                        `AGREEMENT_COLLAPSE`, and with an output that is under `NEAR` dB, too

Nobody who did not ask for a contract asked for a collapse.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

COLLAPSE = 0.02
AGREEMENT_COLLAPSE = 0.05
NEAR = 10.0

Verdict = Literal["holds", "broken", "undecided", "informative", "not measured"]


@dataclass(frozen=True)
class Promise:
    """What the loss may be.

    Attributes:
        max_drop: in the unit of the loss; None promises nothing.
        stated: it was asked for; else it steers the choice and fails nothing.
        insist: quantized is wanted by name: rather than float, ship what was set aside.
    """

    max_drop: float | None = None
    stated: bool = True
    insist: bool = False


@dataclass(frozen=True)
class Judged:
    """What was measured of one candidate.

    Attributes:
        precision: of the candidate.
        worst_output: name of the output with the lowest SQNR, and `worst_sqnr_db` its ratio; None where not measured.
        drop, ci_low, ci_high: loss of the metric and its confidence interval, as fractions; None where not measured.
        agreement: the metric is agreement with float, not truth; it loses more for the same harm.
        unit: of the metric, as `Measure.unit`.
        speedup: over the model as given; None where not measured.
        noise: spread of the speed-up, in the same unit.
        for_size: its precision is one that is asked for by name, for the size of the model (`TargetSpec.by_name`): it
            need not be faster, and differs from float more often than others do; the floor of the signal-to-noise
            ratio alone says that it is broken.
        refused: why the backend did not take it; empty where it did, or was not asked.
    """

    precision: str
    worst_output: str = ""
    worst_sqnr_db: float | None = None
    drop: float | None = None
    ci_low: float | None = None
    ci_high: float | None = None
    agreement: bool = False
    unit: str = "share"
    speedup: float | None = None
    noise: float = 0.0
    for_size: bool = False
    refused: str = ""


def breakage(judged: Judged, promise: Promise, floor: float) -> str | None:
    """Why a candidate must not be shipped at any speed; None where it may."""
    if judged.precision == "float":
        return None
    if judged.refused:
        return judged.refused
    if judged.worst_sqnr_db is not None and not judged.worst_sqnr_db >= floor:
        return f"output {judged.worst_output!r} has an SQNR of {judged.worst_sqnr_db:.1f} dB, under {floor:g}"
    if judged.drop is None:
        return None
    if math.isnan(judged.drop):
        return "the metric is not a number"
    if promise.max_drop is None or not promise.stated:
        return collapse(judged)
    if judged.drop <= promise.max_drop and not surely(judged) > promise.max_drop:
        return None
    word = "surely more than" if surely(judged) > promise.max_drop else "more than"
    return f"{fall(judged)}, {word} the {amount(promise.max_drop, judged)} allowed"


def collapse(judged: Judged) -> str | None:
    """What nobody wants, whatever was promised."""
    if judged.drop is None or judged.unit != "share" or (judged.agreement and (judged.worst_sqnr_db or 0.0) >= NEAR):
        return None
    if judged.for_size:
        return None
    limit = AGREEMENT_COLLAPSE if judged.agreement else COLLAPSE
    return f"the metric falls by {judged.drop:.2%}, surely more than {limit:.0%}" if surely(judged) > limit else None


def surely(judged: Judged) -> float:
    """The least that the metric falls by."""
    return judged.ci_low if judged.ci_low is not None else -math.inf


def fall(judged: Judged) -> str:
    """What was lost, for a person."""
    lost = amount(judged.drop or 0.0, judged)
    return f"noise is {lost} of the signal" if judged.unit == "noise" else f"the metric falls by {lost}"


def amount(value: float, judged: Judged) -> str:
    """A loss for a person."""
    return f"{value:.2%}" if judged.unit in ("share", "noise") else f"{value:.4g}"


def set_aside(judged: Judged, promise: Promise) -> str | None:
    """Why a candidate gives way to others although it is not broken: it loses more than is kept unasked."""
    if promise.stated or promise.max_drop is None or judged.precision == "float":
        return None
    if judged.drop is None or judged.drop <= promise.max_drop:
        return None
    return f"set aside: {fall(judged)}, more than {amount(promise.max_drop, judged)} (--max-drop none accepts it)"


def verdict(judged: Judged, promise: Promise) -> Verdict:
    """What can be said of the promise for one candidate."""
    limit = promise.max_drop
    if judged.precision == "float" and limit is not None:
        return "holds"
    if judged.drop is None or judged.ci_high is None or judged.ci_low is None:
        return "undecided" if limit is not None and promise.stated else "not measured"
    if limit is None:
        return "informative"
    if judged.ci_high <= limit:
        return "holds"
    return "broken" if judged.ci_low > limit else "undecided"
