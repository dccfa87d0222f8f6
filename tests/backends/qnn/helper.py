"""For tests of the QNN backend: a float model through its table, and the compile where the libraries are installed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto

from qcompiler import ir
from qcompiler.analysis import SessionConfig
from qcompiler.backends.base import Job
from qcompiler.backends.conformance import Conformance
from qcompiler.backends.qnn.backend import Qnn
from qcompiler.backends.qnn.runtime import versions
from qcompiler.data import Sample
from qcompiler.passes.plan.encode import wanted
from qcompiler.search.candidates import Candidate, Draft, Drafter
from tests.graphs import Arrays, feed_for, parse
from tests.quantized import Seen

FEEDS = 3


def need_qnn() -> None:
    """Skips where Qualcomm's libraries are not to be had; says why."""
    known = versions()
    if isinstance(known, str):
        pytest.skip(known)


def drafted(model: ir.Model, precision: str, backend: Qnn | None = None, keep_float: tuple[str, ...] = ()) -> Draft:
    """The plan without numbers."""
    return Drafter(model, backend or Qnn(), keep_float).draft(precision)


def quantized(
    model: ir.Model,
    precision: str,
    backend: Qnn | None = None,
    *,
    keep_float: tuple[str, ...] = (),
    feeds: Sequence[Arrays] | None = None,
) -> Candidate:
    """The model as the backend gets it."""
    drafter = Drafter(model, backend or Qnn(), keep_float)
    draft = drafter.draft(precision)
    feeds = feeds or [feed_for(model, seed) for seed in range(FEEDS)]
    stats = Seen.of(draft.model, wanted(draft.model, draft.plan), feeds)
    return drafter.candidate(draft, stats, "minmax", {})


def job_of(candidate: Candidate, original: ir.Model, folder: Path, samples: int = FEEDS) -> Job:
    """What the gate is asked for."""
    found = [Sample(feed_for(original, seed), None, f"sample {seed}") for seed in range(samples)]
    return Job(
        "model", original, candidate.planned, candidate.model, candidate.plan, candidate.precision, None,
        found or None, SessionConfig(), None, {}, folder, lambda *_: None,  # type: ignore[arg-type]
    )  # fmt: skip


def built(
    candidate: Candidate, original: ir.Model, folder: Path, backend: Qnn | None = None, samples: int = FEEDS
) -> Conformance:
    """What the gate says; the artifacts are in the folder."""
    return (backend or Qnn()).build(job_of(candidate, original, folder, samples))


def widened(candidate: Candidate) -> Candidate:
    """The same grids with codes of 16 bits, whatever the table says of that."""
    proto = candidate.model.to_proto()
    for tensor in proto.graph.initializer:
        if tensor.data_type == TensorProto.UINT8:
            codes = np.frombuffer(tensor.raw_data, np.uint8).astype(np.uint16)
            tensor.data_type, tensor.raw_data = TensorProto.UINT16, codes.tobytes()
    for value in proto.graph.value_info:
        if value.type.tensor_type.elem_type == TensorProto.UINT8:
            value.type.tensor_type.elem_type = TensorProto.UINT16
    return replace(candidate, model=ir.Model.from_proto(proto))


def convnet(behind: str = "y = Sigmoid(f)") -> ir.Model:
    """Conv, Relu, a pool, a branch, and what is given; 8 values."""
    rng = np.random.default_rng(0)
    constants = {
        "w": rng.normal(size=(8, 3, 3, 3), scale=0.3).astype(np.float32),
        "b": rng.normal(size=8).astype(np.float32),
        "v": rng.normal(size=(8, 8, 1, 1), scale=0.4).astype(np.float32),
    }
    return parse(
        f"""g (float[1,3,8,8] x) => (float[1,8] y) {{
            a = Conv<pads=[1,1,1,1]>(x, w, b)
            r = Relu(a)
            m = MaxPool<kernel_shape=[2,2], strides=[2,2]>(r)
            c = Conv(m, v)
            s = Add(c, m)
            p = GlobalAveragePool(s)
            f = Flatten(p)
            {behind}
        }}""",
        constants,
    )


def attention(norm: bool = True) -> ir.Model:
    """One head of attention behind a norm."""
    rng = np.random.default_rng(0)

    def matrix(rows: int, columns: int) -> np.ndarray:
        return rng.normal(size=(rows, columns), scale=rows**-0.5).astype(np.float32)

    constants = {name: matrix(16, 16) for name in ("wq", "wk", "wv", "wo")}
    constants |= {"g": rng.uniform(0.5, 1.5, 16).astype(np.float32), "h": rng.normal(size=16).astype(np.float32)}
    first = "n = LayerNormalization(x, g, h)" if norm else "n = Mul(x, g)"
    if not norm:
        del constants["h"]
    return parse(
        f"""g (float[1,8,16] x) => (float[1,8,16] y) {{
            {first}
            q = MatMul(n, wq) k = MatMul(n, wk) v = MatMul(n, wv)
            t = Transpose<perm=[0,2,1]>(k)
            e = MatMul(q, t)
            a = Softmax(e)
            o = MatMul(a, v)
            y = MatMul(o, wo)
        }}""",
        constants,
    )
