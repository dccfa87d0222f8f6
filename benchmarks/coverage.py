"""How often bounds stated at 95 % cover the true loss, in simulations where it is known: the table of
docs/accuracy-contract.md.

python -m benchmarks.coverage [--runs N]

Hits: counts of discordant pairs are drawn; a bound misses where the true drop is refuted. Scores: float's are uniform,
the loss of each sample is drawn from the named distribution. Stopping: up to 1600 samples, looked at as in
`numerics.looks`.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from functools import cache

import numpy as np
import numpy.typing as npt

from qcompiler.numerics.bootstrap import bootstrap_bounds
from qcompiler.numerics.exact_drop import refuted, share_bounds
from qcompiler.numerics.looks import Looks

ALPHA = 0.05
HITS = ((250, 0.012, 0.004), (250, 0.03, 0.02), (600, 0.01, 0.0), (1000, 0.01, 0.004))
STOPPED = ((0.011, 0.001), (0.02, 0.005), (0.004, 0.001))
Draw = Callable[[np.random.Generator, int], npt.NDArray[np.float64]]
LOSSES: dict[str, tuple[float, Draw]] = {
    "normal": (0.01, lambda random, n: random.normal(0.01, 0.05, n)),
    "exponential": (0.02, lambda random, n: random.exponential(0.02, n)),
    "one in five": (0.02, lambda random, n: np.where(random.random(n) < 0.2, random.uniform(0, 0.2, n), 0.0)),
    "lognormal": (math.exp(0.5) / 100, lambda random, n: random.lognormal(0, 1, n) / 100),
}


@cache
def excluded(lost: int, gained: int, total: int, alpha: float, drop: float) -> bool:
    """Whether the counts refute the drop."""
    return refuted(lost, gained, total, drop, alpha)


def hits(total: int, lost: float, gained: float, runs: int) -> tuple[float, float]:
    """Share of runs in which the upper and the lower bound of a hit rate's drop are right."""
    random, true = np.random.default_rng(1), lost - gained
    counts = random.multinomial(total, [lost, gained, 1 - lost - gained], runs)[:, :2].tolist()
    upper = [not excluded(b, c, total, ALPHA, true) for b, c in counts]
    lower = [not excluded(c, b, total, ALPHA, -true) for b, c in counts]
    return sum(upper) / runs, sum(lower) / runs


def agreement(total: int, rate: float, runs: int) -> tuple[float, float]:
    """The same of agreement with float."""
    counts = np.random.default_rng(1).binomial(total, rate, runs).tolist()
    bounds = {count: share_bounds(count, total, ALPHA) for count in set(counts)}
    return sum(bounds[c][1] >= rate for c in counts) / runs, sum(bounds[c][0] <= rate for c in counts) / runs


def drawn(samples: int, name: str, runs: int) -> tuple[float, float]:
    """The same of bootstrapped bounds."""
    random, (true, draw) = np.random.default_rng(1), LOSSES[name]
    right = np.zeros(2)
    for _ in range(runs):
        before = random.uniform(0.5, 0.9, samples)
        after = before - draw(random, samples)
        low, high = bootstrap_bounds(lambda i, b=before, a=after: (b[i] - a[i]).mean(-1), samples, ALPHA)  # type: ignore[misc]
        right += [high >= true, low <= true]
    return float(right[0] / runs), float(right[1] / runs)


def stopped(lost: float, gained: float, runs: int, limit: float = 0.01, total: int = 1600) -> tuple[float, float]:
    """The same of bounds where evaluation stops as soon as the verdict on 1 % is clear."""
    random, true, right = np.random.default_rng(1), lost - gained, np.zeros(2)
    looks = Looks(total, ALPHA)
    for _ in range(runs):
        seen = b = c = 0
        for at, alpha in {**looks.early, total: looks.last}.items():
            more = random.multinomial(at - seen, [lost, gained, 1 - lost - gained])
            seen, b, c = at, b + int(more[0]), c + int(more[1])
            if excluded(b, c, at, alpha, limit) or excluded(c, b, at, alpha, -limit):
                break
        right += [not excluded(b, c, seen, alpha, true), not excluded(c, b, seen, alpha, -true)]
    return float(right[0] / runs), float(right[1] / runs)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.coverage")
    parser.add_argument("--runs", type=int, default=2000)
    runs = parser.parse_args().runs
    rows = [(f"top-1, {n} samples, {p:.1%} lost, {q:.1%} gained", hits(n, p, q, runs)) for n, p, q in HITS]
    rows += [(f"agreement, {n} samples, {p:.1%} lost", agreement(n, p, runs)) for n, p in ((100, 0.02), (500, 0.01))]
    rows += [(f"stopped early, {p:.1%} lost, {q:.1%} gained", stopped(p, q, runs)) for p, q in STOPPED]
    rows += [(f"bootstrap, {n} samples, {name} loss", drawn(n, name, runs)) for name in LOSSES for n in (20, 50, 200)]
    print("| case | upper bound right | lower bound right |\n|---|---|---|")
    for name, (upper, lower) in rows:
        print(f"| {name} | {upper:.1%} | {lower:.1%} |")


if __name__ == "__main__":
    main()
