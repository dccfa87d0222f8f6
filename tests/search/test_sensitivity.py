"""Groups, plans of some groups, and the harm of each: parts of runs give what whole runs give."""

from __future__ import annotations

import numpy as np
import pytest

from qcompiler import ir
from qcompiler.analysis import HISTOGRAM, Runner, SessionConfig, collect
from qcompiler.backends import get
from qcompiler.data import Sample
from qcompiler.errors import DataError
from qcompiler.numerics import SqnrMeter
from qcompiler.passes.lower.materialise import Materialise
from qcompiler.passes.plan.restrict import restricted
from qcompiler.passes.prepare.eliminate_dead import EliminateDead
from qcompiler.pipeline import Pipeline
from qcompiler.search.candidates import Candidate, Drafter
from qcompiler.search.groups import groups_of, moved_with
from qcompiler.search.sensitivity import sensitivities
from tests.graphs import feed_for, parse
from tests.small import FIRST, SAME, graph

BODY = f"""{FIRST} r = Relu(a) p = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (r)
    d = Conv{SAME}(p, v, c) s = Add(d, p) t = Tanh(s) g = GlobalAveragePool(t) f = Flatten(g) y = Gemm(f, m8, n)"""
OFF = SessionConfig("off")


def candidate(body: str = BODY, outputs: str = "float[1, 10] y") -> tuple[ir.Model, Candidate, list[Sample]]:
    model = graph(body, outputs=outputs)
    samples = [Sample(feed_for(model, seed), None, str(seed)) for seed in range(5)]
    drafter = Drafter(model, get("onnxruntime"))
    draft = drafter.draft("int8")
    stats = collect(model, samples, dict.fromkeys(draft.wanted, (HISTOGRAM,)))
    return model, drafter.candidate(draft, stats, "minmax", {}), samples


def damage(made: Candidate, keep: set[str], samples: list[Sample]) -> SqnrMeter:
    """What quantizing the nodes of `keep` does to the output, by whole runs."""
    model = made.planned.copy()
    Pipeline().graph(model, [Materialise(restricted(model, made.plan, keep)), EliminateDead()])
    quantized, floating, meter = Runner(model, OFF), Runner(made.planned, OFF), SqnrMeter()
    for sample in samples:
        meter = meter.update(floating.run(sample.feed)["y"], quantized.run(sample.feed)["y"])
    return meter


def test_groups_follow_what_the_target_computes_together() -> None:
    model, made, _ = candidate()
    groups = groups_of(model, made)
    found = [(group.name, group.planned, group.moves) for group in groups]
    assert found == [
        ("Conv_a", ("Conv_a", "Relu_r"), False),
        ("MaxPool_p", ("MaxPool_p",), True),
        ("Conv_d", ("Conv_d",), False),
        ("Gemm_y", ("Gemm_y",), False),
    ]  # nothing quantized reads the Add
    assert [group.results for group in groups if group.name == "Conv_a"] == [("r",)]
    assert ("Conv_a", "MaxPool_p") in moved_with(groups, made.planned)


def test_fused_nodes_are_one_group_with_their_reader() -> None:
    model, made, _ = candidate()
    groups = groups_of(model, made, {"Tanh_t": "GlobalAveragePool_g", "Flatten_f": "Gemm_y"})
    assert groups[-1].name == "Gemm_y" and groups[-1].prepared == ("Flatten_f", "Gemm_y")


@pytest.mark.parametrize("memory", [1, 1 << 30])
def test_parts_of_runs_give_what_whole_runs_give(memory: int) -> None:
    model, made, samples = candidate()
    groups = groups_of(model, made)
    every = {name for group in groups for name in group.planned}
    found = sensitivities(made, groups, samples, memory=memory, config=OFF, without=True)
    for one in found:
        if one.group.moves:
            assert one.alone.total == 0
            continue
        alone = damage(made, set(one.group.planned), samples)
        assert one.alone.sqnr_db == pytest.approx(alone.db, abs=0.05)
        without = damage(made, every - set(one.group.planned), samples)
        assert one.without is not None and one.without.sqnr_db == pytest.approx(without.db, abs=0.3)
        assert one.local_db > 20 and one.alone.divergence is not None and one.alone.divergence >= 0


def test_what_no_quantized_node_depends_on_costs_nothing_and_progress_ends_with_the_last_group() -> None:
    model, made, samples = candidate(f"{BODY} z = Abs(x)", "float[1, 10] y, float[1, 4, 16, 16] z")
    calls: list[tuple[int, int]] = []
    found = sensitivities(made, groups_of(model, made), samples, config=OFF, progress=lambda *a: calls.append(a))
    assert all("z" not in one.alone.outputs for one in found)
    assert calls[-1] == (len(found), len(found)) and calls == sorted(calls)


def test_only_so_many_samples_are_read() -> None:
    model, made, samples = candidate()
    groups = groups_of(model, made)
    few = sensitivities(made, groups, samples, samples=2, config=OFF)
    same = sensitivities(made, groups, samples[:2], config=OFF)
    assert [one.alone.total for one in few] == [one.alone.total for one in same]


def test_no_samples_are_an_error() -> None:
    model, made, _ = candidate()
    with pytest.raises(DataError, match="holds no samples"):
        sensitivities(made, groups_of(model, made), [], config=OFF)


def test_a_plan_of_some_nodes_reads_and_stores_as_before() -> None:
    _, made, _ = candidate()
    plan = restricted(made.planned, made.plan, {"Conv_d"})
    assert {str(site) for site in plan.sites} == {"p@Conv_d:0", "v@Conv_d:1", "c@Conv_d:2", "d"}
    both = restricted(made.planned, made.plan, {"Conv_a", "Relu_r", "MaxPool_p", "Conv_d"})
    assert "p" in {str(site) for site in both.sites} and "p@Conv_d:0" not in {str(site) for site in both.sites}
    assert {name for name, node in plan.nodes.items() if node.precision != "float"} == {"Conv_d"}


def test_values_of_unknown_type_are_not_cut_at() -> None:
    model, made, samples = candidate()
    for node in made.planned.nodes:
        if node.name == "Conv_d":
            node.inputs[0].dtype = None
    groups = groups_of(model, made)
    found = {one.group.name: one.alone for one in sensitivities(made, groups, samples, config=OFF)}
    assert found["Conv_d"].sqnr_db == pytest.approx(damage(made, {"Conv_d"}, samples).db, abs=0.05)


def test_dynamic_nodes_have_harm_too() -> None:
    text = "g (float[2, 16] x) => (float[2, 10] y) { s = Softmax(x) y = MatMul(s, w) }"
    model = parse(text, {"w": np.random.default_rng(0).normal(size=(16, 10)).astype(np.float32)})
    drafter = Drafter(model, get("onnxruntime"))
    made = drafter.candidate(drafter.draft("w8"), None, "minmax", {})
    samples = [Sample(feed_for(model, seed), None, str(seed)) for seed in range(3)]
    (one,) = sensitivities(made, groups_of(model, made), samples, config=OFF)
    assert one.group.precision == "w8" and 20 < one.alone.sqnr_db < 60


def test_a_loss_is_positive_where_a_metric_gets_worse_whichever_way_is_better() -> None:
    model, made, samples = candidate()
    labelled = [Sample(sample.feed, np.zeros((1, 10), np.float32), sample.name) for sample in samples]
    groups = groups_of(model, made)
    float_error = sum(float(np.square(Runner(made.planned, OFF).run(s.feed)["y"]).mean()) for s in labelled) / 5
    found = sensitivities(made, groups, labelled, config=OFF, loss=True, metric="mse")
    for one in found:
        if one.group.moves:
            continue
        plan = restricted(made.planned, made.plan, set(one.group.planned))
        quantized = made.planned.copy()
        Pipeline().graph(quantized, [Materialise(plan), EliminateDead()])
        runner = Runner(quantized, OFF)
        error = sum(float(np.square(runner.run(s.feed)["y"]).mean()) for s in labelled) / 5
        assert one.metric_loss == pytest.approx(error - float_error, abs=1e-4)
