from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from qcompiler import ir
from qcompiler.analysis import Runner, SessionConfig
from qcompiler.analysis.session import mark
from qcompiler.data import InputInfo
from qcompiler.errors import UsageError
from qcompiler.report import side_by_side as sides
from tests.graphs import parse


def info(name: str, shape: tuple[int | str | None, ...] | None, dtype: object = np.float32) -> InputInfo:
    return InputInfo(name, np.dtype(dtype), shape)  # type: ignore[call-overload]


def silent(stage: str, done: int, total: int | None) -> None:
    """No progress."""


def test_made_up_feeds() -> None:
    inputs = [
        info("x", ("batch", 3)),
        info("ids", ("batch", "T"), np.int64),
        info("m", (2,), np.bool_),
        info("t", (1,), object),
    ]
    feed = sides.made_up(inputs, {"batch": "2", "ids": "?x5"})
    assert {name: (value.shape, value.dtype) for name, value in feed.items()} == {
        "x": ((2, 3), np.float32), "ids": ((2, 5), np.int64), "m": ((2,), np.bool_), "t": ((1,), np.dtype(object)),
    }  # fmt: skip
    assert feed["x"].all() and not feed["ids"].any() and not feed["m"].any() and feed["t"][0] == ""


@pytest.mark.parametrize(
    ("inputs", "shapes", "words"),
    [
        ([info("x", ("batch", None))], {}, r"input 'x' has open dimensions: batch, \? \(--shape batch=1"),
        ([info("x", None)], {}, "the rank of input 'x' is unknown"),
        ([info("x", (1, 2))], {"y": "3"}, "'y' is neither an input nor a dynamic dimension"),
        ([info("x", (1, 2))], {"x": "1x2x3"}, "'x' has 2 dimensions"),
        ([info("x", (1, 2))], {"x": "axb"}, "is not a shape"),
    ],
)
def test_feeds_that_cannot_be_made(inputs: list[InputInfo], shapes: dict[str, str], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        sides.made_up(inputs, shapes)


def test_an_input_of_unknown_rank_takes_the_shape_given() -> None:
    assert sides.made_up([info("x", None)], {"x": "2x3"})["x"].shape == (2, 3)


def two_models(folder: Path) -> tuple[Path, Path]:
    weights = np.random.default_rng(0).normal(size=(8, 8)).astype(np.float32)
    text = "agraph (float[N, 8] x) => (float[N, 8] y) { h = MatMul(x, w) y = Relu(h) }"
    for name, values in (("a", weights), ("b", weights + np.float32(0.01))):
        ir.save(parse(text, {"w": values}), folder / f"{name}.onnx")
    np.savez(folder / "d.npz", x=np.random.default_rng(1).normal(size=(6, 8)).astype(np.float32))
    return folder / "a.onnx", folder / "b.onnx"


def test_compare_says_which_tensor_is_worst(tmp_path: Path) -> None:
    a, b = two_models(tmp_path)
    stages: list[tuple[str, int, int | None]] = []
    found = sides.compared(a, b, str(tmp_path / "d.npz"), 4, lambda *at: stages.append(at))
    facts = sides.comparison_facts(found, 10)
    assert facts["samples"] == 4 and facts["compared"] == len(facts["tensors"]) >= 2
    ratios = [line["sqnr_db"] for line in facts["tensors"]]
    assert ratios == sorted(ratios) and 20 < ratios[0] < 60
    assert stages[-1] == ("compare", 4, 4)
    text = [line.text for line in sides.comparison_lines(found, 1)]
    assert text[1].split() == ["SQNR", "dB", "cosine", "largest", "tensor", "operator"]
    assert f"{ratios[0]:.1f}" in text[2] and "and 1 better" in text[3]


def test_a_model_beside_itself_is_equal(tmp_path: Path) -> None:
    a, _ = two_models(tmp_path)
    found = sides.compared(a, a, str(tmp_path / "d.npz"), 2, silent)
    assert all(line["equal"] and line["worst"] == 0 for line in sides.comparison_facts(found, 10)["tensors"])
    assert any(line.text.split()[:1] == ["equal"] for line in sides.comparison_lines(found, 10))


def test_bench(tmp_path: Path) -> None:
    a, b = two_models(tmp_path)
    found = sides.timed([a, b], None, {"N": "4"}, 0.05, 1, silent)
    facts = sides.timing_facts(found)
    assert [line["model"] for line in facts["models"]] == [str(a), str(b)]
    assert facts["models"][0]["speedup"] == 1.0
    assert all(0 < line["min_ms"] <= line["median_ms"] < 1000 for line in facts["models"])
    assert "made up" in facts["feeds"] and "2 samples" not in facts["feeds"]
    assert "samples" in sides.timing_facts(sides.timed([a], str(tmp_path / "d.npz"), {}, 0.05, 1, silent))["feeds"]
    lines = [line.text for line in sides.timing_lines(found)]
    assert max(map(len, lines)) <= 80 and lines[1].split()[4] == "1" and "x +-" in lines[2]


def test_bench_refuses(tmp_path: Path) -> None:
    a, b = two_models(tmp_path)
    ir.save(parse("agraph (float[N, 8] z) => (float[N, 8] y) { y = Relu(z) }"), tmp_path / "other.onnx")
    for paths, data, shapes, words in (
        ([a, a], None, {"N": "1"}, "given twice"),
        ([a, tmp_path / "other.onnx"], None, {"N": "1"}, "takes other inputs than"),
        ([a, b], str(tmp_path / "d.npz"), {"N": "1"}, "is for timing without --data"),
        ([tmp_path], None, {}, r"holds no model\.onnx"),
    ):
        with pytest.raises(UsageError, match=words):
            sides.timed(paths, data, shapes, 0.05, 1, silent)


def test_bench_uses_the_session_options_of_each_model_and_says_so(tmp_path: Path) -> None:
    a, b = two_models(tmp_path)
    model = ir.load(b)
    mark(model, SessionConfig(threads=4, disabled_optimizers=("NhwcTransformer",)))
    ir.save(model, tmp_path / "c.onnx")
    found = sides.timed((a, tmp_path / "c.onnx"), None, {"N": "1"}, 0.02, 1, silent)
    facts = sides.timing_facts(found)
    assert [line["disabled_optimizers"] for line in facts["models"]] == [[], ["NhwcTransformer"]]
    assert facts["threads"] == 1
    text = " ".join(" ".join(line.text for line in sides.timing_lines(found)).split())
    assert "c.onnx: with its session options, without NhwcTransformer" in text


def test_compare_uses_the_session_options_of_each_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = two_models(tmp_path)
    model = ir.load(b)
    mark(model, SessionConfig(disabled_optimizers=("NhwcTransformer",)))
    ir.save(model, tmp_path / "c.onnx")
    seen: list[tuple[str, ...]] = []
    real = Runner.__init__

    def spy(self: Runner, model: object, config: SessionConfig | None = None, **options: object) -> None:
        seen.append((config or SessionConfig()).disabled_optimizers)
        real(self, model, config, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Runner, "__init__", spy)
    sides.compared(a, tmp_path / "c.onnx", str(tmp_path / "d.npz"), 2, silent)
    assert ("NhwcTransformer",) in seen and () in seen
