"""clip-activations: each activation gets the range that leaves the outputs least off, and what only fits the samples
that chose it is left."""

from __future__ import annotations

from dataclasses import replace
from glob import escape

import numpy as np
import pytest

from qcompiler import ir
from qcompiler.analysis import Runner, SessionConfig, Stats, collect
from qcompiler.backends import get
from qcompiler.data import Sample
from qcompiler.search.algorithms import PRESETS, Algorithms
from qcompiler.search.candidates import Candidate, Draft, Drafter
from qcompiler.search.clip_activations import LESS, ClipActivations, distinct, far, noise, opened
from qcompiler.search.improve import Improver
from tests.graphs import parse, run

RNG = np.random.default_rng(3)
FAST = Algorithms()


def samples(outliers: float) -> list[Sample]:
    """Values about 1, and one in a thousand far out, which the network does not use."""
    made = []
    for number in range(24):
        x = RNG.normal(size=(1, 4, 16, 16)).astype(np.float32)
        x[0, 3, number % 16, :2] *= outliers
        made.append(Sample({"x": x}, None, f"s{number}"))
    return made


def model() -> ir.Model:
    """Channel 3 hardly counts, so its far values may be cut off."""
    text = """g (float[1, 4, 16, 16] x) => (float[1, 4, 14, 14] y) {
        a = Conv (x, w, b)
        y = Conv (a, v, b)
    }"""
    w, v = RNG.normal(size=(4, 4, 3, 3)), RNG.normal(size=(4, 4, 1, 1))
    w[:, 3] *= 1e-3
    values = {"w": w, "v": v, "b": np.zeros(4)}
    return parse(text, {name: array.astype(np.float32) for name, array in values.items()})


def made(source: list[Sample], method: str = "minmax") -> tuple[ir.Model, Drafter, Draft, Stats, Candidate]:
    given = model()
    drafter = Drafter(given, get("onnxruntime"), algorithms=FAST)
    draft = drafter.draft("int8")
    stats = collect(given, source, drafter.statistics(draft))
    return given, drafter, draft, stats, drafter.candidate(draft, stats, method, {})


def damage(given: ir.Model, candidate: Candidate, some: list[Sample]) -> float:
    """With ONNX Runtime's optimisation off."""
    wanted = [dict(enumerate(run(given, sample.feed))) for sample in some]
    got = [dict(enumerate(run(candidate.model, sample.feed))) for sample in some]
    return noise(
        [{str(k): v for k, v in one.items()} for one in wanted], [{str(k): v for k, v in one.items()} for one in got]
    )


def test_scales_from_the_feed_give_the_same_as_scales_in_the_model() -> None:
    source = samples(40)
    _, drafter, draft, stats, base = made(source)
    other = drafter.candidate(draft, stats, "percentile", {})
    roots = [root for root in base.plan.groups() if root.tensor in ("x", "a")]
    model_ = opened(base.planned, base.plan, roots)
    assert {root.tensor for root in model_.places} == {"x", "a"}
    off = SessionConfig("off")
    feed = source[0].feed
    for candidate in (base, other):
        # weights and biases as in the base
        sites = {root: candidate.plan.sites[root] for root in roots}
        plain = opened(base.planned, base.plan.with_sites(sites), []).model
        ranges = model_.feed({root: sites[root].encoding for root in roots})  # type: ignore[misc]
        one = Runner(plain, off).run(feed)["y"]
        two = Runner(model_.model, off).run({**feed, **ranges})["y"]
        np.testing.assert_array_equal(one, two)
    assert not np.array_equal(run(base.model, feed)[0], run(other.model, feed)[0])


def test_values_that_do_not_count_are_cut_off_and_the_outputs_gain() -> None:
    source = samples(40)
    given, drafter, draft, stats, base = made(source)
    steps = ClipActivations(*drafter.equalized(draft, stats), SessionConfig(), 10000)
    chosen = steps.chosen(base, {}, given, source[::4])
    assert "x" in chosen and chosen["x"] != "minmax"
    better = drafter.candidate(draft, stats, "minmax", chosen)
    held = [sample for number, sample in enumerate(source) if number % 4]
    assert damage(given, better, held) < (1 - LESS) * damage(given, base, held)


def test_runs_are_kept_to_and_what_the_user_chose_is_not_touched() -> None:
    source = samples(40)
    given, drafter, draft, stats, base = made(source)
    few = ClipActivations(*drafter.equalized(draft, stats), SessionConfig(), 7)
    assert few.chosen(base, {}, given, source[::4]) == {} and few.tried <= 7
    methods = {"*": "minmax"}
    steps = ClipActivations(*drafter.equalized(draft, stats), SessionConfig(), 10000)
    assert steps.chosen(base, methods, given, source[::4]) == {} and steps.tried == 0


@pytest.mark.parametrize("gain", [0.0, 1.0])
def test_it_is_kept_for_what_it_does_on_other_samples(gain: float, monkeypatch: pytest.MonkeyPatch) -> None:
    source = samples(40)
    given, drafter, draft, stats, base = made(source)
    wanted = replace(drafter, algorithms=FAST.updated({"clip-activations": True}))
    improver = Improver(given, source)
    judged: list[bool] = []

    def quality(models: object, plain: object = (), *, held: bool = False) -> dict[str, float]:
        judged.append(held)
        return {"base": 30.0, "made": 30.0 + gain, "all": 20.0, "weights": 60.0}

    monkeypatch.setattr(improver, "quality", quality)
    found = improver.improved(wanted, draft, base, stats, {})
    assert judged[0] is True and len(improver.held()) == 18
    note = next(note for note in found.trace.notes if note.startswith("clip-activations"))
    assert ("kept" in note) == bool(gain) and (found.model is base.model) == (not gain)
    assert bool(found.methods) == bool(gain)
    if gain:
        again = wanted.reshaped(given, found, stats, {})
        np.testing.assert_array_equal(run(again, source[0].feed)[0], run(found.model, source[0].feed)[0])


def test_too_few_samples_choose_nothing() -> None:
    source = samples(40)[:4]
    given, drafter, draft, stats, base = made(source)
    wanted = replace(drafter, algorithms=FAST.updated({"clip-activations": True}))
    assert Improver(given, source).improved(wanted, draft, base, stats, {}) is base


def test_ranges_that_are_nearly_one_are_tried_once() -> None:
    _, _, _, _, base = made(samples(40))
    encoding = next(base.plan.sites[root].encoding for root in base.plan.groups() if root.tensor == "x")
    assert encoding is not None
    near, wide = (replace(encoding, scale=np.float32(encoding.scale * factor)) for factor in (1.01, 2.0))
    assert far(encoding, near) < 0.03 < far(encoding, wide)
    assert list(distinct(encoding, {"near": near, "wide": wide, "again": wide})) == ["wide"]


def test_it_is_part_of_best_and_names_are_taken_word_for_word() -> None:
    assert PRESETS["best"].clip_activations and not PRESETS["balanced"].clip_activations
    assert not PRESETS["best"].sure.clip_activations
    assert escape("a[1]*") != "a[1]*"
