"""Costs of groups: measured, modelled, and from a file."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from qcompiler.analysis import SessionConfig, TimingCache
from qcompiler.backends import get
from qcompiler.errors import DataError
from qcompiler.quant import QuantPlan
from qcompiler.search.costs import Cost, measured, modelled, unprofitable
from qcompiler.search.device_times import timed, times_of
from qcompiler.search.explore import Dial
from qcompiler.search.objectives import OBJECTIVES, bit_operations, operated, sized
from qcompiler.targets import Roofline
from tests.search.test_sensitivity import candidate

ORIGIN = get("onnxruntime").origin
CHIP = Roofline({"int8": 4e9, "float": 1e9}, 1e9, {"int8": 8, "float": 32}, "a chip that does not exist", 1e-6)


def test_every_group_has_both_times_on_this_machine() -> None:
    model, made, samples = candidate()
    costs = measured(model, made, samples[0].feed, ORIGIN, SessionConfig(), TimingCache())
    names = {group.name for group in costs.groups}
    assert names == set(costs.quantized) == set(costs.floating) and costs.source == "measured"
    conv = costs.quantized["Conv_d"], costs.floating["Conv_d"]
    assert all(cost.seconds > 0 and cost.noise >= 0 for cost in conv)
    assert {value.producer for value in costs.passed} <= names | {""}
    assert ("Conv_a", "MaxPool_p") in costs.pairs


def test_the_roofline_counts_multiplications_and_bytes() -> None:
    # 8 x 8 x 3 x 3 weights over 8 x 8 places; 512 values in, 512 out
    macs, moved, weights = 8 * 8 * 9 * 64, 1024, 576
    assert CHIP.seconds("int8", macs, moved, weights, 8) == pytest.approx(max(macs / 4e9, 1600e-9) + 1e-6)
    assert CHIP.seconds("float", macs, moved, weights, 32) == pytest.approx(max(macs / 1e9, 6400e-9) + 1e-6)
    assert CHIP.seconds("fp16", 8, 0, 0, 16) == pytest.approx(8e-9 + 1e-6)  # a type without a rate is as fast as float


def test_modelled_costs_are_those_of_the_roofline_and_say_so() -> None:
    model, made, samples = candidate()
    costs = modelled(model, made, samples[0].feed, CHIP)
    assert "not measured (a chip that does not exist)" in costs.source
    macs, moved, weights = 8 * 8 * 9 * 64, 2 * 8 * 64, 8 * 8 * 9
    quantized = CHIP.seconds("int8", macs, moved, weights + 8, 32)
    assert costs.quantized["Conv_d"].seconds == pytest.approx(quantized, rel=0.3)
    assert costs.floating["Conv_d"].seconds == pytest.approx(CHIP.seconds("float", macs, moved, weights + 8, 32))
    assert costs.quantized["Conv_d"].seconds < costs.floating["Conv_d"].seconds
    assert Dial.of(costs).per_element == pytest.approx(1e6 * 5e-9)


def test_times_of_a_device_replace_those_of_this_machine(tmp_path: Path) -> None:
    model, made, samples = candidate()
    costs = modelled(model, made, samples[0].feed, CHIP)
    (tmp_path / "device.json").write_text(json.dumps({"Conv_d": {"int8": 2.0, "float": 1.0}, "other": {"int8": 9.0}}))
    found = timed(costs, times_of(tmp_path / "device.json"))
    assert found.quantized["Conv_d"] == Cost(2e-3) and found.floating["Conv_d"] == Cost(1e-3)
    assert found.quantized["Conv_a"] == costs.quantized["Conv_a"]
    assert found.source == "measured on a device (device.json)"
    (moved,) = unprofitable(found, (0.1,))
    assert moved["Conv_d"] == "does not pay in int8 (2000 us, 1000 us in float)"


def test_bytes_of_weights_can_take_the_place_of_seconds() -> None:
    model, made, samples = candidate()
    costs = sized(modelled(model, made, samples[0].feed, CHIP), model, made)
    weights, bias = 8 * 8 * 9, 8
    assert costs.quantized["Conv_d"] == Cost(weights + 4 * bias)
    assert costs.floating["Conv_d"] == Cost(4 * (weights + bias))
    assert costs.said("Conv_d") == "0.61 kB, 2.3 kB in float" and Dial.of(costs).per_element == 0


def test_bit_operations_can_take_the_place_of_seconds() -> None:
    model, made, samples = candidate()
    costs = operated(modelled(model, made, samples[0].feed, CHIP), model, made)
    macs = 8 * 8 * 9 * 64
    assert costs.quantized["Conv_d"] == Cost(macs * 8 * 8) and costs.floating["Conv_d"] == Cost(macs * 32 * 32)
    assert costs.said("Conv_d") == "2.4 Mbop, 38 Mbop in float"
    whole = OBJECTIVES["bits"].whole
    assert whole(made) == sum(bit_operations(made.planned, made.plan).values()) < whole(replace(made, plan=QuantPlan()))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "holds no times"),
        ("[1, 2]", "holds no times"),
        ('{"Conv_d": 3}', "holds no times"),
        ('{"Conv_d": {"int8": -1}}', "negative or no number"),
        ('{"Conv_d": {"int8": NaN}}', "negative or no number"),
        ('{"nothing": {"int8": 1}}', "names no quantized node"),
    ],
)
def test_files_that_hold_no_times_are_refused(tmp_path: Path, text: str, said: str) -> None:
    model, made, samples = candidate()
    (tmp_path / "device.json").write_text(text)
    with pytest.raises(DataError, match=said):
        timed(modelled(model, made, samples[0].feed, CHIP), times_of(tmp_path / "device.json"))
    with pytest.raises(DataError, match="holds no times"):
        timed(modelled(model, made, samples[0].feed, CHIP), times_of(tmp_path / "missing.json"))
