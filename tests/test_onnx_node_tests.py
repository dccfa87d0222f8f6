"""Every node test that the onnx package ships gives the same outputs after load, prepare, fusion and save.

The model as shipped and the model as saved run on the same inputs in the same engine: ONNX Runtime, not optimising,
or, where it cannot run the original, the reference evaluator of the onnx package. A test is skipped only where neither
can run the original, or where two runs of the original differ.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator

from qcompiler import ir
from qcompiler.passes.fusion import fusion_rules
from qcompiler.passes.prepare import prepare, simplify_passes
from qcompiler.pipeline import Pipeline

Run = Callable[[Sequence[Any]], list[Any]]
DRAWS = ("Random", "Bernoulli", "Multinomial")
FLOOR = 1800
"""Tests that the package shipped at least when this was written; fewer means that they were not found."""
TOLERANCE = {"float16": 2e-3, "bfloat16": 2e-2, "float32": 1e-5, "float64": 1e-9}
"""Relative; recognised operators and folded constants round in other places than what they replace."""


def through(proto: onnx.ModelProto, folder: Path) -> onnx.ModelProto:
    """The model after a journey through files and everything that comes before quantization."""
    onnx.save(proto, folder / "before.onnx")
    model, pipeline = ir.load(folder / "before.onnx"), Pipeline()
    prepare(pipeline, model)
    pipeline.fixpoint(model, fusion_rules())
    pipeline.fixpoint(model, simplify_passes())
    ir.save(model, folder / "after.onnx")
    return onnx.load(folder / "after.onnx")


def in_onnxruntime(proto: onnx.ModelProto) -> Run:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    session = ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return lambda inputs: list(session.run(None, feed(proto, inputs)))


def in_reference(proto: onnx.ModelProto) -> Run:
    evaluator = ReferenceEvaluator(proto)
    return lambda inputs: list(evaluator.run(None, feed(proto, inputs)))


def feed(proto: onnx.ModelProto, inputs: Sequence[Any]) -> dict[str, Any]:
    """Inputs by name; tests of unusual types hold protos."""
    values = [numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else value for value in inputs]
    return dict(zip([info.name for info in proto.graph.input], values, strict=True))


def difference(wanted: Any, got: Any) -> str:
    """What tells two outputs apart, empty if nothing does."""
    if wanted is None or isinstance(wanted, list | tuple | dict):
        if type(wanted) is not type(got) or (wanted is not None and len(wanted) != len(got)):
            return f"{wanted!r} became {got!r}"
        if isinstance(wanted, dict):
            return "" if wanted == got else f"{wanted!r} became {got!r}"
        return next(filter(None, map(difference, wanted or (), got or ())), "")
    a, b = np.asarray(wanted), np.asarray(got)
    if a.dtype != b.dtype or a.shape != b.shape:
        return f"{a.dtype}{a.shape} became {b.dtype}{b.shape}"
    rtol = TOLERANCE.get(str(a.dtype))
    if rtol is None:
        same = np.array_equal(a, b) if a.dtype == object else a.tobytes() == b.tobytes()
    else:
        scale = float(np.max(np.abs(a, where=np.isfinite(a), out=np.zeros_like(a)), initial=0))
        same = np.allclose(b.astype(np.float64), a.astype(np.float64), rtol=rtol, atol=rtol * scale, equal_nan=True)
    return "" if same else f"{a.reshape(-1)[:4]} became {b.reshape(-1)[:4]}"


def original(proto: onnx.ModelProto, inputs: Sequence[Any]) -> tuple[Callable[[onnx.ModelProto], Run], list[Any]] | str:
    """The engine that runs the model and its outputs, or why there is none."""
    reasons = []
    for engine in (in_onnxruntime, in_reference):
        try:
            outputs = engine(proto)(inputs)
            again = engine(proto)(inputs)
        except Exception as error:  # engines raise whatever they like
            reasons.append(f"{engine.__name__[3:]}: {type(error).__name__}")
            continue
        # two runs may draw the same numbers: generators are seeded by the time of day
        drawn = any(node.op_type.startswith(DRAWS) for node in (*proto.graph.node, *within(proto)))
        return "is random" if drawn or difference(outputs, again) else (engine, outputs)
    return "runs nowhere (" + ", ".join(reasons) + ")"


def within(proto: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    """The nodes of a model's functions."""
    return (node for function in proto.functions for node in function.node)


def check(proto: onnx.ModelProto, inputs: Sequence[Any], folder: Path) -> tuple[str, str]:
    """ "passed", "skipped" or "failed", and where or why."""
    found = original(proto, inputs)
    if isinstance(found, str):
        return "skipped", found
    engine, wanted = found
    try:
        got = engine(through(proto, folder))(inputs)
    except Exception as error:
        return "failed", f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    why = difference(wanted, got)
    return ("failed", why) if why else ("passed", engine.__name__.replace("_", " "))


def test_every_node_test_keeps_its_outputs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from onnx.backend.test.loader import load_node_model_tests

    counts: Counter[str] = Counter()
    failed = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cases = load_node_model_tests()
        for case in cases:
            outcome, detail = check(case.model, case.data_sets[0][0], tmp_path)
            counts[f"{outcome}: {detail}" if outcome != "failed" else outcome] += 1
            if outcome == "failed":
                failed.append(f"{case.name}: {detail}")
    with capsys.disabled():
        print(f"\n{len(cases)} ONNX node tests, {len(failed)} failed")
        for text, count in sorted(counts.items()):
            print(f"  {count:5} {text}")
    assert len(cases) >= FLOOR
    assert not failed, "\n".join(failed)
    assert sum(count for text, count in counts.items() if text.startswith("passed")) >= 0.95 * len(cases)
