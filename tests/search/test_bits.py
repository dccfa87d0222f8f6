"""Bits by layer within an average: kept to the bit, by what was measured, said in report and plan."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

import qcompiler
from qcompiler import Recipe, ir
from qcompiler.backends import get
from qcompiler.backends.base import configured
from qcompiler.errors import UsageError
from qcompiler.report.record import Report
from tests.graphs import parse

RNG = np.random.default_rng(3)
WIDTH = 64
TEXT = """g (int64[n] ids) => (float[n, 96] y) {
  x = Gather(t, ids)
  a0 = MatMul(x, w0) b0 = Relu(a0) c0 = Add(b0, x)
  a1 = MatMul(c0, w1) b1 = Relu(a1) c1 = Add(b1, c0)
  a2 = MatMul(c1, w1) b2 = Relu(a2) c2 = Add(b2, c1)
  y = MatMul(c2, w3)
}"""
WEIGHTS = {
    "t": RNG.normal(size=(96, WIDTH)).astype(np.float32),
    "w0": RNG.normal(size=(WIDTH, WIDTH)).astype(np.float32),
    "w1": (RNG.standard_t(2, size=(WIDTH, WIDTH)) / 200).astype(np.float32),
    "w3": RNG.normal(size=(WIDTH, 96)).astype(np.float32) / 8,
}
KERNEL = {3: 4}
"""Bits that codes have once they are unpacked, where not their own."""
NUMBERS = {name: value.size for name, value in WEIGHTS.items() if name != "t"}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bits") / "m.onnx"
    ir.save(parse(TEXT, WEIGHTS), path)
    return path


DATA = [{"ids": np.random.default_rng(i).integers(0, 96, 12)} for i in range(8)]


def compiled(
    model: Path, average: float, *, data: bool, output: Path | None = None, **wishes: object
) -> qcompiler.Result:
    recipe = Recipe(
        precision="w4", bench_seconds=0, max_drop="none", sqnr_floor=-100, options={"average_bits": average}
    )
    given = DATA if data else None
    return qcompiler.compile(model, "onnxruntime", given, output=output, recipe=recipe.updated(wishes))


def bits_of(result: qcompiler.Result) -> dict[str, int]:
    """Bits by weight; a weight of two layers has the same in both."""
    found: dict[str, set[int]] = {}
    for site, decision in result.plan.quantized():
        if site.tensor in NUMBERS and decision.choice is not None:
            found.setdefault(site.tensor, set()).add(decision.choice.qtype.bits)
    assert all(len(some) == 1 for some in found.values())
    return {name: some.pop() for name, some in found.items()}


def size(bits: Mapping[str, int]) -> int:
    return sum(bits[name] * NUMBERS[name] for name in bits)


@pytest.mark.parametrize("data", [False, True])
def test_the_average_is_kept_and_the_kernels_have_these_bits(model: Path, data: bool) -> None:
    for average in (2.0, 3.1, 5.5, 8.0):
        result = compiled(model, average, data=data)
        bits = bits_of(result)
        assert set(bits) == set(NUMBERS) and size(bits) <= average * sum(NUMBERS.values())
        kernels = sorted(node.attrs["bits"] for node in result.model.nodes if node.op == "MatMulNBits")
        computed = [KERNEL.get(bits[name], bits[name]) for name in ("w0", "w1", "w1", "w3")]
        assert kernels == sorted(computed)
        assert {node.attrs["bits"] for node in result.model.nodes if node.op == "GatherBlockQuantized"} == {8}
    assert set(bits.values()) == {8}, "where all may have the most, all have"


@pytest.mark.parametrize("data", [False, True])
def test_a_layer_that_is_a_table_keeps_its_bits(tmp_path: Path, data: bool) -> None:
    path = tmp_path / "m.onnx"
    ir.save(parse(TEXT, {**WEIGHTS, "w3": np.ascontiguousarray(WEIGHTS["t"].T)}), path)
    result = compiled(path, 3.0, data=data)
    bits = bits_of(result)
    assert bits.pop("w3") == 8 and size(bits) <= 3.0 * sum(NUMBERS[name] for name in bits)
    assert sum(ir.nbytes(tensor) >= WEIGHTS["t"].size for tensor in result.model.constants()) == 1


def test_what_is_stored_is_no_more_than_with_as_many_bits_everywhere(model: Path) -> None:
    mixed = compiled(model, 4.0, data=False)
    plain = qcompiler.compile(model, "onnxruntime", recipe=Recipe(precision="w4", bench_seconds=0))
    assert mixed.report.size["quantized_bytes"] <= plain.report.size["quantized_bytes"]


def test_more_bits_never_do_more_harm_by_what_was_measured(model: Path) -> None:
    harms = []
    for average in (2.0, 2.7, 4.5):
        report = compiled(model, average, data=True).report
        chosen = {node.name: node.precision for node in report.nodes if node.op == "MatMul"}
        lines = report.search["groups"]
        assert {line["precision"] for line in lines} == {"w2", "w3", "w4", "w8"} and report.search["samples"] == len(
            DATA
        )
        harms.append(sum(line["divergence"] for line in lines if chosen[line["nodes"][0]] == line["precision"]))
    assert harms == sorted(harms, reverse=True) and harms[-1] < harms[0]


@pytest.mark.parametrize("data", [False, True])
def test_two_runs_write_the_same_bytes_and_say_why(model: Path, tmp_path: Path, data: bool) -> None:
    for name in ("a", "b"):
        compiled(model, 3.5, data=data, output=tmp_path / name)
    for file in ("model.onnx", "plan.json"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    report = json.loads((tmp_path / "a" / "report.json").read_text())
    reasons = {node["precision"]: node["reason"] for node in report["nodes"] if node["op"] == "MatMul"}
    assert len(reasons) > 1
    for precision, reason in reasons.items():
        said = reason.rpartition("; ")[2]
        assert said.startswith(precision) and "for 3.5 bits on average" in said
        assert all(f" in {option}" in said for option in ("w2", "w3", "w4", "w8"))
    assert any("bits a weight on average: of 3 layers" in note for note in report["notes"])


def test_codes_are_rounded_anew_in_the_bits_that_were_chosen(model: Path) -> None:
    """By data, in turn: what layers in front lost is made up for, whatever their bits."""
    lost: dict[str, float] = {}
    for method in ("rtn", "auto"):
        report = compiled(model, 3.0, data=True, weight_method=method).report
        lost[method] = next(line.worst_sqnr_db or 0.0 for line in report.candidates if line.shipped)
    assert lost["auto"] > lost["rtn"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"average_bits": 1.9}, "layers have 2, 3, 4, 8 bits"),
        ({"average_bits": 8.5}, "no 8.5 on average"),
        ({"average_bits": float("nan")}, "no nan on average"),
        ({"average_bits": 3.0, "bits": 8}, "--bits says what every layer has"),
        ({"average_bits": 4.0, "format": "nf4"}, "--format says what every layer has"),
        ({"average_bits": 3.0, "portable": True}, "layers have 4, 8 bits"),
    ],
)
def test_averages_that_no_kernels_make_are_refused(options: Mapping[str, object], said: str) -> None:
    with pytest.raises(UsageError) as error:
        configured(get("onnxruntime"), options)
    assert error.value.where == "--average-bits" and said in str(error.value)


def test_a_contract_is_kept_at_a_smaller_size_than_float(model: Path) -> None:
    """Under half of what 4 bits lose some layers get more bits; where much more may be lost, some get fewer."""

    def compiled(**wishes: object) -> Report:
        recipe = Recipe(precision="w4", bench_seconds=0, sqnr_floor=-100, metric="kl", preset="balanced")
        return qcompiler.compile(model, "onnxruntime", DATA, recipe=recipe.updated(wishes)).report

    plain = compiled(max_drop="none")
    lost = plain.accuracy.drop
    assert lost is not None and lost > 0 and not plain.search
    strict, loose = (compiled(max_drop=str(round(factor * lost, 6))) for factor in (0.5, 20.0))
    for report, factor in ((strict, 0.5), (loose, 20.0)):
        assert report.target["shipped"] == "w4" and (report.accuracy.drop or 0.0) <= factor * lost
        assert report.search["options"] == ["w4", "w2", "w3", "w8"] and report.search["unit"] == "bytes"
    given = [{node.precision for node in report.nodes if node.op == "MatMul"} for report in (strict, loose)]
    assert "w8" in given[0] and given[1] & {"w2", "w3"}
    small, middle, large = (report.size["quantized_bytes"] for report in (loose, plain, strict))
    assert small < middle < large < plain.size["float_bytes"]
