"""What a language model lost, and tokens a second."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from qcompiler import Recipe, compile, ir
from qcompiler.analysis import Runner
from qcompiler.analysis.language import divergence, speech, step_feed
from qcompiler.analysis.measures_of_text import log_softmax
from qcompiler.data import Sample, open_source
from qcompiler.frontend import front
from qcompiler.report.text import summary

DOCS = Path(__file__).resolve().parents[2] / "models" / "docs_llama"


def scorer(noise: float) -> Runner:
    """Scores of 5 tokens, looked up by the token before."""
    proto = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["" : 21]> g (int64[b, n] ids) => (float[b, n, 5] z) { z = Gather(t, ids) }'
    )
    rng = np.random.default_rng(0)
    table = rng.standard_normal((5, 5)) + noise * np.random.default_rng(1).standard_normal((5, 5))
    proto.graph.initializer.append(numpy_helper.from_array(table.astype(np.float32), "t"))
    return Runner(ir.Model.from_proto(proto))


def test_divergence_is_that_of_the_distributions() -> None:
    samples = [Sample({"ids": np.array([[0, 1, 2, 3, 4, 0]])}, None, "a")]
    exact, other = scorer(0.0), scorer(1.0)
    assert divergence(exact, exact, "z", samples) == (0.0, 1.0, 6)
    found = divergence(exact, other, "z", samples)
    assert found is not None
    p, q = (log_softmax(runner.run(samples[0].feed)["z"][0]) for runner in (exact, other))
    np.testing.assert_allclose(np.exp(p).sum(-1), 1)
    assert found[0] == pytest.approx(np.mean([np.exp(a) @ (a - b) for a, b in zip(p, q, strict=True)]))
    assert found[0] > 0 and found[1] == np.mean(p.argmax(-1) == q.argmax(-1)) < 1


def test_a_step_goes_on_behind_the_sample() -> None:
    loaded = front(DOCS / "model.onnx")
    sample = next(iter(open_source(str(DOCS / "evaluation.npz"), loaded.inputs)))
    sample = Sample({k: v[:, :9] if k == "input_ids" else v for k, v in sample.feed.items()}, None, "s")
    runner = Runner(loaded.original)
    results = runner.run(sample.feed)
    feed = step_feed(sample, results, "logits")
    assert feed is not None and feed["input_ids"].shape == (1, 1)
    step = runner.run(feed)
    longer = {**sample.feed, "input_ids": np.concatenate([sample.feed["input_ids"], feed["input_ids"]], 1)}
    np.testing.assert_allclose(step["logits"][:, -1], runner.run(longer)["logits"][:, -1], rtol=1e-3, atol=1e-3)
    found = speech({"float": runner}, "logits", sample, runs=1)["float"]
    assert found.prompt is not None and found.step is not None and min(found.prompt, found.step) > 0
    plain = Sample({"ids": np.array([[0, 1]])}, None, "a")
    assert step_feed(plain, scorer(0.0).run(plain.feed), "z") is None


def test_the_report_says_it() -> None:
    recipe = Recipe(
        precision="w4", weight_method="mse", metric="perplexity", samples=2, bench_seconds=0.2, options={"block": 128}
    )
    report = compile(DOCS / "model.onnx", "onnxruntime", str(DOCS / "calibration.npz"), recipe=recipe).report
    said = report.language
    assert 0 < said["kl"] < 0.2 and 0.8 < said["agreement"] < 1 and said["samples"] == 2 and said["positions"] == 512
    assert said["quantized_step_tokens_per_second"] > 0 and said["float_prompt_tokens_per_second"] > 0


@pytest.mark.parametrize("limit", [0.2, 0.02])
def test_divergence_is_held_to_a_contract(limit: float) -> None:
    """Rounding to nearest alone is at 0.025: with the lower limit layers are left float."""
    recipe = Recipe(
        precision="w4", weight_method="rtn", metric="kl", max_drop=limit, samples=24, bench_seconds=0,
        options={"block": 128},
    )  # fmt: skip
    found = compile(DOCS / "model.onnx", "onnxruntime", str(DOCS / "calibration.npz"), recipe=recipe)
    accuracy = found.report.accuracy
    assert found.exit_status == 0 and accuracy.verdict == "holds" and accuracy.metric == "KL divergence from float"
    assert accuracy.drop == pytest.approx(found.report.language["kl"], abs=1e-6) and 0 < accuracy.drop < limit
    assert (accuracy.drop > 0.02) == (limit == 0.2)
    text = " ".join(summary(found.report).split())
    assert "KL to float" in text and "% of the tokens equal" in text
