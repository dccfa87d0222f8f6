"""encode: numbers of every site, from statistics, constants, and what was given."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from qcompiler import ir
from qcompiler.errors import DataError, InternalError
from qcompiler.numerics.histogram import Histogram
from qcompiler.passes.plan.encode import Encode, encode_constant, wanted
from qcompiler.pipeline import Pipeline
from qcompiler.quant import Encoding, PerAxis, QSpec, QuantPlan, Site
from qcompiler.quant.qtype import INT8, UINT8
from tests.quantized import Seen, annotate
from tests.small import FIRST, SAME, graph

U8, S8 = QSpec(UINT8), QSpec(INT8, PerAxis(0), symmetric=True)


def encoded(model: ir.Model, ranges: dict[str, tuple[float, float]], **options: object) -> dict[str, Encoding]:
    """Encodings by site, with statistics of two values for each tensor."""
    plan, _ = annotate(model)
    stats = Seen({name: Histogram.of(np.asarray(ends, np.float32)) for name, ends in ranges.items()})
    plan = Pipeline().plan(model, plan, [Encode(stats, **{"method": "minmax", **options})])  # type: ignore[arg-type]
    return {str(site): d.encoding for site, d in plan.sites.items() if d.encoding is not None}


def numbers(encoding: Encoding) -> tuple[float, int]:
    assert encoding.scale.shape == encoding.zero_point.shape == ()
    assert encoding.scale.dtype == np.float32
    assert encoding.zero_point.dtype == np.int32
    return float(encoding.scale), int(encoding.zero_point)


RELU = f"{FIRST} r = Relu(a) y = Conv(r, v)"
USUAL = {"x": (-1.0, 1.55), "r": (0.0, 5.1), "y": (-4.0, 4.0)}


def test_exact_numbers() -> None:
    model = graph(RELU)
    found = encoded(model, USUAL)
    assert numbers(found["x@Conv_a:0"]) == (np.float32(0.01), 100)
    assert numbers(found["r"]) == (np.float32(0.02), 0)
    assert numbers(found["y"]) == (np.float32(8 / 255), 127)
    weight = found["w@Conv_a:1"]
    values = ir.array(next(c for c in model.constants() if c.name == "w"))
    np.testing.assert_array_equal(
        weight.scale, (np.abs(values).max((1, 2, 3)).astype(np.float64) / 127).astype(np.float32)
    )
    assert not weight.zero_point.any()
    assert weight.spec.granularity == PerAxis(0)
    assert {name: e.method for name, e in found.items()}["r"] == "minmax"
    assert "b@Conv_a:2" not in found


def test_what_is_wanted_is_the_root_of_each_group() -> None:
    body = f"{FIRST} s = MaxPool<kernel_shape = [2, 2]>(a) d = Conv(s, v) i = Conv(s, v) y = Add(d, i) z = Conv(y, v)"
    model = graph(body, outputs="float[N, M, P, Q] z")
    plan, _ = annotate(model)
    assert wanted(model, plan) == ("x", "a", "d", "i", "y", "z")


def test_members_have_the_encoding_of_their_root() -> None:
    body = f"{FIRST} s = MaxPool<kernel_shape = [2, 2]>(a) t = Mul(s, half) y = Conv(t, v)"
    found = encoded(graph(body), {"x": (-1, 1), "a": (-1.0, 1.55), "y": (-4, 4)})
    assert numbers(found["a"]) == numbers(found["s"]) == (np.float32(0.01), 100)
    assert numbers(found["t"]) == (np.float32(0.01) * np.float32(0.5), 100)


def test_uses_of_one_float_value_have_one_encoding() -> None:
    body = f"t = Tanh(x) d = Conv{SAME}(t, w) i = Conv{SAME}(t, w) g = Add(d, i) y = Conv(g, v)"
    found = encoded(graph(body), {"t": (-1.0, 1.55), "d": (0, 1), "i": (0, 1), "g": (0, 2), "y": (-4, 4)})
    assert found["t@Conv_d:0"] is found["t@Conv_i:0"]
    assert numbers(found["t@Conv_d:0"]) == (np.float32(0.01), 100)


@pytest.mark.parametrize(
    ("ends", "scale", "zero_point"),
    [
        ((0.0, 0.0), 1 / 255, 0),
        ((3.0, 3.0), 3 / 255, 0),
        ((-3.0, -3.0), 3 / 255, 255),
        ((-3.0, -1.0), 3 / 255, 255),
        ((2.0, 3.0), 3 / 255, 0),
        ((1e-42, 1e-42), 1 / 255, 0),
        ((-3e38, 3e38), np.float32(6e38 / 255), 128),
    ],
)
def test_odd_activations(ends: tuple[float, float], scale: float, zero_point: int) -> None:
    found = encoded(graph("y = Conv(x, w)"), {"x": ends, "y": (0, 1)})
    assert numbers(found["x@Conv_y:0"]) == (pytest.approx(scale, rel=1e-6), zero_point)


@pytest.mark.parametrize("method", ["minmax", "percentile", "entropy", "mse", "auto"])
def test_a_range_that_starts_at_zero_has_the_lowest_code_for_zero(method: str) -> None:
    values = np.maximum(np.random.default_rng(0).normal(size=20000), 0).astype(np.float32)
    model = graph(RELU)
    plan, _ = annotate(model)
    stats = Seen({name: Histogram.of(values) for name in ("x", "r", "y")})
    plan = Pipeline().plan(model, plan, [Encode(stats, method)])
    assert int(plan.sites[Site("r")].encoding.zero_point) == 0  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("clip", "ends", "expected"),
    [
        ("zero, six", (0.0, 6.0), (6 / 255, 0)),
        ("zero, six", (0.0, 3.0), (3 / 255, 0)),
        ("minus, one", (-1.0, 1.0), (1 / 128, 127)),
        ("minus, one", (-0.2, 0.2), (0.4 / 255, 128)),
        (", one", (-3.0, 1.0), (4 / 255, 191)),
        (", one", (-1.0, 1.0), (1 / 128, 127)),
    ],
)
def test_the_grid_of_an_absorbed_clip_keeps_within_its_bounds(
    clip: str, ends: tuple[float, float], expected: tuple[float, int]
) -> None:
    found = encoded(graph(f"{FIRST} r = Clip(a, {clip}) y = Conv(r, v)"), {**USUAL, "r": ends})
    assert numbers(found["r"]) == (pytest.approx(expected[0], rel=1e-6), expected[1])


def test_methods_by_pattern_first_match_wins() -> None:
    values = np.append(np.linspace(-1, 1, 100000), 100).astype(np.float32)
    model = graph(f"{FIRST} y = Conv(a, v)")
    plan, _ = annotate(model)
    stats = Seen({name: Histogram.of(values) for name in ("x", "a", "y")})
    step = Encode(stats, "minmax", {"[xa]": "percentile", "a": "minmax"})
    plan = Pipeline().plan(model, plan, [step])
    methods = {str(s): d.encoding.method for s, d in plan.sites.items() if d.encoding is not None}
    assert methods == {
        "x@Conv_a:0": "percentile", "w@Conv_a:1": "minmax", "a": "percentile", "v@Conv_y:1": "minmax", "y": "minmax",
    }  # fmt: skip
    assert plan.sites[Site("x", "Conv_a", 0)].encoding.range[1] < 2  # type: ignore[union-attr]
    assert plan.sites[Site("y")].encoding.range[1] > 99  # type: ignore[union-attr]


# ---- constants
def test_weights_of_dead_channels() -> None:
    weight = np.ones((3, 2, 1, 1), np.float32) * np.array([0, 1, 1e-42], np.float32).reshape(3, 1, 1, 1)
    found = encode_constant(weight, S8)
    np.testing.assert_allclose(found.scale, [1 / 127, 1 / 127, 1 / 127], rtol=1e-6)


def test_constant_operands_are_exact_at_their_ends() -> None:
    found = encode_constant(np.float32(3), U8)
    assert numbers(found) == (np.float32(3 / 255), 0)
    assert numbers(encode_constant(np.asarray([-1, 2], np.float32), U8)) == (np.float32(3 / 255), 85)
    assert numbers(encode_constant(np.zeros((0, 4), np.float32), U8)) == (np.float32(1 / 255), 0)


# ---- what was given, and what is missing
def test_given_encodings_stay() -> None:
    model = graph(RELU)
    mine = Encoding(U8, np.asarray(0.5, np.float32), np.asarray(7, np.int32), "given")
    plan, _ = annotate(model, given={Site("x", "Conv_a", 0): mine})
    assert wanted(model, plan) == ("r", "y")
    stats = Seen({name: Histogram.of(np.asarray([0, 1], np.float32)) for name in ("r", "y")})
    plan = Pipeline().plan(model, plan, [Encode(stats, "minmax")])
    assert numbers(plan.sites[Site("x", "Conv_a", 0)].encoding) == (0.5, 7)  # type: ignore[arg-type]


def test_a_dynamic_plan_wants_nothing_and_encodes_weights() -> None:
    model = graph("y = MatMul(x, m)", "float[5, 16] x", "float[5, 10] y")
    plan, _ = annotate(model, "w8")
    assert wanted(model, plan) == ()
    plan = Pipeline().plan(model, plan, [Encode(None)])
    assert [str(s) for s, d in plan.sites.items() if d.encoding is not None] == ["m@MatMul_y:1"]


def test_no_statistics() -> None:
    model = graph(RELU)
    plan, _ = annotate(model)
    with pytest.raises(InternalError, match="x@Conv_a:0: no statistics for a static activation"):
        Pipeline().plan(model, plan, [Encode(None)])


def test_infinite_statistics_name_the_tensor() -> None:
    model = graph(RELU)
    plan, _ = annotate(model)
    broken = replace(Histogram.of(np.asarray([0, 1], np.float32)), maximum=np.inf)
    with pytest.raises(DataError, match=r"^x: a range to quantize is not finite"):
        Pipeline().plan(model, plan, [Encode(Seen({"x": broken}), "minmax")])


def test_an_empty_plan() -> None:
    model = graph("y = Tanh(x)")
    assert Pipeline().plan(model, QuantPlan(), [Encode(None)]).sites == {}
