"""What 4 bits harm too much gets 6 or 8 bits, not 16."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import qcompiler
from qcompiler import Recipe, ir
from tests.graphs import parse

pytest.importorskip("coremltools")


@pytest.mark.parametrize(("floor", "wider"), [(30.0, "palette6"), (40.0, "int8")])
def test_groups_that_palettes_harm_are_put_in_more_bits(tmp_path: Path, floor: float, wider: str) -> None:
    rng = np.random.default_rng(0)
    constants = {
        "even": rng.choice([-0.2, -0.1, 0.1, 0.2], (64, 32, 3, 3)).astype(np.float32),
        "wild": (rng.normal(size=(64, 64, 3, 3)) / 20).astype(np.float32),
    }
    ir.save(parse("""
        g (float[1, 32, 8, 8] x) => (float[1, 64, 8, 8] y)
        { a = Conv <pads = [1, 1, 1, 1]> (x, even) b = Relu(a) y = Conv <pads = [1, 1, 1, 1]> (b, wild) }
    """, constants), tmp_path / "m.onnx")  # fmt: skip
    data = [{"x": rng.normal(size=(1, 32, 8, 8)).astype(np.float32)} for _ in range(4)]
    recipe = Recipe(precision="w4-palette", sqnr_floor=floor)
    result = qcompiler.compile(tmp_path / "m.onnx", "coreml", data, recipe=recipe, output=tmp_path / "out")
    assert result.exit_status == 0
    assert result.report.target["shipped"] == "w4-palette"
    kinds = {s.tensor: d.choice.qtype.name for s, d in result.plan.quantized() if d.choice is not None}
    assert kinds == {"even": "palette4", "wild": wider}
    worst = next(line for line in result.report.candidates if line.shipped).worst_sqnr_db
    assert worst is not None and worst > floor
