"""A model walked through piece by piece: the same bits as in one go, whatever the pieces, and no more."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from qcompiler import ir
from qcompiler.analysis import Runner, walk
from qcompiler.analysis.walk import EXACT, Walk
from qcompiler.data import Sample
from qcompiler.errors import DataError
from tests.graphs import parse

RNG = np.random.default_rng(0)
TEXT = """g (int64[n] ids, float[n, 8] bias, bool c) => (float[n, 8] y, float[n, 8] other) {
    x = Gather (t, ids)
    a = MatMul (x, w)
    b = Add (a, bias)
    d = MatMul (b, v)
    y = If (c) <
        then_branch = one () => (float[n, 8] p) { p = Add (d, a) },
        else_branch = two () => (float[n, 8] q) { q = Neg (d) }
    >
    other = Exp (x)
}"""


def model() -> ir.Model:
    weights = {"t": (20, 8), "w": (8, 8), "v": (8, 8)}
    return parse(TEXT, {name: RNG.standard_normal(shape).astype(np.float32) for name, shape in weights.items()})


def samples() -> list[Sample]:
    def feed(rows: int) -> dict[str, np.ndarray]:
        bias = RNG.standard_normal((rows, 8)).astype(np.float32)
        return {"ids": RNG.integers(-20, 20, rows), "bias": bias, "c": np.array(rows % 2 == 0)}

    return [Sample(feed(rows), None, f"s{rows}") for rows in (3, 4, 7)]


def on_disk(found: ir.Model) -> ir.Model:
    edit = ir.Editor(found, found.graph)
    for constant in list(found.constants()):
        values = ir.array(constant)
        edit.recast(constant, ir.Deferred(values.shape, values.dtype, lambda values=values: values))
    return found


@pytest.mark.parametrize("piece", [1, 1 << 20])
@pytest.mark.parametrize("disk", [False, True])
def test_values_are_those_of_the_whole_model(
    piece: int, disk: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(walk, "PIECE", piece)
    whole, source = model(), samples()
    wanted = [Runner(whole, EXACT).run(sample.feed) for sample in source]
    found = Walk(on_disk(whole) if disk else whole, source, ["y", "other", "bias"], tmp_path)
    for name in ("y", "other"):
        for got, each in zip(found.values(name), wanted, strict=True):
            np.testing.assert_array_equal(got, each[name])
    for got, sample in zip(found.values("bias"), source, strict=True):
        np.testing.assert_array_equal(got, sample.feed["bias"])


def test_files_go_as_soon_as_nothing_reads_them(tmp_path: Path) -> None:
    found = Walk(model(), samples(), ["a", "y"], tmp_path)
    list(found.values("a"))
    assert len(list(tmp_path.iterdir())) == 3  # bias and c, which y needs, and a
    list(found.values("y"))
    assert len(list(tmp_path.iterdir())) == 2  # a and y themselves
    for name in ("a", "y"):
        found.forget(name)
    assert not list(tmp_path.iterdir())


def test_weights_count_when_their_piece_is_run(tmp_path: Path) -> None:
    whole, source = model(), samples()
    late, factor = next(constant for constant in whole.constants() if constant.name == "v"), [1.0]
    values = ir.array(late)
    ir.Editor(whole, whole.graph).recast(late, ir.Deferred(late.shape, np.float32, lambda: values * factor[0]))
    found = Walk(whole, source, ["b", "d"], tmp_path)
    list(found.values("b"))
    factor[0] = np.float32(2)
    doubled = next(found.values("d"))
    np.testing.assert_allclose(doubled, next(found.values("b")) @ values * 2, rtol=1e-5)


def test_a_sample_that_does_not_run_is_named(tmp_path: Path) -> None:
    bad = Sample({"ids": np.array([50]), "bias": np.zeros((1, 8), np.float32), "c": np.array(True)}, None, "bad")
    for number, whole in enumerate((model(), on_disk(model()))):
        (tmp_path / str(number)).mkdir()
        with pytest.raises(DataError, match="bad: the model cannot run on this sample"):
            Walk(whole, [bad], ["y"], tmp_path / str(number)).reach(["y"])
    with pytest.raises(DataError, match="holds no samples"):
        Walk(model(), [], ["y"], tmp_path)
