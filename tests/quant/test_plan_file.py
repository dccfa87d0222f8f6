"""plan.json: what is written is read back exactly, whatever the names and numbers."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qcompiler.errors import DataError
from qcompiler.quant import (
    QTYPES,
    BiasOf,
    Encoding,
    NodePlan,
    PerAxis,
    PerBlock,
    PerTensor,
    QSpec,
    QuantPlan,
    Site,
    SitePlan,
)
from qcompiler.quant.plan_file import plan_from_json, plan_to_json

names = st.text(min_size=1, max_size=12) | st.text(st.sampled_from('a@:%"\\/'), min_size=1, max_size=6)
names = names.filter(lambda name: not any(0xD800 <= ord(c) < 0xE000 for c in name))
sites = st.builds(Site, names) | st.builds(Site, names, names, st.integers(0, 99))
specs = st.builds(
    QSpec,
    st.sampled_from(list(QTYPES.values())),
    st.just(PerTensor())
    | st.builds(PerAxis, st.integers(0, 5))
    | st.builds(PerBlock, st.integers(0, 5), st.sampled_from([16, 32, 128])),
    symmetric=st.booleans(),
    narrow=st.booleans(),
    scale=st.sampled_from(["f32", "f16", "pow2", "e8m0"]),
    dynamic=st.booleans(),
)
scales = st.floats(width=32, min_value=2.0**-126, max_value=2.0**100)


@st.composite
def encodings(draw: st.DrawFn) -> Encoding:
    values = draw(st.lists(scales, min_size=1, max_size=4))
    scale = np.asarray(values[0] if draw(st.booleans()) else values, np.float32)
    zeros = np.full(scale.shape, draw(st.integers(-128, 255)), np.int32)
    return Encoding(draw(specs), scale, zeros, draw(st.sampled_from(["minmax", "given"])))


decisions = st.builds(
    SitePlan,
    st.lists(specs, max_size=2).map(tuple),
    st.none() | specs,
    names,
    st.text(max_size=5).filter(lambda text: text.isprintable()),
    derived=st.none() | st.builds(BiasOf, sites, sites),
    same_as=st.none() | sites,
    gain=st.just(1.0) | st.floats(1e-6, 1e6),
    encoding=st.none() | encodings(),
)
plans = st.builds(
    QuantPlan,
    st.dictionaries(sites, decisions, max_size=4),
    st.dictionaries(names, st.builds(NodePlan, st.sampled_from(["int8", "w8", "float"]), names, names), max_size=3),
)


def plain(plan: QuantPlan) -> object:
    """A form of the plan that can be compared: arrays by type, shape and bytes."""

    def numbers(encoding: Encoding | None) -> object:
        if encoding is None:
            return None
        arrays = [(a.dtype.str, a.shape, a.tobytes()) for a in (encoding.scale, encoding.zero_point)]
        return encoding.spec, encoding.method, arrays

    fields = ("options", "choice", "rule", "why", "derived", "same_as", "gain")
    sites = [(s, [getattr(d, f) for f in fields], numbers(d.encoding)) for s, d in plan.sites.items()]
    return sites, list(plan.nodes.items())


@given(plans)
def test_a_plan_is_read_back_exactly(plan: QuantPlan) -> None:
    text = plan_to_json(plan)
    again = plan_from_json(text)
    assert plain(again) == plain(plan)
    assert plan_to_json(again) == text


@given(plans)
def test_the_file_is_json_with_a_schema(plan: QuantPlan) -> None:
    assert json.loads(plan_to_json(plan))["schema"] == 1


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", "{}", '{"schema": 1}', '{"schema": 1, "sites": [], "nodes": {}}',
     '{"schema": 1, "sites": {"x": {}}, "nodes": {}}', '{"schema": 1, "sites": {}, "nodes": {"n": {}}}',
     '{"schema": 1, "sites": {"x": {"options": [{"type": "int9"}], "choice": null, "rule": "", "why": ""}}}',
     ],
)  # fmt: skip
def test_what_is_no_plan_is_refused(text: str) -> None:
    with pytest.raises(DataError, match="not a plan"):
        plan_from_json(text)


def test_another_schema_is_refused() -> None:
    with pytest.raises(DataError, match="plan has schema 2, this version reads 1"):
        plan_from_json('{"schema": 2, "sites": {}, "nodes": {}}')
