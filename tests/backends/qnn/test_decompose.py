"""A node that a chip refuses is written out, and the compile goes on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from qcompiler import Recipe, compiler, ir
from qcompiler.backends.qnn.backend import Qnn
from qcompiler.backends.qnn.decompose import decomposed
from qcompiler.numerics import SqnrMeter
from tests.backends.qnn.helper import built, job_of, need_qnn, quantized, widened
from tests.graphs import feed_for, parse, run

CONSTANTS = {"s": np.float32([1, 0.5, 2, 1.5]), "b": np.float32([0, 1, -1, 0.5])}
TEXT = "g (float[1,4,6,6] x) => (float[1,4,6,6] y) <float[1,4,6,6] n> {{ r = Tanh(x) n = {} y = Sigmoid(n) }}"
CALLS = {
    "instance": "InstanceNormalization(r, s, b)", "group": "GroupNormalization<num_groups=2>(r, s, b)",
    "lrn": "LRN<size=3, alpha=0.5>(r)", "softsign": "Softsign(r)",
}  # fmt: skip


def model(kind: str) -> ir.Model:
    used: Mapping[str, np.ndarray] = CONSTANTS if kind in ("instance", "group") else {}
    return parse(TEXT.format(CALLS[kind]), dict(used), opset=21)


@pytest.mark.parametrize(("kind", "precision"), [("group", "w8a8"), ("lrn", "w8a16")])
def test_v68_goes_on_without_float16(kind: str, precision: str, tmp_path: Path) -> None:
    """Both would be float16; the emulator has it there, the chip does not."""
    need_qnn()
    original, backend = model(kind), Qnn("sm8350")
    candidate = quantized(original, precision, backend)
    found = built(candidate, original, tmp_path, backend)
    name = original.nodes[1].name
    assert found.compiled and not found.failures and found.facts["islands"] == []
    assert any(f"{name} was written out in other operators" in note for note in found.notes)
    assert found.instead is not None
    planned, _, plan = found.instead
    assert original.nodes[1].op not in [node.op for node in planned.nodes]
    kept = [site for site, old in candidate.plan.sites.items() if plan.sites.get(site) == old]
    assert {site.tensor for site in kept} >= {"x", "r", "y"}


def test_what_fails_after_layout_transformation_is_written_out(tmp_path: Path) -> None:
    """LRN of 16 bits kills the session: no node is left to the CPU, and this chip has no float16."""
    need_qnn()
    original, backend = model("lrn"), Qnn("sm8350")
    found = built(widened(quantized(original, "w8a8", backend)), original, tmp_path, backend)
    assert found.compiled and not found.failures
    (note,) = [note for note in found.notes if "written out" in note]
    assert note.startswith(original.nodes[1].name) and "after layout transformation" in note


def test_what_float16_refuses_too_is_written_out(tmp_path: Path) -> None:
    need_qnn()
    original = model("softsign")
    found = built(quantized(original, "w8a16"), original, tmp_path)
    assert found.compiled and not found.failures
    assert any(f"{original.nodes[1].name} was written out" in note for note in found.notes)
    (emulation,) = found.facts["emulation"]  # type: ignore[misc]
    assert emulation["outputs"]["y"]["qdq_db"] > 60


@pytest.mark.parametrize("kind", CALLS)
def test_the_new_plan_computes_the_same(kind: str, tmp_path: Path) -> None:
    original, backend = model(kind), Qnn("sm8350")
    job = job_of(quantized(original, "w8a16", backend), original, tmp_path)
    other = decomposed(job, backend.spec, frozenset({original.nodes[1].name}))
    assert other is not None and all(node.precision != "float" for node in other.plan.nodes.values())
    feed = feed_for(original, 0)
    np.testing.assert_allclose(run(other.model, feed)[0], run(original, feed)[0], atol=1e-3)


def test_what_has_no_form_or_no_samples_stays(tmp_path: Path) -> None:
    original, backend = model("lrn"), Qnn("sm8350")
    candidate = quantized(original, "w8a8", backend)
    without = job_of(candidate, original, tmp_path, samples=0)
    assert decomposed(without, backend.spec, frozenset({original.nodes[1].name})) is None
    job = job_of(candidate, original, tmp_path)
    assert decomposed(job, backend.spec, frozenset({original.nodes[0].name})) is None


def test_what_was_written_out_is_judged_again(tmp_path: Path) -> None:
    """The figures of the report are those of the model that ships, not of the one with LRN in float16."""
    need_qnn()
    original = model("lrn")
    ir.save(original, tmp_path / "model.onnx")
    feeds = [feed_for(original, seed) for seed in range(8)]
    recipe = Recipe(precision="w8a16", options={"emulate": 1})
    found = compiler.compile(tmp_path / "model.onnx", "qnn:sm8350", feeds, output=tmp_path / "out", recipe=recipe)
    assert any("written out" in note for note in found.report.notes) and found.exit_status == 0
    meter = SqnrMeter()
    for feed in feeds:
        meter = meter.update(run(original, feed)[0], run(found.model, feed)[0])
    assert found.report.accuracy is not None
    assert found.report.accuracy.output_sqnr_db["y"] == pytest.approx(meter.db, abs=0.2)
