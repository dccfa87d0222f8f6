"""Which candidate is shipped: pure arithmetic on what was measured.

    broken       an output's SQNR is under the floor, or the loss is more than was promised
    slower       no faster than the model as given or the fused float model, beyond the noise of the measurement
    set aside    nothing was promised, and the loss is more than is kept all the same
    shipped      the fastest of the rest; among nearly equal ones (`NEARLY_EQUAL`) within `CLEAN` dB of float the first
                 in the order tried; where the fastest is further from float, the nearest to it (`WORTH_ACCURACY`);
                 where nothing was timed the first in the order tried, which is the fastest as far as tables know

Under a promise that was asked for (`promise`), candidates that surely keep it go before those that too few samples were
seen of. Such a one may be shipped if its estimate keeps the promise; the exit status then says so.

A figure that is not a number speaks against its candidate: outputs of NaN are broken, a speed of NaN is no speed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from qcompiler.search.promise import Judged, Promise, Verdict, breakage, set_aside, verdict

NEARLY_EQUAL = 1.05
CLEAN = 20.0
WORTH_ACCURACY = 1.15
FLOAT_NOISE = 0.02
HARMED = ("broken", "set aside")
"""How the reason of a candidate begins that loses more than it may."""
INSISTED = "shipped: asked for by name, though it is more than is lost unasked"


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


def faster(judged: Judged, bar: float) -> bool:
    """Whether a candidate is faster than `bar` beyond its noise; True where nothing was measured, or size is wished."""
    return judged.for_size or judged.speedup is None or judged.speedup >= bar + judged.noise


def choose(candidates: Sequence[Judged], promise: Promise, floor: float, *, sizes: bool = False) -> Choice:
    """The candidate to ship; the last ones are float models, which are never broken, the very last one as given.

    With `sizes` what stands for a speed is how much smaller a candidate is: of what may be shipped the smallest is.
    """
    word = "small" if sizes else "fast"
    reasons: dict[int, str] = {}
    open_: list[int] = []
    aside: list[int] = []
    floats = [judged for judged in candidates if judged.precision == "float"]
    bar = max([1.0, *(judged.speedup for judged in floats if judged.speedup is not None and judged.speedup > 1.0)])
    for index, judged in enumerate(candidates):
        reason = breakage(judged, promise, floor)
        if reason is not None:
            reasons[index] = f"broken: {reason}"
        elif judged.precision != "float" and not faster(judged, bar):
            figures = f"{judged.speedup:.2f} times, float {bar:.2f}, noise {judged.noise:.2f}"
            reasons[index] = f"no {word}er than float ({figures})"
        elif (reason := set_aside(judged, promise)) is not None:
            reasons[index] = reason
            aside.append(index)
        else:
            open_.append(index)
    quantized = [i for i in open_ if candidates[i].precision != "float"]
    insisted = not quantized and promise.insist and bool(aside)
    if insisted:
        # asked for by name: of what loses too much, what loses least
        quantized = [min(aside, key=lambda i: candidates[i].drop or 0.0)]
        open_ = sorted([*open_, *quantized])
    holding = [i for i in quantized if verdict(candidates[i], promise) == "holds"]
    if promise.stated and holding:
        quantized = holding
    top, clean = 0.0, True
    if quantized:
        fastest = candidates[max(quantized, key=lambda i: candidates[i].speedup or 0.0)]
        top, ratio = fastest.speedup or 0.0, fastest.worst_sqnr_db
        clean = ratio is None or ratio >= CLEAN
        margin = 1.0 if sizes else NEARLY_EQUAL if clean else WORTH_ACCURACY
        near = [i for i in quantized if (candidates[i].speedup or 0.0) * margin >= top]
        near = [i for i in near if i in holding] or near
        if not top:
            best = quantized[0]
        elif clean:
            # all of these are good enough: the first is the one with the most in integers, and so the smallest
            best = next((i for i in near if (candidates[i].worst_sqnr_db or CLEAN) >= CLEAN), near[0])
        else:
            best = max(near, key=lambda i: (candidates[i].worst_sqnr_db or 0.0, -i))
    else:
        # rewriting must pay, too: a float model that became slower gives way to the model as given
        unharmed = (i for i in open_ if (candidates[i].speedup or 1.0) >= 1 - max(candidates[i].noise, FLOAT_NOISE))
        best = next(unharmed, open_[-1])
    for index in open_:
        judged = candidates[index]
        speed = "" if judged.speedup is None else f" ({judged.speedup:.2f} times)"
        if index == best and insisted:
            reasons[index] = INSISTED
        elif index == best:
            alone = judged.precision == "float" and len(floats) < len(candidates)
            first = judged.precision == "float" or (judged.speedup or 0.0) == top
            nearest = "the first" if clean else "the nearest to float"
            reasons[index] = f"shipped: {nearest} of those nearly as {word} as the {word}est{speed}"
            if top == 0.0 and not alone and judged.precision != "float":
                reasons[index] = "shipped: the first that is not broken; nothing was timed"
            elif alone or first:
                reasons[index] = (
                    "shipped: no quantized candidate is left" if alone else f"shipped: the {word}est{speed}"
                )
        else:
            reasons[index] = f"not {word}er than the shipped one{speed}" if top else "after the shipped one in order"
            if promise.stated and holding and judged.precision != "float" and index not in holding:
                reasons[index] = f"undecided, and the shipped one holds{speed}"
    broken = tuple(i for i in range(len(candidates)) if reasons[i].startswith("broken"))
    ordered = tuple(reasons[i] for i in range(len(candidates)))
    return Choice(best, ordered, verdict(candidates[best], promise), broken)
