"""What two plans do otherwise: nodes, types, numbers, figures; and what is no difference."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from qcompiler.errors import DataError
from qcompiler.quant import QuantPlan, Site
from qcompiler.quant.plan import NodePlan, SitePlan
from qcompiler.quant.plan_file import plan_to_json
from qcompiler.quant.qtype import INT8, UINT8
from qcompiler.quant.spec import Encoding, PerAxis, QSpec
from qcompiler.report.difference import Side, difference, difference_facts, read_side
from qcompiler.report.difference_text import difference_lines
from qcompiler.report.record import Accuracy
from tests.report.hand_made import report

ACTIVATION, WEIGHT = QSpec(UINT8), QSpec(INT8, PerAxis(0), symmetric=True)


def encoding(spec: QSpec, *scale: float) -> Encoding:
    scales = np.float32(scale[0] if len(scale) == 1 else scale)
    return Encoding(spec, np.asarray(scales), np.zeros(np.shape(scales), np.int32), "minmax")


def plan(*, scale: float = 0.5, y: QSpec | None = ACTIVATION, conv: str = "int8") -> QuantPlan:
    x = SitePlan((ACTIVATION,), ACTIVATION, "conv", encoding=encoding(ACTIVATION, scale))
    w = SitePlan((WEIGHT,), WEIGHT, "conv", encoding=encoding(WEIGHT, 0.1, 0.2))
    last = SitePlan((ACTIVATION,), y, "conv", encoding=None if y is None else encoding(y, 1.0))
    sites = {Site("x"): x, Site("w", "conv", 1): w, Site("y"): last}
    return QuantPlan(sites, {"conv": NodePlan(conv, "conv", "why"), "add": NodePlan("int8", "add", "why")})


def side(plan: QuantPlan, name: str = "a") -> Side:
    return Side(name, plan, None)


def test_equal_plans_have_no_difference() -> None:
    found = difference(side(plan()), side(plan(), "b"))
    assert found.same and difference_facts(found)["same"] is True
    assert "the plans are the same" in difference_lines(found, 5)[-1].text
    # reasons and methods are no decisions
    other = plan().with_sites({Site("x"): replace(plan().sites[Site("x")], why="otherwise")})
    assert difference(side(plan()), side(other)).same


def test_nodes_types_and_numbers_are_told_apart() -> None:
    found = difference(side(plan()), side(plan(scale=0.75, y=None, conv="float"), "b"))
    assert [(c.name, c.a, c.b) for c in found.nodes] == [("conv", "int8", "float")]
    assert [(c.site, c.a, c.b) for c in found.tensors] == [("y", "uint8 asymmetric per tensor", "float")]
    assert [(c.site, c.ratio) for c in found.numbers] == [("x", pytest.approx(1.5))]
    assert found.moves() == {"int8 -> float": 1} and not found.same
    text = "\n".join(line.text for line in difference_lines(found, 5))
    assert "int8 -> float" in text and "scale x 1.5" in text
    assert all(len(line.text) <= 80 for line in difference_lines(found, 5))


def test_what_only_one_has_is_a_difference_unless_it_is_float() -> None:
    short = QuantPlan({Site("x"): plan().sites[Site("x")]}, {"conv": plan().nodes["conv"]})
    found = difference(side(plan(y=None)), side(short, "b"))
    assert [(c.name, c.b) for c in found.nodes] == [("add", "absent")]
    assert [c.site for c in found.tensors] == ["w@conv:1"]
    back = difference(side(short), side(plan(y=None), "b"))
    assert [(c.name, c.a) for c in back.nodes] == [("add", "absent")]


def test_long_lists_are_cut() -> None:
    many = QuantPlan({}, {f"n{i}": NodePlan("int8", "r", "") for i in range(30)})
    lines = difference_lines(difference(side(many), side(QuantPlan(), "b")), 3)
    assert [line.text.strip() for line in lines][-1] == "and 27 more (--top, --json)" and len(lines) == 6


def test_figures_stand_side_by_side() -> None:
    other = report(accuracy=Accuracy("top-1", 0.984375, 0.9, 0.08, 0.05, 0.1, 512, "broken"))
    found = difference(Side("a", plan(), report()), Side("b", plan(), other))
    facts = difference_facts(found)
    assert facts["figures"]["verdict"] == {"a": "holds", "b": "broken"}
    assert facts["figures"]["size [bytes]"] == {"a": 93100, "b": 93100}
    rows = [line.text.split() for line in difference_lines(found, 5)]
    assert ["verdict", "holds", "broken", "*"] in rows and ["samples", "512", "512"] in rows
    json.dumps(facts)


def test_sides_are_folders_reports_and_plans(tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text(report().to_json())
    (tmp_path / "plan.json").write_text(plan_to_json(plan()))
    folder, named, alone = (read_side(tmp_path / part) for part in ("", "report.json", "plan.json"))
    assert difference(folder, named).same and difference(folder, alone).same
    assert alone.report is None and folder.report is not None
    (tmp_path / "other.json").write_text("{}")
    for path in ("other.json", "none", "none/report.json"):
        with pytest.raises(DataError):
            read_side(tmp_path / path)
