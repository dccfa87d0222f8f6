"""For tests of rewrites before the plan: a float model through the backend's conditioning to what ONNX Runtime runs."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort

from qcompiler import ir
from qcompiler.analysis import HISTOGRAM, collect
from qcompiler.backends import get
from qcompiler.data import Sample
from qcompiler.search.candidates import Candidate, Draft, Drafter
from tests.graphs import Arrays, feed_for, run

BACKEND = get("onnxruntime")
SPEC = BACKEND.spec
FLOAT_OPS = {"Conv", "FusedConv", "NhwcFusedConv", "Gemm", "AveragePool", "QLinearAveragePool"}


@dataclass
class Lowered:
    """A model that was compiled with int8, calibrated on `feeds`."""

    before: ir.Model
    draft: Draft
    candidate: Candidate
    feeds: Sequence[Arrays]

    @property
    def refusals(self) -> list[str]:
        return [r.reason for record in self.draft.trace.records[:-1] for r in record.refusals]

    def optimised(self) -> list[str]:
        """Operators that ONNX Runtime runs."""
        with tempfile.TemporaryDirectory() as folder:
            options = ort.SessionOptions()
            options.log_severity_level, options.intra_op_num_threads = 3, 1
            options.optimized_model_filepath = str(Path(folder) / "model.onnx")
            proto = self.candidate.model.to_proto().SerializeToString()
            ort.InferenceSession(proto, options, providers=["CPUExecutionProvider"])
            return [node.op_type for node in onnx.load(options.optimized_model_filepath).graph.node]

    def sqnr_db(self) -> float:
        """Of the worst output, on the calibration feeds, as ONNX Runtime runs it."""
        worst = np.inf
        for feed in self.feeds:
            outputs = zip(run(self.before, feed), run(self.candidate.model, feed, optimize=True), strict=True)
            for wanted, got in outputs:
                noise = np.square(wanted - got, dtype=np.float64).sum()
                worst = min(worst, 10 * np.log10(np.square(wanted, dtype=np.float64).sum() / max(noise, 1e-30)))
        return float(worst)


def lower(model: ir.Model, keep_float: tuple[str, ...] = ()) -> Lowered:
    """The whole way, statistics collected on the model as given."""
    feeds = [feed_for(model, seed) for seed in range(3)]
    drafter = Drafter(model, BACKEND, keep_float)
    draft = drafter.draft("int8")
    samples = [Sample(dict(feed), None, str(i)) for i, feed in enumerate(feeds)]
    stats = collect(model, samples, dict.fromkeys(draft.wanted, (HISTOGRAM,)))
    return Lowered(model, draft, drafter.candidate(draft, stats, "minmax", {}), feeds)


def weights(*shape: int, seed: int = 0) -> np.ndarray:
    """Seeded values in He's scale."""
    fan_in = max(1, int(np.prod(shape[1:])))
    return (np.random.default_rng(seed).normal(size=shape) / np.sqrt(fan_in)).astype(np.float32)
