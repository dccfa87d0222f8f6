"""Mixed precision with more than two options: what the target takes side by side, group by group."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

import qcompiler
from qcompiler import Recipe, ir
from qcompiler.numerics import SqnrMeter
from qcompiler.report.record import Report
from qcompiler.report.search_facts import exception_lines
from qcompiler.search.costs import Cost, Costs
from qcompiler.search.damage import Damage
from qcompiler.search.explore import Dial, explore
from qcompiler.search.groups import Group
from qcompiler.search.limit import Limit
from qcompiler.search.sensitivity import Sensitivity
from tests.graphs import parse

RNG = np.random.default_rng(7)
BODY = """
    a0 = MatMul(x, w0) b0 = Relu(a0)
    a1 = MatMul(b0, w1) b1 = Relu(a1)
    a2 = MatMul(b1, w2) b2 = Relu(a2)
    y = MatMul(b2, w3)
"""
SIZE = 64


def weight(*, spread: float) -> npt.NDArray[np.float32]:
    """Columns of very different size do harm in 8 bits where one scale serves for what comes out of them."""
    columns = np.exp(RNG.normal(size=SIZE) * spread)
    return np.asarray(RNG.normal(size=(SIZE, SIZE)) * columns / np.sqrt(SIZE), np.float32)


WEIGHTS = {"w0": weight(spread=1.6), "w1": weight(spread=0.1), "w2": weight(spread=1.2), "w3": weight(spread=0.1)}


def compiled(tmp_path: Path, target: str, floor: float, **wishes: object) -> Report:
    text = f"g (float[8, {SIZE}] x) => (float[8, {SIZE}] y) {{ {BODY} }}"
    ir.save(parse(text, WEIGHTS), tmp_path / "m.onnx")
    rng = np.random.default_rng(1)
    data = [{"x": rng.normal(size=(8, SIZE)).astype(np.float32)} for _ in range(8)]
    recipe = Recipe(precision="mixed", bench_seconds=0, sqnr_floor=floor, preset="balanced", max_drop="none")
    recipe = recipe.updated(wishes)
    return qcompiler.compile(tmp_path / "m.onnx", target, data, recipe=recipe).report


def groups_in(report: Report) -> dict[str, set[str]]:
    """The precisions that were measured of each group."""
    found: dict[str, set[str]] = {}
    for line in report.search["groups"]:
        found.setdefault(line["name"], set()).add(line["precision"])
    return found


@pytest.mark.parametrize(
    ("target", "floor", "options"),
    [
        ("tensorrt", 27.0, ["int8", "fp8", "w8"]),
        ("onnxruntime", 38.0, ["int8", "w8"]),
        ("qnn", 35.0, ["w8a8", "w8a16"]),
        ("coreml", 38.0, ["w8a8", "w8"]),
    ],
)
def test_every_group_has_all_that_the_target_takes_side_by_side(
    tmp_path: Path, target: str, floor: float, options: list[str]
) -> None:
    report = compiled(tmp_path, target, floor)
    assert report.search["base"] == "mixed" and report.search["options"] == options
    measured = groups_in(report)
    assert all(found == set(options) for name, found in measured.items() if name.endswith("MatMul"))
    shipped = next(line for line in report.candidates if line.shipped)
    assert shipped.precision == "mixed" and (shipped.worst_sqnr_db or 0.0) >= floor
    assert any(line.precision == "mixed" and line.reason.startswith("broken") for line in report.candidates)
    used = {node.precision for node in report.nodes if node.op == "MatMul"}
    assert used & set(options[1:]), "the other options serve where the first does too much harm"
    said = [node.reason for node in report.nodes if node.precision in options[1:] and " in place of " in node.reason]
    assert said and all(f"dB in {options[0]}" in reason for reason in said)
    for step in report.search["steps"]:
        assert set(step["chosen"]) <= set(measured) and set(step["chosen"].values()) <= {*options[1:], "float"}


def test_two_runs_choose_alike_and_the_table_says_what_was_chosen(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    first, second = compiled(tmp_path / "a", "onnxruntime", 38.0), compiled(tmp_path / "b", "onnxruntime", 38.0)
    assert first.search == second.search and first.nodes == second.nodes
    shown = [line.text for line in exception_lines(first, 10)]
    assert shown[0].startswith("put in another precision by the search (")
    assert any(" w8 " in line and " dB for " in line for line in shown[1:])


def test_the_targets_own_mixture_ships_where_nothing_is_gained(tmp_path: Path) -> None:
    report = compiled(tmp_path, "tensorrt", 5.0)
    assert report.search == {} and {n.precision for n in report.nodes if n.op == "MatMul"} == {"fp8"}


def test_what_was_given_16_bits_by_name_stays_so(tmp_path: Path) -> None:
    report = compiled(tmp_path, "qnn", 35.0, options={"a16": ("n0_MatMul",)})
    fixed = next(node for node in report.nodes if node.name == "n0_MatMul")
    assert fixed.precision == "w8a16" and " in place of " not in fixed.reason
    assert all(step["chosen"]["n0_MatMul"] == "w8a16" for step in report.search["steps"])


def test_a_chip_without_float_is_offered_none() -> None:
    groups = [Group("g", "MatMul", "w8a8", ("g",), ("g",), ("y",), False)]
    costs = Costs(tuple(groups), {"g": Cost(1.0)}, {"g": Cost(2.0)}, (), ())
    harm = Sensitivity(groups[0], Damage({"y": SqnrMeter(1.0, 1.0, 1)}))
    dial = Dial({"w8a8": costs}, {"w8a8": [harm]}, floats=False)
    assert set(dial.choices()["g"]) == {"w8a8"} and dial.at(0.5) is None
    assert explore(dial, lambda proposal: False, rounds=5) == []
    wide = replace(costs, groups=(replace(groups[0], precision="w8a16"),), quantized={"g": Cost(1.5)})
    less = replace(harm, alone=Damage({"y": SqnrMeter(1.0, 0.1, 1)}))
    both = Dial({"w8a8": costs, "w8a16": wide}, {"w8a8": [harm], "w8a16": [less]}, floats=False)
    tried = explore(both, lambda proposal: dict(proposal.chosen)["g"] == "w8a16", rounds=9)
    assert [dict(proposal.chosen) for proposal in tried] == [{"g": "w8a8"}, {"g": "w8a16"}]


@pytest.mark.parametrize(
    ("target", "precision", "metric", "drop"),
    [
        ("onnxruntime", "int8", "sqnr", 1e-4),
        ("tensorrt:sm120", "nvfp4", None, 0.2),
    ],
)
def test_a_precision_asked_for_by_name_that_loses_too_much_gets_exceptions(
    tmp_path: Path, target: str, precision: str, metric: str | None, drop: float
) -> None:
    limit = Limit(drop, "%", stated=False)
    report = compiled(tmp_path, target, 3.0, precision=precision, metric=metric, max_drop=limit)
    whole = next(line for line in report.candidates if line.precision == precision and "float" not in line.method)
    shipped = next(line for line in report.candidates if line.shipped)
    assert whole.reason.startswith("set aside") and shipped.precision == precision
    assert shipped.drop is not None and whole.drop is not None and shipped.drop < whole.drop
    used = [node.precision for node in report.nodes if node.op == "MatMul"]
    assert "float" in used and precision in used
