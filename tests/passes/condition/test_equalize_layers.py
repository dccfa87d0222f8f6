"""equalize-layers: the same function to the bit, less noise, and nothing where an operator in between is not linear."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qcompiler import ir
from qcompiler.analysis import Stats, collect
from qcompiler.analysis.match import match
from qcompiler.analysis.same_function import SameFunction
from qcompiler.backends import get
from qcompiler.data import Sample
from qcompiler.numerics.migrate import WORTH, noise, octaves
from qcompiler.passes.condition.equalize_layers import by_input, shrink, stretches
from qcompiler.passes.plan.annotate import Annotate
from qcompiler.pipeline import Pipeline
from qcompiler.quant import QuantPlan
from qcompiler.search.algorithms import Algorithms
from qcompiler.search.candidates import Draft, Drafter
from tests.graphs import parse, run

RNG = np.random.default_rng(21)
UNEVEN = (2.0 ** RNG.uniform(-5, 1, 8)).astype(np.float32)
FEEDS = [{"x": RNG.normal(size=(1, 4, 10, 10)).astype(np.float32)} for _ in range(3)]
ROWS = [{"x": RNG.normal(size=(1, 6, 8)).astype(np.float32)} for _ in range(3)]


def normal(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


CONSTANTS = {
    "w": normal(8, 4, 3, 3) * UNEVEN[:, None, None, None], "b": normal(8) * UNEVEN, "v": normal(6, 8, 1, 1),
    "u": normal(6, 4, 1, 1), "f": normal(6, 8, 3, 3),
    "six": np.float32(6), "zero": np.float32(0), "slope": normal(8, 1, 1) * 0.1,
    "g": UNEVEN * 3, "h": UNEVEN * 0.1, "m": normal(8, 10), "n": normal(8, 12),
    "k": normal(8, 8, 1, 1),
}  # fmt: skip


def graph(body: str, *, rows: bool = False) -> ir.Model:
    shape = "float[1, 6, 8]" if rows else "float[1, 4, 10, 10]"
    out = "float[a, b, c]" if rows else "float[a, b, c, d]"
    used = {
        name: values for name, values in CONSTANTS.items() if f" {name}" in body.replace("(", " ").replace(",", " ")
    }
    return parse(f"g ({shape} x) => ({out} y) {{ {body} }}", used)


STRETCHED = {
    "linear": "t = Conv (x, w, b) y = Conv (t, v)",
    "relu": "a = Conv (x, w, b) t = Relu (a) y = Conv (t, v)",
    "groups": "a = Conv (x, w, b) t = Relu (a) y = Conv <group = 2> (t, u)",
    "two readers": "a = Conv (x, w, b) t = Relu (a) p = Conv (t, v) q = Conv <group = 2> (t, u) y = Add (p, q)",
    "readers of other sizes": "t = Conv (x, w, b) p = Conv (t, v) q = Conv <pads = [1, 1, 1, 1]> (t, f) y = Add (p, q)",
}
ROWS_STRETCHED = {
    "layer norm": "t = LayerNormalization (x, g, h) y = MatMul (t, m)",
    "two matrices": "t = LayerNormalization (x, g) p = MatMul (t, m) q = MatMul (t, n) y = Concat <axis = 2> (p, q)",
}
LEFT = {
    "an Add in between": "a = Conv (x, w, b) c = Conv (x, w) t = Add (a, c) y = Conv (t, v)",
    "a residual reader": "a = Conv (x, w, b) t = Relu (a) p = Conv (t, k) s = Add (p, t) y = Conv (s, v)",
    "HardSwish": "a = Conv (x, w, b) t = HardSwish (a) y = Conv (t, v)",
    "Clip": "a = Conv (x, w, b) t = Clip (a, zero, six) y = Conv (t, v)",
    "a pool": "a = Conv (x, w, b) t = MaxPool <kernel_shape = [2, 2]> (a) y = Conv (t, v)",
    "Sigmoid": "a = Conv (x, w, b) t = Sigmoid (a) y = Conv (t, v)",
    "a value that LeakyRelu reads from its own grid": "a = Conv (x, w) t = LeakyRelu <alpha = 0.2> (a) y = Conv (t, v)",
    "a value that PRelu reads from its own grid": "a = Conv (x, w, b) t = PRelu (a, slope) y = Conv (t, v)",
}


def drafted(model: ir.Model, feeds: list[dict[str, np.ndarray]], on: bool = True) -> tuple[Drafter, Draft, Stats]:
    drafter = Drafter(model, get("onnxruntime"), algorithms=Algorithms(equalize_layers=on), same=SameFunction(feeds[0]))
    draft = drafter.draft("int8")
    stats = collect(model, [Sample(feed, None, "s") for feed in feeds], drafter.statistics(draft))
    return drafter, draft, stats


def changes(draft: Draft) -> int:
    return sum(record.changes for record in draft.trace.records if record.name == "equalize-layers")


@pytest.mark.parametrize("name", [*STRETCHED, *ROWS_STRETCHED])
def test_the_function_is_the_same_to_the_bit_and_the_result_less_noisy(name: str) -> None:
    rows = name in ROWS_STRETCHED
    feeds = ROWS if rows else FEEDS
    model = graph((ROWS_STRETCHED if rows else STRETCHED)[name], rows=rows)
    drafter, draft, stats = drafted(model, feeds)
    equal, _ = drafter.equalized(draft, stats)
    assert changes(equal) == 1
    assert any(tensor.name == "t_equalized" for node in equal.model.nodes for tensor in node.outputs)
    for feed in feeds:
        assert np.array_equal(run(draft.model, feed)[0], run(equal.model, feed)[0])
    off = replace(drafter, algorithms=Algorithms())
    made = [d.candidate(draft, stats, "minmax", {}).model for d in (off, drafter)]
    wanted = [run(model, feed)[0] for feed in feeds]
    plain, better = (
        sum(float(np.square(run(m, feed)[0] - w).sum()) for feed, w in zip(feeds, wanted, strict=True)) for m in made
    )
    assert better < plain


@pytest.mark.parametrize("name", ["leaky", "prelu"])
def test_an_activation_that_is_one_with_its_layer_is_passed(name: str) -> None:
    """Core ML stores nothing between."""
    slope = {"leaky": "LeakyRelu <alpha = 0.2> (a)", "prelu": "PRelu (a, slope)"}[name]
    model = graph(f"a = Conv (x, w, b) t = {slope} y = Conv (t, v)")
    plan = Pipeline().plan(model, QuantPlan(), [Annotate(get("coreml").spec, "w8a8")])
    assert [place.tensor.name for place in stretches(model, plan, ("w8a8",))] == ["t"]
    plan = Pipeline().plan(model, QuantPlan(), [Annotate(get("qnn").spec, "w8a8")])
    assert not list(stretches(model, plan, ("w8a8",)))


def test_what_was_stretched_is_compared_with_nothing() -> None:
    model = graph(STRETCHED["relu"])
    drafter, draft, stats = drafted(model, FEEDS)
    equal, _ = drafter.equalized(draft, stats)
    pairs, skipped = match(model, equal.model, {})
    assert set(skipped) == {"a", "t"}
    assert set(skipped.values()) == {"its channels are stretched in the other model, for even ranges"}
    assert "y" in pairs


@pytest.mark.parametrize("name", LEFT)
def test_nothing_is_stretched_where_the_function_would_change(name: str) -> None:
    model = graph(LEFT[name])
    drafter, draft, stats = drafted(model, FEEDS)
    equal, known = drafter.equalized(draft, stats)
    assert changes(equal) == 0 and known is stats
    for feed in FEEDS:
        assert np.array_equal(run(draft.model, feed)[0], run(equal.model, feed)[0])


def test_a_value_that_is_an_output_is_left_alone() -> None:
    text = (
        "g (float[1, 4, 10, 10] x) => (float[a, b, c, d] y, float[1, 8, 8, 8] t) { t = Conv (x, w, b) y = Conv (t, v) }"
    )
    model = parse(text, {name: CONSTANTS[name] for name in "wbv"})
    drafter, draft, stats = drafted(model, FEEDS)
    assert changes(drafter.equalized(draft, stats)[0]) == 0


def test_a_rewrite_that_changes_the_function_is_taken_back(monkeypatch: pytest.MonkeyPatch) -> None:
    model = graph(STRETCHED["relu"])
    drafter, draft, stats = drafted(model, FEEDS)

    def wrong(edit: ir.Editor, node: ir.Node, k: np.ndarray) -> None:
        shrink(edit, node, k[::-1])

    monkeypatch.setattr("qcompiler.passes.condition.equalize_layers.shrink", wrong)
    equal, known = drafter.equalized(draft, stats)
    assert changes(equal) == 0 and known is stats
    reasons = [r.reason for record in equal.trace.records for r in record.refusals if record.name == "equalize-layers"]
    assert any(reason.startswith("taken back: output 'y' differs by") for reason in reasons)
    assert np.array_equal(run(draft.model, FEEDS[0])[0], run(equal.model, FEEDS[0])[0])


def test_statistics_that_lack_channels_stretch_nothing() -> None:
    model = graph(STRETCHED["relu"])
    drafter, draft, _ = drafted(model, FEEDS, on=False)
    stats = collect(model, [Sample(FEEDS[0], None, "s")], drafter.statistics(draft))
    equal, _ = replace(drafter, algorithms=Algorithms(equalize_layers=True)).equalized(draft, stats)
    assert changes(equal) == 0


@given(st.integers(0, 10**6), st.integers(1, 12), st.integers(1, 6), st.sampled_from([1, 9]))
def test_a_stretch_is_less_noisy_than_none(seed: int, channels: int, rows: int, taps: int) -> None:
    rng = np.random.default_rng(seed)
    high = 2.0 ** rng.uniform(-6, 3, channels)
    low, weights = (
        -high * rng.uniform(0, 1, channels),
        [rng.normal(size=(channels, rows, taps)), rng.normal(size=(channels, 2, 1))],
    )
    k = octaves(low, high, np.square(high) / 8, weights)
    none = np.zeros(channels, np.int64)
    assert (k >= 0).all() and k.shape == none.shape
    found, plain = (noise(part, low, high, np.square(high) / 8, weights, 255) for part in (k, none))
    assert found < WORTH * plain or not k.any()


def test_weights_by_input_channel() -> None:
    model = graph(STRETCHED["groups"])
    node = model.nodes[2]
    weights = by_input(node)
    assert weights.shape == (8, 3, 1)
    assert np.array_equal(weights[5, :, 0], CONSTANTS["u"][3:, 1, 0, 0])
