"""smooth-quant: alpha is what leaves the least measured error; the function stays, and so do other readers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qcompiler import ir
from qcompiler.analysis import Stats, collect
from qcompiler.analysis.same_function import SameFunction
from qcompiler.backends import get
from qcompiler.data import Sample
from qcompiler.numerics.smooth import error, smoothed
from qcompiler.search.algorithms import Algorithms
from qcompiler.search.candidates import Candidate, Draft, Drafter
from qcompiler.search.improve import Improver
from tests.graphs import ops, parse, run

RNG = np.random.default_rng(8)
normal = partial(RNG.normal)
OUTLIERS = np.where(np.arange(32) % 16 == 3, 60.0, 1.0)  # two channels much larger than the others
CONSTANTS = {
    name: np.asarray(values, np.float32)
    for name, values in {
        "g": OUTLIERS, "h": normal(size=32) * 0.1, "m": normal(size=(32, 40)), "n": normal(size=(32, 24)),
        "v": normal(size=(40, 32)) * 0.1,
    }.items()
}  # fmt: skip
SAMPLES = [Sample({"x": normal(size=(1, 12, 32)).astype(np.float32)}, None, f"s{i}") for i in range(8)]
FOLDED = "t = LayerNormalization (x, g, h) y = MatMul (t, m)"
SHARED = "t = LayerNormalization (x, g, h) a = MatMul (t, m) b = MatMul (a, v) y = Add (b, t)"


def drafted(body: str, precision: str, nodes: bool = True) -> tuple[ir.Model, Drafter, Draft, Stats]:
    used = {name: values for name, values in CONSTANTS.items() if f" {name})" in body or f" {name}," in body}
    model = parse(f"gr (float[1, 12, 32] x) => (float[a, b2, c] y) {{ {body} }}", used)
    backend = get("onnxruntime")
    drafter = Drafter(model, backend, algorithms=Algorithms(smooth_quant=True), same=SameFunction(SAMPLES[0].feed))
    draft = drafter.draft(precision)  # type: ignore[arg-type]
    stats = collect(model, SAMPLES, drafter.statistics(draft))
    return model, replace(drafter, rows=Improver(model, SAMPLES).rows(draft, nodes)), draft, stats


def both(body: str, precision: str) -> Iterator[tuple[Candidate, float]]:
    """Without and with it, each with the error on the samples."""
    model, drafter, draft, stats = drafted(body, precision)
    for on in (False, True):
        made = replace(drafter, algorithms=Algorithms(smooth_quant=on)).candidate(draft, stats, "minmax", {})
        wrong = [run(made.model, s.feed)[0] - run(model, s.feed)[0] for s in SAMPLES]
        yield made, float(np.square(wrong).mean())


@pytest.mark.parametrize("precision", ["int8", "w8"])
@pytest.mark.parametrize(("body", "added"), [(FOLDED, 0), (SHARED, 1)])
def test_outliers_are_taken_into_the_weights(body: str, added: int, precision: str) -> None:
    (_, before), (made, after) = both(body, precision)
    assert after < 0.5 * before
    assert ops(made.planned).count("Mul") == added
    (record,) = [record for record in made.trace.records if record.name == "smooth-quant"]
    assert record.changes == 1


@pytest.mark.parametrize("body", [FOLDED, SHARED])
def test_the_function_stays_the_same(body: str) -> None:
    model, drafter, draft, stats = drafted(body, "int8")
    equal, _ = drafter.equalized(draft, stats)
    for sample in SAMPLES:
        np.testing.assert_allclose(run(equal.model, sample.feed)[0], run(model, sample.feed)[0], rtol=1e-5, atol=1e-4)


def test_a_target_without_cheap_products_adds_none() -> None:
    _, drafter, draft, _ = drafted(SHARED, "int8", nodes=False)
    assert not {"t"} & set(drafter.rows)
    assert set(drafted(SHARED, "int8")[1].rows) >= {"t"}
    assert set(Improver(draft.model, SAMPLES).rows(draft, False)) == set(drafter.rows)


def test_it_is_kept_where_the_outputs_gain() -> None:
    model, drafter, draft, stats = drafted(SHARED, "int8")
    base = replace(drafter, algorithms=drafter.algorithms.sure).candidate(draft, stats, "minmax", {})
    better = Improver(model, SAMPLES).improved(replace(drafter, rows={}), draft, base, stats, {})
    assert any(note.startswith("smooth-quant: kept") for note in better.trace.notes)


@given(st.integers(0, 10**6), st.integers(1, 12), st.integers(1, 6), st.sampled_from([0.5, 0.9]))
def test_what_is_chosen_is_measured_to_be_better(seed: int, channels: int, columns: int, worth: float) -> None:
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(20, channels)) * 2.0 ** rng.uniform(-6, 3, channels)
    weights = [rng.normal(size=(channels, columns)), rng.normal(size=(channels, 2))]
    low, high = rows.min(axis=0), rows.max(axis=0)
    k = smoothed(rows, low, high, weights, worth)
    exact = [rows @ part for part in weights]
    found, plain = (error(which, rows, low, high, weights, exact, 255) for which in (k, np.zeros_like(k)))
    assert (k >= 0).all() and (not k.any() or found < 1.01 * worth * plain)
