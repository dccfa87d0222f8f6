"""One option of each item, of the least harm within a size: the multiple-choice knapsack, exactly.

    minimise   sum_i harm[i, o(i)]
    so that    sum_i size[i, o(i)] <= limit

Sizes are integers. Item after item, the sums that no other one beats in both size and harm are kept (Nemhauser and
Ullmann, "Discrete dynamic programming and capital allocation", 1969). What cannot lead to the best any more is dropped:
for any price p of size, harm + p (size - limit) + the least sum of harm + p size of what is left bounds what a sum can
become, and a choice within the limit is known for a good price (Lagrange). Sums are taken in the order of the items and
compared as they are, so a larger limit never has more harm, not even by rounding. Of equally harmful choices the
smallest is taken, then the one with the earlier options.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
_HALVINGS = 60
# Share of its terms by which a bound may be wrong.
_SLACK = 1e-9


def least_harm(items: Sequence[Sequence[tuple[int, float]]], limit: int) -> list[int] | None:
    """The option of each item.

    Args:
        items: size and harm of each option of each item; harm is finite and not negative.
        limit: of the sum of sizes.

    Returns:
        None where nothing is within the limit.
    """
    sizes = [np.array([size for size, _ in options], np.int64) for options in items]
    harms = [np.array([harm for _, harm in options], np.float64) for options in items]
    if sum(int(some.min()) for some in sizes) > limit:
        return None
    price, known = _priced(sizes, harms, limit)
    most = known + _SLACK * (known + price * limit)
    # what is left behind each item: the least size, and the least harm at the price
    rest = _behind([int(some.min()) for some in sizes])
    dear = _behind([float((harm + price * size).min()) for size, harm in zip(sizes, harms, strict=True)])
    size, harm = np.zeros(1, np.int64), np.zeros(1)
    steps: list[tuple[Array, Array]] = []
    for number, (more, worse) in enumerate(zip(sizes, harms, strict=True)):
        width = len(more)
        parents, options = np.repeat(np.arange(len(size)), width), np.tile(np.arange(width), len(size))
        size, harm = size[parents] + more[options], harm[parents] + worse[options]
        left = rest[number + 1]
        useful = size + left <= limit
        useful &= harm + price * (size - limit).astype(np.float64) + dear[number + 1] <= most
        order = np.flatnonzero(useful)
        order = order[np.lexsort((harm[order], size[order]))]
        falling = np.minimum.accumulate(harm[order])
        order = order[np.concatenate([[True], harm[order][1:] < falling[:-1]])]
        size, harm = size[order], harm[order]
        steps.append((parents[order], options[order]))
    place, chosen = len(size) - 1, list[int]()
    for parents, options in reversed(steps):
        chosen.append(int(options[place]))
        place = int(parents[place])
    return chosen[::-1]


def _priced(sizes: Sequence[Array], harms: Sequence[Array], limit: int) -> tuple[float, float]:
    """A good price of size, and the harm of a choice within the limit; the price is 0 where size is no matter."""

    def at(price: float) -> tuple[int, float]:
        picked = [int(np.lexsort((s, h + price * s))[0]) for s, h in zip(sizes, harms, strict=True)]
        total = 0.0
        for pick, some in zip(picked, harms, strict=True):
            total += float(some[pick])
        return sum(int(s[pick]) for pick, s in zip(picked, sizes, strict=True)), total

    if (free := at(0.0))[0] <= limit:
        return 0.0, free[1]
    low, high = 0.0, 1.0
    while at(high)[0] > limit:
        low, high = high, 4 * high
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if at(middle)[0] > limit else (low, middle)
    return high, at(high)[1]


def _behind(values: Sequence[Any]) -> list[Any]:
    """The sum of what is behind each place, from the first on."""
    sums = [0 * values[0] if values else 0]
    for value in reversed(values):
        sums.append(sums[-1] + value)
    return sums[::-1]
