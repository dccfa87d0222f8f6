"""reconstruct: layers make good what the quantized layers in front of them and their block's shortcut got wrong."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qcompiler import ir
from qcompiler.analysis import Runner, collect
from qcompiler.analysis.observe import observed
from qcompiler.backends import get
from qcompiler.data import Sample
from qcompiler.numerics.adaround import descended
from qcompiler.passes.lower.materialise import Materialise
from qcompiler.passes.plan.ada_round import codes_of, rows_of
from qcompiler.pipeline import Pipeline
from qcompiler.quant import QuantPlan
from qcompiler.search.algorithms import Algorithms
from qcompiler.search.candidates import Candidate, Drafter
from qcompiler.search.improve import Improver
from qcompiler.search.reconstruct import Reconstruction, Sums, block_of
from tests.graphs import parse

RNG = np.random.default_rng(3)
SAMPLES = [
    Sample({"x": np.cumsum(RNG.normal(size=(1, 6, 12, 12)), 3).astype(np.float32)}, None, f"s{i}") for i in range(24)
]


def residual() -> ir.Model:
    text = """g (float[1, 6, 12, 12] x) => (float[1, 10] y) {
        a = Conv <pads = [1, 1, 1, 1]> (x, w, b)
        r = Relu (a)
        c = Conv <pads = [1, 1, 1, 1]> (r, v, d)
        s = Add (c, r)
        t = Relu (s)
        p = GlobalAveragePool (t)
        f = Flatten (p)
        y = Gemm <transB = 1> (f, u)
    }"""
    sizes = {"w": (8, 6, 3, 3), "b": (8,), "v": (8, 8, 3, 3), "d": (8,), "u": (10, 8)}
    return parse(text, {name: RNG.normal(size=size, scale=0.2).astype(np.float32) for name, size in sizes.items()})


@pytest.fixture(scope="module")
def made() -> tuple[ir.Model, Candidate]:
    model = residual()
    drafter = Drafter(model, get("onnxruntime"), algorithms=Algorithms(round_kernels=False, correct_bias=False))
    draft = drafter.draft("int8")
    stats = collect(model, SAMPLES, drafter.statistics(draft))
    return model, drafter.candidate(draft, stats, "minmax", {})


def wrong(planned: ir.Model, plan: QuantPlan, tensor: str, samples: list[Sample]) -> float:
    """The variance of what quantization does to a tensor."""
    model = planned.copy()
    Pipeline().graph(model, [Materialise(plan)])
    values = []
    for graph in (model, planned):
        seen = observed(graph, [tensor])
        runner = Runner(seen.payload, outputs=[seen.outputs[tensor]])
        values.append(np.stack([runner.run(sample.feed)[seen.outputs[tensor]] for sample in samples]))
    error = values[0] - values[1]
    return float((error - error.mean((0, 1, 3, 4), keepdims=True)).var())


def test_a_block_ends_at_its_add(made: tuple[ir.Model, Candidate]) -> None:
    planned = made[1].planned
    ends = {node.outputs[0].name: block_of(node).name for node in planned.nodes if node.op in ("Conv", "Gemm")}
    assert ends["a"] == "a" and ends["c"] == "s" and len(ends) == 3


def test_the_block_comes_closer_to_float_on_other_samples(made: tuple[ir.Model, Candidate]) -> None:
    planned, plan = made[1].planned, made[1].plan
    found = Reconstruction(planned, SAMPLES[:16]).plan(plan)
    changed = [site for site in plan.sites if plan.sites[site] is not found.sites[site]]
    assert changed and all(site.port == 1 for site in changed)
    before, after = (wrong(planned, some, "s", SAMPLES[16:]) for some in (plan, found))
    assert after < 0.98 * before
    for site in changed:
        encoding = found.sites[site].encoding
        assert encoding is not None and encoding.codes is not None
        node = next(node for node in planned.nodes if node.name == site.consumer)
        steps = rows_of(node, encoding, ir.array(node.inputs[1]).astype(np.float64), 1)
        assert np.abs(encoding.codes.reshape(steps.shape) - steps).max() < 1
    again = Reconstruction(planned, SAMPLES[:16]).plan(plan)
    for site in changed:
        one, other = found.sites[site].encoding, again.sites[site].encoding
        assert one is not None and other is not None and np.array_equal(one.codes, other.codes)


def test_it_is_kept_only_for_what_it_does_on_other_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    model = residual()
    drafter = Drafter(model, get("onnxruntime"), algorithms=Algorithms(reconstruct=True))
    draft = drafter.draft("int8")
    stats = collect(model, SAMPLES, drafter.statistics(draft))
    base = drafter.candidate(draft, stats, "minmax", {})
    monkeypatch.setattr(Improver, "weights_matter", lambda self, candidate: True)
    improver = Improver(model, SAMPLES)
    fitted, held = improver.fitting()
    assert held and not {sample.name for sample in fitted} & {sample.name for sample in improver.held()}
    found = improver.improved(drafter, draft, base, stats, {})
    said = next(note for note in found.trace.notes if note.startswith("reconstruct: "))
    assert (found.model is base.model) == said.startswith("reconstruct: left out")
    many = Improver(model, [Sample(SAMPLES[i % 24].feed, None, str(i)) for i in range(100)])
    fitted, held = many.fitting()
    assert not held and not {sample.name for sample in fitted} & {sample.name for sample in many.samples()}


@settings(max_examples=40)
@given(st.integers(0, 10**6), st.floats(0, 3))
def test_changes_with_a_slope_end_where_no_single_one_gains(seed: int, toll: float) -> None:
    random = np.random.default_rng(seed)
    steps, x = random.uniform(-3, 3, (1, 2, 5)), random.normal(size=(40, 5))
    h, slope = (x.T @ x / 40)[None], random.normal(size=(1, 2, 5))
    start = np.rint(steps)
    found = descended(start, steps, h, -3, 3, slope=slope, toll=toll)

    def error(codes: np.ndarray, row: int) -> float:
        off = (codes - start)[0, row]
        return float(off @ h[0] @ off + 2 * off @ slope[0, row])

    for row, k in itertools.product(range(2), range(5)):
        assert abs(found[0, row, k] - steps[0, row, k]) < 1 and error(found, row) <= 1e-9
        other = found.copy()
        other[0, row, k] += 1 if steps[0, row, k] > found[0, row, k] else -1
        if -3 <= other[0, row, k] <= 3 and other[0, row, k] != found[0, row, k]:
            assert error(found, row) - error(other, row) <= toll + 1e-6


def test_sums_are_those_of_all_places() -> None:
    x, e = RNG.normal(size=(2, 30, 4)), RNG.normal(size=(2, 30, 3))
    sums = Sums()
    sums.add(x[:, :10], e[:, :10])
    sums.add(x[:, 10:], e[:, 10:])
    xx, ex, ee = sums.moments(centred=True)
    for group in range(2):
        both = np.cov(np.concatenate([e[group], x[group]], 1).T, bias=True)
        assert np.allclose(both[3:, 3:], xx[group]) and np.allclose(both[:3, 3:], ex[group])
        assert np.allclose(np.diag(both)[:3], ee[group])
    assert np.allclose(sums.moments(centred=False)[1][0], e[0].T @ x[0] / 30)


@pytest.mark.parametrize("op", ["MatMul(x, w)", "Gemm(x, w)", "Gemm<transB=1>(x, w)"])
def test_rows_and_back(op: str, made: tuple[ir.Model, Candidate]) -> None:
    node = parse(f"g (float[1,4] x) => (float[1,4] y) {{ y = {op} }}", {"w": np.ones((4, 4), np.float32)}).nodes[0]
    site = next(site for site in made[1].plan.sites if site.port == 1 and site.tensor == "u")
    encoding = made[1].plan.sites[site].encoding
    assert encoding is not None
    from dataclasses import replace

    plain = replace(encoding, scale=np.ones((), np.float32))
    values = np.arange(16.0).reshape(4, 4)
    rows = rows_of(node, plain, values, 1)
    assert np.array_equal(rows[0], values if "transB" in op else values.T)
    assert np.array_equal(codes_of(node, plain, rows), values)
