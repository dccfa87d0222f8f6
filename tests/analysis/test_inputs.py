"""Inputs that are made up where there are no samples: masks and caches fit the tokens, so that decoders run."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from qcompiler import Recipe, compile, ir
from qcompiler.analysis.inputs import inputs_of
from qcompiler.analysis.same_function import SameFunction
from qcompiler.search.judge import synthetic_feed
from tests.graphs import parse, run

RNG = np.random.default_rng(0)
DECODER = """g (int64[B, S] input_ids, int64[B, T] attention_mask, int64[B, S] position_ids,
            float[B, 1, P, 32] past_key)
        => (float[B, S, 64] logits, float[B, 1, T, 32] present_key)
        <int64[1] one = {1}, int64[2] ends = {1, 2}, float big = {100.0}, float unit = {1.0}> {
    e = Gather(table, input_ids) p = Gather(places, position_ids) x = Add(e, p) h = Unsqueeze(x, one)
    present_key = Concat <axis = 2> (past_key, h)
    t = Transpose <perm = [0, 1, 3, 2]> (present_key) s = MatMul(h, t)
    m = Cast <to = 1> (attention_mask) u = Unsqueeze(m, ends) v = Sub(u, unit) w = Mul(v, big) a = Add(s, w)
    q = Softmax(a) c = MatMul(q, present_key) d = Squeeze(c, one) logits = MatMul(d, head) }"""


def decoder() -> ir.Model:
    """One head that joins its keys to a cache and adds its mask to the scores: their sizes must agree."""
    weights = {"table": (64, 32), "places": (64, 32), "head": (32, 64)}
    return parse(DECODER, {name: RNG.standard_normal(size).astype(np.float32) / 6 for name, size in weights.items()})


def test_what_is_timed_without_data_runs() -> None:
    model = decoder()
    feed = synthetic_feed(inputs_of(model))
    assert feed["past_key"].shape == (1, 1, 0, 32) and feed["attention_mask"].shape == (1, 1)
    assert feed["position_ids"].tolist() == [[0]]
    assert run(model, feed)[0].shape == (1, 1, 64)


def test_rewrites_are_checked_without_data() -> None:
    model, other = decoder(), decoder()
    same = SameFunction()
    assert same.difference(model, model.copy()) is None and not same.note
    assert "differs by" in (same.difference(model, other) or "")


def test_a_decoder_is_compiled_without_data(tmp_path: Path) -> None:
    ir.save(decoder(), tmp_path / "m.onnx")
    result = compile(tmp_path / "m.onnx", "onnxruntime", output=tmp_path / "o", recipe=Recipe(bench_seconds=0.1))
    assert result.exit_status == 0
    assert not any("could not be compared" in note for note in result.report.notes)
