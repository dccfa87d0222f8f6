"""improve: weights that matter are rounded for what their layers read, and a step that does not help is left out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from qcompiler import ir
from qcompiler.analysis import Stats, collect
from qcompiler.backends import get
from qcompiler.data import Sample
from qcompiler.numerics.affine import quantize
from qcompiler.numerics.patches import patches
from qcompiler.passes.lower.materialise import Materialise
from qcompiler.passes.plan.ada_round import AdaRound, layers_of, window_of
from qcompiler.passes.plan.avoid_saturation import largest_sum
from qcompiler.pipeline import Pipeline
from qcompiler.quant import Site
from qcompiler.search.algorithms import Algorithms
from qcompiler.search.candidates import Candidate, Draft, Drafter
from qcompiler.search.improve import Improver, weights_alone
from tests.graphs import parse

RNG = np.random.default_rng(11)
# What neighbours hold is much alike, as in sound.
SOUND = np.cumsum(np.cumsum(RNG.normal(size=(12, 1, 256)), 2) - 0.2, 2).astype(np.float32)
SAMPLES = [
    Sample({"x": (x[None] / np.abs(SOUND).max()).astype(np.float32)}, None, f"s{i}") for i, x in enumerate(SOUND)
]


def model() -> ir.Model:
    text = """g (float[1, 1, 256] x) => (float[1, 4, 64] y) {
        a = Conv <strides = [4], pads = [6, 6]> (x, w, b)
        r = Relu (a)
        y = Conv <pads = [1, 1]> (r, v, c)
    }"""
    wave = np.sin(np.arange(16) * np.arange(1, 17)[:, None] * 0.35)[:, None]
    constants = {"w": wave, "b": RNG.normal(size=16) * 0.1, "v": RNG.normal(size=(4, 16, 3)), "c": RNG.normal(size=4)}
    return parse(text, {name: values.astype(np.float32) for name, values in constants.items()})


def drafted(off: str = "") -> tuple[ir.Model, Drafter, Draft, Stats, Candidate]:
    given = model()
    drafter = Drafter(given, get("onnxruntime"), algorithms=Algorithms(adaround=not off))
    draft = drafter.draft("int8")
    stats = collect(given, SAMPLES, drafter.statistics(draft))
    return given, drafter, draft, stats, drafter.candidate(draft, stats, "auto", {})


def test_moments_are_those_of_the_quantized_inputs() -> None:
    given, _, _, _, base = drafted()
    layers = layers_of(base.planned, base.plan)
    assert len(layers) == 2
    for node in base.planned.nodes:
        if node.name not in layers or layers[node.name].tensor != "x":
            continue
        layer, window = layers[node.name], window_of(node)
        assert window == layer.window and window is not None
        seen = Improver(given, SAMPLES).seen(base.planned, {node.name: layer})[node.name]
        rows = []
        for sample in SAMPLES:
            encoding = layer.encoding
            codes = quantize(sample.feed["x"], encoding.scale, encoding.zero_point, qmin=0, qmax=255, dtype=np.int32)
            rows.append(patches(codes - encoding.zero_point, window, 256)[0])
        every = np.concatenate(rows).astype(np.int64)
        assert seen.count == len(every)
        assert np.array_equal(seen.second[0], every.T @ every)
        assert np.array_equal(seen.first[0], every.sum(0))
        assert np.allclose(seen.centred[0], np.cov(every.T, bias=True), rtol=1e-6, atol=1e-6)


def test_weights_that_matter_are_rounded_and_the_outputs_gain() -> None:
    given, drafter, draft, stats, base = drafted()
    improver = Improver(given, SAMPLES)
    layers = layers_of(base.planned, base.plan)
    step = AdaRound(improver.seen(base.planned, layers))
    made = drafter.candidate(draft, stats, "auto", {}, (step,))
    found = improver.quality({"base": weights_only(base), "made": weights_only(made)}, plain=("base", "made"))
    assert found["made"] > found["base"] + 3
    again = drafter.candidate(draft, stats, "auto", {}, (step,))
    assert made.model.to_proto().SerializeToString() == again.model.to_proto().SerializeToString()


def weights_only(candidate: Candidate) -> ir.Model:

    found = candidate.planned.copy()
    Pipeline().graph(found, [Materialise(weights_alone(candidate.planned, candidate.plan))])
    return found


def test_only_what_gains_is_kept_and_the_trace_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    given, drafter, draft, stats, base = drafted()
    improver = Improver(given, SAMPLES)
    monkeypatch.setattr(Improver, "weights_matter", lambda self, candidate: True)
    made = improver.improved(drafter, draft, base, stats, {})
    said = [note for note in made.trace.notes if note.startswith("adaround: ")]
    assert len(said) == 1
    found = improver.quality({"base": base.runs, "made": made.runs})
    kept = said[0].startswith("adaround: kept")
    assert found["made"] > found["base"] if kept else made.model is base.model
    monkeypatch.setattr(Improver, "quality", lambda self, models, plain=(), held=False: {"base": 30.0, "made": 30.05})
    assert improver.improved(drafter, draft, base, stats, {}).model is base.model


def test_an_algorithm_that_harms_is_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    given, drafter, draft, stats, base = drafted()
    assert any(record.name == "round-kernels" and record.changes for record in base.trace.records)
    monkeypatch.setattr(Improver, "weights_matter", lambda self, candidate: True)
    tried: list[str] = []

    def better(self: Improver, base: Candidate, made: Candidate, name: str) -> Candidate:
        tried.append(name)
        return made if name == "no round-kernels" else base

    monkeypatch.setattr(Improver, "_better", better)
    made = Improver(given, SAMPLES).improved(drafter, draft, base, stats, {})
    assert tried == ["no round-kernels, correct-bias", "no round-kernels", "no correct-bias", "adaround"]
    assert not any(record.name == "round-kernels" and record.changes for record in made.trace.records)


def test_hardware_that_adds_pairs_rounds_too_and_no_pair_saturates(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Improver, "weights_matter", lambda self, candidate: True)
    given = model()
    drafter = Drafter(given, get("onnxruntime:avx2"), algorithms=Algorithms(adaround=True))
    draft = drafter.draft("int8")
    stats = collect(given, SAMPLES, drafter.statistics(draft))
    base = drafter.candidate(draft, stats, "auto", {})
    made = Improver(given, SAMPLES).improved(drafter, draft, base, stats, {})
    said = {note.split(":")[0] for note in made.trace.notes}
    assert "adaround" in said
    limit, chosen = 32767 // 255, 0
    for candidate in (base, made):
        for node in candidate.planned.nodes:
            decision = candidate.plan.sites.get(Site(node.inputs[1].name, node.name, 1)) if node.op == "Conv" else None
            if decision is not None and decision.encoding is not None and decision.encoding.codes is not None:
                chosen += 1
                assert largest_sum(decision.encoding.codes, node, ir.array(node.inputs[1])) <= limit
    assert chosen


def test_nothing_is_tried_where_it_is_off_or_cannot_gain() -> None:
    given, drafter, draft, stats, base = drafted()
    off = replace(drafter, algorithms=Algorithms(adaround=False))
    assert Improver(given, SAMPLES).improved(off, draft, base, stats, {}) is base
    coarse = Improver(given, SAMPLES)
    coarse.quality = lambda models, plain=(), held=False: {"all": 20.0, "weights": 40.0}  # type: ignore[method-assign]
    assert coarse.improved(drafter, draft, base, stats, {}) is base


def test_samples_come_from_all_over_the_data() -> None:
    many = [Sample({}, None, str(i)) for i in range(100)]
    names = [int(sample.name) for sample in Improver(model(), many).samples()]
    assert len(names) == 32 and names[0] == 0 and names[-1] >= 90


def test_candidates_of_one_draft_share_what_is_the_same_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    _, drafter, draft, stats, _ = drafted()
    other = replace(drafter, algorithms=drafter.algorithms.updated({"correct-bias": False}))
    assert other.equalized(draft, stats) == drafter.equalized(draft, stats)
    assert drafter.equalized(draft, stats)[0] is other.equalized(draft, stats)[0]
    off = replace(drafter, algorithms=drafter.algorithms.updated({"equalize-depthwise": False}))
    assert off.equalized(draft, stats)[0] is not drafter.equalized(draft, stats)[0]
    for _ in range(8):
        again = drafter.draft("int8")
        assert drafter.equalized(again, stats)[0].model is not draft.model
