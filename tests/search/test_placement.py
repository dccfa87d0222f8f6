"""The cheapest cut between integers and float."""

from __future__ import annotations

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from qcompiler.search.placement import BOUNDARY_NS, place
from qcompiler.search.solver import Value


def cost(floats: frozenset[str], integer: dict[str, float], floating: dict[str, float], values: list[Value]) -> float:
    """The objective, computed term by term."""

    def is_float(name: str) -> bool:
        return name not in integer or name in floats

    total = sum(floating[n] if n in floats else integer[n] for n in integer)
    for value in values:
        crossing = [is_float(reader) for reader in value.readers]
        if is_float(value.producer):
            total += value.elements * BOUNDARY_NS * 1e-9 * (not all(crossing))
        else:
            total += value.elements * BOUNDARY_NS * 1e-9 * any(crossing)
    return total


def test_a_node_that_gains_less_than_its_boundaries_stays_float() -> None:
    values = [Value("", ("a",), 10_000), Value("a", ("rest",), 10_000)]
    assert place({"a": 10e-6}, {"a": 16e-6}, values) == {"a"}
    assert place({"a": 10e-6}, {"a": 20e-6}, values) == frozenset()


def test_a_chain_is_taken_as_a_whole() -> None:
    names = [f"n{i}" for i in range(5)]
    values = [Value("", ("n0",), 10_000)]
    values += [Value(a, (b,), 10_000) for a, b in itertools.pairwise(names)] + [Value("n4", ("rest",), 10_000)]
    assert place(dict.fromkeys(names, 10e-6), dict.fromkeys(names, 12e-6), values) == frozenset()
    slow = dict.fromkeys(names, 10e-6) | {"n2": 100e-6}
    assert place(slow, dict.fromkeys(names, 14e-6), values) >= {"n2"}


def test_what_belongs_together_moves_together() -> None:
    values = [Value("conv", ("pool",), 10)]
    assert place({"conv": 9e-6, "pool": 1e-6}, {"conv": 1e-6, "pool": 9e-6}, values) == {"conv"}
    assert place({"conv": 9e-6, "pool": 1e-6}, {"conv": 1e-6, "pool": 5e-6}, values, [("conv", "pool")]) == {
        "conv",
        "pool",
    }


@settings(max_examples=400)
@given(st.data())
def test_no_other_choice_is_cheaper(data: st.DataObject) -> None:
    names = [f"n{i}" for i in range(data.draw(st.integers(1, 6)))]
    micro = st.floats(0, 50).map(lambda x: x * 1e-6)
    integer = {n: data.draw(micro) for n in names}
    floating = {n: data.draw(micro) for n in names}
    values = []
    for i, producer in enumerate(["", *names]):
        readers = data.draw(st.lists(st.sampled_from([*names[i:], "rest"]), max_size=3, unique=True))
        values.append(Value(producer, tuple(readers), data.draw(st.integers(0, 100_000))))
    chosen = place(integer, floating, values)
    best = min(
        cost(frozenset(subset), integer, floating, values)
        for size in range(len(names) + 1)
        for subset in itertools.combinations(names, size)
    )
    assert cost(chosen, integer, floating, values) <= best + 1e-11
