"""One option of each item within a size: the least harm there is, and never more of it for more size."""

from __future__ import annotations

import itertools
import random

from hypothesis import given, settings
from hypothesis import strategies as st

from qcompiler.search.knapsack import least_harm

Items = list[list[tuple[int, float]]]


def harm_of(items: Items, chosen: list[int]) -> float:
    """Added up in the order of the items."""
    total = 0.0
    for options, pick in zip(items, chosen, strict=True):
        total += options[pick][1]
    return total


def size_of(items: Items, chosen: list[int]) -> int:
    return sum(options[pick][0] for options, pick in zip(items, chosen, strict=True))


options = st.lists(
    st.tuples(st.integers(0, 40), st.one_of(st.integers(0, 3), st.floats(0, 1e6))), min_size=1, max_size=4
)
some_items = st.lists(options, max_size=5)


@settings(max_examples=100, deadline=None)
@given(some_items, st.integers(0, 150))
def test_nothing_within_the_size_does_less_harm(items: Items, limit: int) -> None:
    every = [list(picks) for picks in itertools.product(*(range(len(options)) for options in items))]
    within = [picks for picks in every if size_of(items, picks) <= limit]
    found = least_harm(items, limit)
    if found is None:
        assert not within
        return
    assert size_of(items, found) <= limit
    best = min(harm_of(items, picks) for picks in within)
    assert harm_of(items, found) == best
    assert size_of(items, found) == min(size_of(items, picks) for picks in within if harm_of(items, picks) == best)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 60))
def test_more_size_never_does_more_harm(seed: int, count: int) -> None:
    rng = random.Random(seed)
    items: Items = []
    for _ in range(count):
        numbers, harm = rng.randrange(1, 50) * 64, 10 ** rng.uniform(-9, 3)
        items.append([(4 * numbers, harm), (2 * numbers, harm * rng.uniform(2, 40)), (8 * numbers, harm / 256)])
    least, most = (sum(pick(size for size, _ in options) for options in items) for pick in (min, max))
    limits = sorted(rng.randrange(least, most + 1) for _ in range(6))
    found = [least_harm(items, limit) for limit in limits]
    harms = [harm_of(items, chosen) for chosen in found if chosen is not None]
    assert len(harms) == 6 and harms == sorted(harms, reverse=True)
    assert all(size_of(items, chosen) <= limit for chosen, limit in zip(found, limits, strict=True) if chosen)
    assert found == [least_harm(items, limit) for limit in limits]


def test_sizes_without_a_common_measure_are_no_trouble() -> None:
    """A model of 400 layers of any sizes, whose sums are all different: few of them can lead to the best."""
    rng = random.Random(5)
    items: Items = []
    for _ in range(400):
        numbers, harm = rng.randrange(1_000_000, 90_000_000), 10 ** rng.uniform(-5, -1)
        items.append([(bits * numbers, harm * 4.0 ** (4 - bits) * rng.uniform(0.5, 2)) for bits in (2, 4, 8)])
    limit = int(3.3 * sum(options[0][0] // 2 for options in items))
    found = least_harm(items, limit)
    assert found is not None and 0.9999 * limit < size_of(items, found) <= limit


def test_the_least_size_is_too_much() -> None:
    assert least_harm([[(2, 1.0), (4, 0.5)], [(3, 0.0)]], 4) is None
    assert least_harm([[(2, 1.0), (4, 0.5)], [(3, 0.0)]], 5) == [0, 0]
    assert least_harm([], 0) == []
