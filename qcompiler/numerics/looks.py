"""Looking at samples before all of them are in, without losing the confidence that was stated.

Each look may err: at look k a bound is wrong with probability alpha_k at most, so that one of all the looks is wrong
with sum alpha_k = alpha at most, whatever was seen and whenever one stops (Bonferroni; the alphas are fixed beforehand
by the number of samples, a spending function as in Lan, DeMets, "Discrete sequential boundaries for clinical trials",
Biometrika 70, 1983). The bound of the look at which one stops is then a bound at 1 - alpha: a repeated confidence
interval (Jennison, Turnbull, "Interim analyses: the repeated confidence interval approach", JRSS B 51, 1989).

    after     64    256    1024   4096   16384   samples, as long as two thirds of all are not reached
    alpha_k   1/64  1/32   1/16   1/16   1/16    of alpha; what is left goes to the last look, at all samples

Early looks cost little, since nothing but a plain verdict shows there: one that is broken by far, or, from the third
on, one that holds by far.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

SPENT: Mapping[int, float] = {64: 1 / 64, 256: 1 / 32, 1024: 1 / 16, 4096: 1 / 16, 16384: 1 / 16}
WORTH_IT = 2 / 3


@dataclass(frozen=True)
class Looks:
    """When to look, and how much of alpha each look may spend.

    Attributes:
        total: number of samples; None where only reading tells.
        alpha: of all looks together.
    """

    total: int | None
    alpha: float

    @cached_property
    def early(self) -> Mapping[int, float]:
        """The alpha of each look before the last, by the number of samples seen."""
        return {
            samples: self.alpha * share
            for samples, share in SPENT.items()
            if self.total is None or samples < WORTH_IT * self.total
        }

    @property
    def last(self) -> float:
        """The alpha of the last look."""
        return self.alpha - sum(self.early.values())
