"""Helpers for tests on graphs: ONNX text in, operator lists out, numbers from ONNX Runtime without optimisation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import numpy_helper

from qcompiler import ir
from qcompiler.pipeline import GraphPass, PassRecord, Pipeline
from qcompiler.rewrite import Rule

Arrays = Mapping[str, np.ndarray]


def parse(text: str, constants: Arrays | None = None, opset: int = 21) -> ir.Model:
    """A model from ONNX text (graph only, or a whole model starting with "<"); `constants` become initializers.

    Names in `constants` need no declaration in the text.
    """
    if not text.lstrip().startswith("<"):
        text = f'<ir_version: 10, opset_import: ["" : {opset}, "com.microsoft" : 1]>\n{text}'
    proto = onnx.parser.parse_model(text)
    for name, values in (constants or {}).items():
        proto.graph.initializer.append(numpy_helper.from_array(np.asarray(values), name))
    for i, node in enumerate(proto.graph.node):
        node.name = node.name or f"n{i}_{node.op_type}"
    onnx.checker.check_model(proto, full_check=False)
    proto = onnx.shape_inference.infer_shapes(proto)
    return ir.Model.from_proto(proto)


def ops(model: ir.Model) -> list[str]:
    """Operator types of the main graph in order."""
    return [node.op for node in model.nodes]


def session(model: ir.Model, *, optimize: bool = False) -> ort.InferenceSession:
    """A single-threaded CPU session, by default with every graph optimisation off."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    if not optimize:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return ort.InferenceSession(model.to_proto().SerializeToString(), options, providers=["CPUExecutionProvider"])


def run(model: ir.Model, feed: Arrays, *, optimize: bool = False) -> list[Any]:
    """All outputs of the model for one feed."""
    return list(session(model, optimize=optimize).run(None, dict(feed)))


def feed_for(model: ir.Model, seed: int = 0, dims: Mapping[str, int] | None = None) -> dict[str, np.ndarray]:
    """Seeded normal values for every input; symbolic dimensions from `dims`, else 2."""
    rng = np.random.default_rng(seed)
    feed = {}
    for tensor in model.inputs:
        shape = [d if isinstance(d, int) else (dims or {}).get(d or "", 2) for d in tensor.shape]
        feed[tensor.name] = rng.normal(size=shape).astype(tensor.dtype)
    return feed


def transform(model: ir.Model, *steps: GraphPass | Rule) -> tuple[ir.Model, list[PassRecord]]:
    """A copy of the model after `steps`, and what each step did; the graph is verified and checked."""
    after, pipeline = model.copy(), Pipeline()
    pipeline.graph(after, steps)
    onnx.checker.check_model(after.to_proto(), full_check=True)
    return after, pipeline.trace.records


def assert_same_numbers(
    before: ir.Model, after: ir.Model, feeds: Sequence[Arrays] | None = None, rtol: float = 1e-4, atol: float = 1e-5
) -> None:
    """Both models give the same outputs, under the same names, with optimisation off."""
    assert [t.name for t in before.outputs] == [t.name for t in after.outputs]
    assert [t.name for t in before.inputs] == [t.name for t in after.inputs]
    for feed in feeds or [feed_for(before, seed) for seed in range(3)]:
        for wanted, got in zip(run(before, feed), run(after, feed), strict=True):
            np.testing.assert_allclose(got, wanted, rtol=rtol, atol=atol)


def refusals(records: Sequence[PassRecord]) -> list[str]:
    """Every reason that was given for not rewriting."""
    return [refusal.reason for record in records for refusal in record.refusals]
