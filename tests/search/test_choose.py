"""choose: what is shipped, from what was measured."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qcompiler.search.choose import Choice, choose
from qcompiler.search.promise import Judged, Promise, breakage, verdict

FUSED = Judged("float", speedup=1.1, noise=0.01)
GIVEN = Judged("float", speedup=1.0, noise=0.01)


def fine(precision: str = "int8", **figures: object) -> Judged:
    """A candidate without fault; `figures` replace its own."""
    usual = {"worst_output": "y", "worst_sqnr_db": 30.0, "drop": 0.0, "ci_low": -0.01, "ci_high": 0.005}
    return Judged(precision, **{**usual, "speedup": 2.0, "noise": 0.05, **figures})  # type: ignore[arg-type]


def among(*quantized: Judged, max_drop: float | None = None, floats: tuple[Judged, ...] = (FUSED, GIVEN)) -> Choice:
    return choose([*quantized, *floats], Promise(max_drop), 5.0)


@pytest.mark.parametrize(
    ("candidates", "index", "reasons"),
    [
        ([fine()], 0, ["shipped: the fastest (2.00 times)"]),
        ([fine(speedup=1.5), fine("w8")], 1, ["not faster than the shipped one (1.50 times)", "shipped: the fastest"]),
        (
            [fine(speedup=1.95), fine("w8")],
            0,
            [
                "shipped: the first of those nearly as fast as the fastest (1.95 times)",
                "not faster than the shipped one",
            ],
        ),
        (
            [fine(speedup=1.12)],
            1,
            ["no faster than float (1.12 times, float 1.10, noise 0.05)", "shipped: no quantized"],
        ),
        ([fine(speedup=0.7), fine("w8", speedup=0.9)], 2, ["no faster than float (0.70", "no faster than float (0.90"]),
        ([fine(worst_sqnr_db=4.9)], 1, ["broken: output 'y' has an SQNR of 4.9 dB, under 5"]),
        ([fine(worst_sqnr_db=math.nan)], 1, ["broken: output 'y' has an SQNR of nan dB"]),
        ([fine(worst_sqnr_db=math.inf)], 0, ["shipped"]),
        ([fine(worst_sqnr_db=1.0, speedup=4.0), fine("w8")], 1, ["broken", "shipped: the fastest (2.00 times)"]),
        ([fine(speedup=math.nan)], 1, ["no faster than float (nan times"]),
        ([fine(speedup=None)], 0, ["shipped: the first that is not broken; nothing was timed"]),
        ([fine(drop=0.05, ci_low=0.03, ci_high=0.07)], 1, ["broken: the metric falls by 5.00%, surely more than 2%"]),
        ([fine(drop=0.05, ci_low=0.01, ci_high=0.09)], 0, ["shipped"]),
        ([fine(drop=0.05, ci_low=0.03, ci_high=0.07, agreement=True)], 0, ["shipped"]),
        (
            [fine(drop=0.2, ci_low=0.15, ci_high=0.3, agreement=True, worst_sqnr_db=8.0)],
            1,
            ["broken: the metric falls by 20.00%, surely more than 5%"],
        ),
        ([fine(drop=0.2, ci_low=0.15, ci_high=0.3, agreement=True, worst_sqnr_db=12.0)], 0, ["shipped"]),
        ([fine(drop=math.nan)], 1, ["broken: the metric is not a number"]),
    ],
)
def test_without_a_contract(candidates: list[Judged], index: int, reasons: list[str]) -> None:
    found = among(*candidates)
    assert found.index == index
    for said, expected in zip(found.reasons, reasons, strict=False):
        assert said.startswith(expected)


@pytest.mark.parametrize(
    ("candidate", "index", "word", "reason"),
    [
        (fine(), 0, "holds", "shipped: the fastest"),
        (fine(ci_high=0.02), 0, "undecided", "shipped: the fastest"),
        (
            fine(drop=0.02, ci_low=0.005, ci_high=0.04),
            1,
            "holds",
            "broken: the metric falls by 2.00%, more than the 1.00%",
        ),
        (fine(drop=0.03, ci_low=0.02, ci_high=0.04), 1, "holds", "broken: the metric falls by 3.00%, surely more"),
        (fine(drop=0.03, ci_low=None, ci_high=None), 1, "holds", "broken: the metric falls by 3.00%, more than"),
        (fine(drop=0.001, ci_low=None, ci_high=None), 0, "undecided", "shipped"),
        (fine(drop=None, ci_low=None, ci_high=None), 0, "undecided", "shipped"),
    ],
)
def test_under_a_contract_of_one_percent(candidate: Judged, index: int, word: str, reason: str) -> None:
    found = among(candidate, max_drop=0.01)
    assert (found.index, found.verdict) == (index, word)
    assert found.reasons[0].startswith(reason)
    assert found.broken == ((0,) if index else ())


@pytest.mark.parametrize(
    ("floats", "index", "reason"),
    [
        ((FUSED, GIVEN), 0, "shipped: the fastest (1.10 times)"),
        ((Judged("float", speedup=0.9, noise=0.01), GIVEN), 1, "shipped: the fastest (1.00 times)"),
        ((Judged("float", speedup=0.99, noise=0.02), GIVEN), 0, "shipped: the fastest (0.99 times)"),
        ((Judged("float"), Judged("float")), 0, "shipped: the fastest"),
        ((GIVEN,), 0, "shipped: the fastest (1.00 times)"),
    ],
)
def test_float_models_alone(floats: tuple[Judged, ...], index: int, reason: str) -> None:
    found = choose(floats, Promise(), 5.0)
    assert found.index == index
    assert found.reasons[index] == reason


def test_verdict_without_samples() -> None:
    assert verdict(Judged("int8"), Promise()) == "not measured"
    assert verdict(fine(), Promise()) == "informative"
    assert verdict(fine(drop=0.05, ci_low=0.03, ci_high=0.07), Promise(0.01)) == "broken"


figure = st.none() | st.floats(-1, 1) | st.just(math.nan)
judged = st.builds(
    Judged,
    precision=st.sampled_from(["int8", "w8"]),
    worst_output=st.just("y"),
    worst_sqnr_db=st.none() | st.floats(-20, 60) | st.sampled_from([math.nan, math.inf]),
    drop=figure,
    ci_low=figure,
    ci_high=figure,
    agreement=st.booleans(),
    speedup=st.none() | st.floats(0.1, 5) | st.just(math.nan),
    noise=st.floats(0, 0.5),
)
float_models = st.lists(
    st.builds(Judged, precision=st.just("float"), speedup=st.none() | st.floats(0.5, 2), noise=st.floats(0, 0.2)),
    min_size=1,
    max_size=2,
)
contract = st.builds(Promise, st.none() | st.floats(0, 0.2), stated=st.booleans(), insist=st.booleans())


@given(st.lists(judged, max_size=4), float_models, contract)
def test_never_ships_broken_or_slower_and_says_why(
    quantized: list[Judged], floats: list[Judged], promise: Promise
) -> None:
    candidates = [*quantized, *floats]
    found = choose(candidates, promise, 5.0)
    shipped = candidates[found.index]
    assert breakage(shipped, promise, 5.0) is None
    assert found.index not in found.broken
    if shipped.precision != "float" and shipped.speedup is not None:
        assert shipped.speedup >= 1.0 + shipped.noise
        assert all(shipped.speedup >= (other.speedup or 0.0) + shipped.noise for other in floats)
    assert len(found.reasons) == len(candidates)
    assert all(found.reasons)
    assert [reason.startswith("shipped") for reason in found.reasons].count(True) == 1
    assert found.reasons[found.index].startswith("shipped")
    if promise.max_drop is not None and promise.stated:
        assert found.verdict in ("holds", "undecided")
    again = choose(list(candidates), promise, 5.0)
    assert again == found


@given(st.lists(judged, max_size=4), float_models)
def test_float_is_shipped_only_where_nothing_quantized_is_left(quantized: list[Judged], floats: list[Judged]) -> None:
    candidates = [*quantized, *floats]
    found = choose(candidates, Promise(), 5.0)
    if candidates[found.index].precision == "float":
        refused = ("broken", "no faster than float")
        assert all(reason.startswith(refused) for reason in found.reasons[: len(quantized)])


def test_among_nearly_equal_ones_the_most_accurate_is_shipped() -> None:
    candidates = [
        fine(speedup=2.0, worst_sqnr_db=15.0),
        fine(speedup=1.93, worst_sqnr_db=25.0),
        fine("float", speedup=1.0),
    ]
    assert choose(candidates, Promise(), 5.0).index == 1
    assert choose([candidates[0], fine(speedup=1.8, worst_sqnr_db=25.0), candidates[2]], Promise(), 5.0).index == 1
    assert choose([candidates[0], fine(speedup=1.7, worst_sqnr_db=25.0), candidates[2]], Promise(), 5.0).index == 0
    clean = fine(speedup=2.0, worst_sqnr_db=30.0)
    assert choose([clean, fine(speedup=1.8, worst_sqnr_db=40.0), candidates[2]], Promise(), 5.0).index == 0


DEFAULT = Promise(0.01, stated=False)
BY_NAME = Promise(0.01, stated=False, insist=True)


@pytest.mark.parametrize(
    "first",
    [fine(speedup=None, ci_high=0.02), fine(speedup=None, worst_sqnr_db=12.0)],
    ids=["undecided", "further from float"],
)
def test_what_was_not_timed_is_as_fast_as_its_place_says(first: Judged) -> None:
    """Neither a surer verdict nor less noise is worth a speed that nobody knows; a promise that was asked for is."""
    second, floats = fine("w8", speedup=None, worst_sqnr_db=50.0), (Judged("float"), Judged("float"))
    found = choose([first, second, *floats], DEFAULT, 5.0)
    assert found.index == 0
    assert found.reasons[0] == "shipped: the first that is not broken; nothing was timed"
    if first.ci_high == 0.02:
        assert choose([first, second, *floats], Promise(0.01), 5.0).index == 1
    lost = fine(speedup=None, drop=0.015, ci_high=0.03)
    assert choose([lost, second, *floats], DEFAULT, 5.0).index == 1


@pytest.mark.parametrize(
    ("candidates", "promise", "index", "word", "reasons"),
    [
        # what loses more than 1 % gives way, to another candidate or to float
        (
            [fine(drop=0.015, ci_high=0.03, speedup=3.0), fine("w8", speedup=1.5, ci_high=0.02)],
            DEFAULT,
            1,
            "undecided",
            ["set aside: the metric falls by 1.50%, more than 1.00% (--max-drop none", "shipped"],
        ),
        (
            [fine(drop=0.015, ci_high=0.03)],
            DEFAULT,
            1,
            "holds",
            ["set aside", "shipped: no quantized candidate is left"],
        ),
        # asked for by name, the one that loses least is shipped all the same
        (
            [fine(drop=0.015, ci_high=0.03), fine(drop=0.012, ci_high=0.03, speedup=1.5)],
            BY_NAME,
            1,
            "undecided",
            ["set aside", "shipped: asked for by name, though it is more than is lost unasked"],
        ),
        ([fine(drop=0.015, ci_low=0.011, ci_high=0.03)], BY_NAME, 0, "broken", ["shipped: asked for by name"]),
        # but no collapse
        (
            [fine(drop=0.05, ci_low=0.03, ci_high=0.07)],
            BY_NAME,
            1,
            "holds",
            ["broken: the metric falls by 5.00%, surely"],
        ),
        ([fine(worst_sqnr_db=3.0)], BY_NAME, 1, "holds", ["broken: output 'y'"]),
        # other units
        (
            [fine(drop=0.03, ci_low=0.02, ci_high=0.05, unit="noise")],
            DEFAULT,
            1,
            "holds",
            ["set aside: noise is 3.00% of the signal, more than 1.00%"],
        ),
        (
            [fine(drop=0.3, ci_low=0.2, ci_high=0.5, unit="number")],
            DEFAULT,
            1,
            "holds",
            ["set aside: the metric falls by 0.3,"],
        ),
        # nearly as fast and surely within it goes before a little faster and undecided
        ([fine(ci_high=0.02, speedup=2.05), fine()], DEFAULT, 1, "holds", ["not faster", "shipped: the first of"]),
        ([fine(ci_high=0.02, speedup=2.5), fine()], DEFAULT, 0, "undecided", ["shipped: the fastest", "not faster"]),
    ],
)
def test_a_promise_that_nobody_asked_for_steers(
    candidates: list[Judged], promise: Promise, index: int, word: str, reasons: list[str]
) -> None:
    found = choose([*candidates, FUSED, GIVEN], promise, 5.0)
    assert (found.index, found.verdict) == (index, word)
    assert all(said.startswith(expected) for said, expected in zip(found.reasons, reasons, strict=False))


def test_a_promise_that_was_asked_for_prefers_what_surely_keeps_it() -> None:
    found = among(fine(ci_high=0.02, speedup=3.0), fine(speedup=1.5), max_drop=0.01)
    assert (found.index, found.verdict) == (1, "holds")
    assert found.reasons[0] == "undecided, and the shipped one holds (3.00 times)"


def test_without_any_promise_noise_and_numbers_are_no_collapse() -> None:
    lost = fine(drop=0.3, ci_low=0.2, ci_high=0.4, unit="noise", worst_sqnr_db=6.0)
    assert among(lost).index == 0
    assert among(fine(drop=30.0, ci_low=20.0, ci_high=40.0, unit="number")).index == 0
