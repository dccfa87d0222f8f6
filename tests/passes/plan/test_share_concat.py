"""share-concat: operands of Concat take the encoding of the result."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from qcompiler import ir
from qcompiler.numerics.histogram import Histogram
from qcompiler.passes.plan.encode import Encode
from qcompiler.passes.plan.share_concat import ShareConcat
from qcompiler.pipeline import Pipeline
from qcompiler.quant import Encoding, QSpec, QuantPlan, Site
from qcompiler.quant.qtype import UINT8
from tests.graphs import run
from tests.quantized import Seen, annotate, quantize
from tests.small import FIRST, SAME, graph, normal

SECOND = f"d = Conv{SAME}(x, w, c)"
PAIR = f"{FIRST} {SECOND} s = Concat<axis = 1>(a, d) y = Conv(s, u)"


def shared(
    model: ir.Model, ranges: dict[str, tuple[float, float]], given: dict[Site, Encoding] | None = None, **options: Any
) -> tuple[QuantPlan, list[str], int]:
    """The plan, "node: reason" of refusals, and the number of changes; tensors not in `ranges` span [-1, 1]."""
    plan, _ = annotate(model, given=given)
    names = {site.tensor for site in plan.sites}
    stats = Seen({name: Histogram.of(np.asarray(ranges.get(name, (-1, 1)), np.float32)) for name in names})
    pipeline = Pipeline()
    plan = pipeline.plan(model, plan, [Encode(stats, "minmax"), ShareConcat(**options)])
    record = pipeline.trace.records[-1]
    return plan, [f"{r.node}: {r.reason}" for r in record.refusals], record.changes


def scale(plan: QuantPlan, site: str) -> float:
    encoding = plan.sites[Site.parse(site)].encoding
    assert encoding is not None
    return float(encoding.scale)


def zero(plan: QuantPlan, site: str) -> int:
    encoding = plan.sites[Site.parse(site)].encoding
    assert encoding is not None
    return int(encoding.zero_point)


def test_operands_take_the_encoding_of_the_result() -> None:
    plan, said, changes = shared(graph(PAIR), {"a": (-1, 1), "d": (-2, 1), "s": (-2, 1)})
    assert scale(plan, "a") == scale(plan, "d") == scale(plan, "s") == np.float32(3 / 255)
    assert zero(plan, "a") == zero(plan, "d") == zero(plan, "s") == 170
    assert plan.root(Site("a")) == plan.root(Site("d")) == Site("s")
    assert (said, changes) == ([], 2)


def test_an_operand_with_much_finer_steps_keeps_them() -> None:
    plan, said, changes = shared(graph(PAIR), {"a": (-0.4, 0.4), "d": (-1, 1), "s": (-1, 1)})
    assert scale(plan, "a") == np.float32(0.8 / 255)
    assert said == ["Concat_s: 'a' has steps more than 2 times finer"]
    assert changes == 1


def test_where_the_rule_says_so_it_does_not_keep_them() -> None:
    ranges = {"a": (-0.1, 0.1), "d": (-1, 1), "s": (-1, 1)}
    for always, kept in ((frozenset({"concat"}), False), (frozenset({"add"}), True)):
        plan, said, _ = shared(graph(PAIR), ranges, always=always)
        assert (scale(plan, "a") == np.float32(0.2 / 255)) == kept == bool(said)
    assert shared(graph(PAIR), {"a": (-0.4, 0.4), "d": (-1, 1), "s": (-1, 1)}, ratio=3.0)[2] == 2


def test_a_relu_that_its_grid_expresses_is_not_lost() -> None:
    body = f"{FIRST} r = Relu(a) {SECOND} s = Concat<axis = 1>(r, d) y = Conv(s, u)"
    plan, said, _ = shared(graph(body), {"r": (0, 1), "d": (-1, 1), "s": (-1, 1)})
    assert said == ["Concat_s: 'r' would lose the bounds of 'r'"]
    assert zero(plan, "r") == 0
    both, said, _ = shared(graph(body), {"r": (0, 1), "d": (0, 1.5), "s": (0, 1.5)})
    assert said == []
    assert zero(both, "r") == 0
    assert scale(both, "r") == np.float32(1.5 / 255)


def test_a_clip_that_its_grid_expresses_is_not_lost() -> None:
    body = f"{FIRST} r = Clip(a, zero, six) {SECOND} s = Concat<axis = 1>(r, d) y = Conv(s, u)"
    plan, said, _ = shared(graph(body), {"r": (0, 6), "d": (0, 8), "s": (0, 8)})
    assert said == ["Concat_s: 'r' would lose the bounds of 'r'"]
    assert scale(plan, "r") == np.float32(6 / 255)


def test_a_relu_behind_moves_is_not_lost() -> None:
    body = (
        f"{FIRST} r = Relu(a) p = MaxPool<kernel_shape = [1, 1]>(r) {SECOND} s = Concat<axis = 1>(p, d) y = Conv(s, u)"
    )
    plan, said, _ = shared(graph(body), {"r": (0, 1), "d": (-1, 1), "s": (-1, 1)})
    assert said == ["Concat_s: 'p' would lose the bounds of 'r'"]
    plan, said, _ = shared(graph(body), {"r": (0, 1), "d": (0, 1.5), "s": (0, 1.5)})
    assert said == []
    assert scale(plan, "p") == scale(plan, "r") == scale(plan, "s")


def test_a_result_that_starts_at_zero_by_chance_may_be_shared() -> None:
    body = f"{FIRST} r = Sigmoid(a) {SECOND} s = Concat<axis = 1>(r, d) y = Conv(s, u)"
    plan, said, _ = shared(graph(body), {"r": (0, 1), "d": (-1, 1), "s": (-1, 1)})
    assert said == []
    assert zero(plan, "r") == zero(plan, "s") == 127


def test_concats_of_concats_share_one_encoding() -> None:
    body = f"""{FIRST} {SECOND} i = Conv{SAME}(x, w, c) s = Concat<axis = 1>(a, d) t = Concat<axis = 1>(s, i)
               y = Conv(t, q) z = Conv(s, u)"""
    model = graph(body, outputs="float[N, M, P, Q] y, float[N, M, P, Q] z", constants={"q": normal(8, 24, 1, 1)})
    plan, said, changes = shared(
        model, {"a": (-1, 1), "d": (-1.2, 1), "s": (-1.2, 1), "i": (-1, 1.5), "t": (-1.2, 1.5)}
    )
    assert said == []
    assert changes == 4
    assert {scale(plan, name) for name in "adsit"} == {np.float32(2.7 / 255)}
    assert len({zero(plan, name) for name in "adsit"}) == 1
    assert {plan.root(Site(name)).tensor for name in "adsit"} == {"t"}


def test_an_operand_of_two_concats_joins_both() -> None:
    body = f"{FIRST} {SECOND} s = Concat<axis = 1>(a, d) t = Concat<axis = 1>(d, a) y = Conv(s, u) z = Conv(t, u)"
    plan, said, _ = shared(graph(body, outputs="float[N, M, P, Q] y, float[N, M, P, Q] z"), {})
    assert said == []
    assert len({(scale(plan, n), zero(plan, n)) for n in "adst"}) == 1


def test_one_operand_twice() -> None:
    plan, _, changes = shared(
        graph(f"{FIRST} s = Concat<axis = 1>(a, a) y = Conv(s, u)"), {"a": (-1, 1), "s": (-1.1, 1)}
    )
    assert changes == 1
    assert scale(plan, "a") == scale(plan, "s")


def test_scaled_values_and_given_encodings_stay() -> None:
    body = f"{FIRST} g = Mul(a, half) {SECOND} s = Concat<axis = 1>(g, d) y = Conv(s, u)"
    plan, said, _ = shared(graph(body), {"a": (-2, 2), "d": (-1, 1), "s": (-1, 1)})
    assert said == ["Concat_s: 'g' is a scaled value"]
    assert scale(plan, "a") == np.float32(4 / 255)
    trained = Encoding(QSpec(UINT8), np.asarray(0.01, np.float32), np.asarray(100, np.int32), "given")
    plan, said, _ = shared(graph(PAIR), {}, {Site("a"): trained})
    assert said == ["Concat_s: 'a' keeps the encoding it was trained with"]
    assert scale(plan, "a") == np.float32(0.01)


def test_constants_are_shared_too() -> None:
    body = f"{FIRST} s = Concat<axis = 1>(a, part) y = Conv(s, u)"
    model = graph(body, constants={"part": normal(1, 8, 16, 16)})
    low, high = -5.0, 5.0
    plan, said, _ = shared(model, {"a": (low, high), "s": (low, high)})
    assert said == []
    assert scale(plan, "part@Concat_s:1") == scale(plan, "s")


@pytest.mark.parametrize("share", [False, True])
def test_the_numbers_hold_either_way(share: bool) -> None:
    found = quantize(graph(PAIR), share=share)
    expected = run(found.before, found.feeds[0])[0]
    np.testing.assert_allclose(found.outputs()[0], expected, atol=0.06 * np.abs(expected).max())


def test_float_concats_are_left_alone() -> None:
    plan, said, changes = shared(graph(f"{FIRST} {SECOND} y = Concat<axis = 1>(a, d)"), {})
    assert (said, changes) == ([], 0)
    assert plan.nodes["Concat_y"].precision == "float"
