"""A cache that slides: what nothing wrote is neither fetched nor compared, and a compile ships few bits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from qcompiler import Recipe, compile, ir
from qcompiler.analysis.payload import Payload
from qcompiler.analysis.unwritten import unwritten
from tests.graphs import parse

RNG = np.random.default_rng(0)


def sliding(*, slides: bool = True) -> ir.Model:
    """A layer of the form of the builder of onnxruntime-genai: packed heads, a cache of 16 places."""
    how = ", sliding_window_cache = 1" if slides else ""
    text = f"""g (int64[B, S] input_ids, int64[B, T] attention_mask, float[B, 1, P, W] past_key,
            float[B, 1, P, W] past_value)
            => (float[B, S, 96] logits, float[B, 1, Q, W] present_key, float[B, 1, Q, W] present_value)
            <int64[1] axis = {{1}}, int64[1] one = {{1}}, int64 second = {{1}}> {{
        sum = ReduceSum <keepdims = 0> (attention_mask, axis) less = Sub(sum, one) last = Cast <to = 6> (less)
        shape = Shape(attention_mask) size = Gather(shape, second) total = Cast <to = 6> (size)
        x = Gather(table, input_ids) h = MatMul(x, qkv)
        a, present_key, present_value = com.microsoft.GroupQueryAttention
            <num_heads = 2, kv_num_heads = 1, local_window_size = 16{how}>
            (h, , , past_key, past_value, last, total)
        logits = MatMul(a, head) }}"""
    weights = {"table": (96, 64), "qkv": (64, 128), "head": (64, 96)}
    return parse(text, {name: RNG.standard_normal(size).astype(np.float32) / 8 for name, size in weights.items()})


def test_outputs_that_slide_are_found() -> None:
    assert unwritten(Payload.of(sliding())) == {"present_key", "present_value"}
    assert not unwritten(Payload.of(sliding(slides=False)))


@pytest.mark.parametrize("slides", [True, False])
def test_tokens_alone_compile_it(slides: bool, tmp_path: Path) -> None:
    ir.save(sliding(slides=slides), tmp_path / "m.onnx")
    np.savez(tmp_path / "tokens.npz", input_ids=RNG.integers(0, 96, (4, 6)))
    recipe = Recipe(precision="w4", bench_seconds=0, max_drop="none", options={"bits": 8})
    result = compile(tmp_path / "m.onnx", "onnxruntime", tmp_path / "tokens.npz", output=tmp_path / "o", recipe=recipe)
    ops = [node.op for node in ir.load(tmp_path / "o" / "model.onnx").nodes]
    assert ops.count("MatMulNBits") == 2 and ops.count("GatherBlockQuantized") == 1
    assert result.exit_status == 0
    assert "inputs that the data leaves out: attention_mask (ones), past_key and 1 more (an empty past)" in (
        result.report.notes
    )
