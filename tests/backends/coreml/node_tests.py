"""ONNX's own node tests through lowering, a saved package, and the evaluator that reads it back.

A test is tried as it is; where that is refused because Core ML wants a parameter to be constant (axes, shapes, pads),
once more with its integer and bool inputs but the first as initializers, then with all but the first, then with all
that are not floating point.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from qcompiler import ir
from qcompiler.backends.coreml.convert import Settings, convert
from qcompiler.backends.coreml.evaluate import Package
from qcompiler.backends.coreml.interface import interface
from qcompiler.backends.coreml.lower import TABLE
from qcompiler.backends.coreml.package import save
from qcompiler.errors import ModelError, QCompilerError
from qcompiler.passes.prepare import prepare
from qcompiler.pipeline import Pipeline

TOLERANCE = {"float16": 4e-3, "float32": 2e-5, "float64": 2e-5}
"""Relative to the largest value."""
FOUR_DIGITS = frozenset({"test_averagepool_2d_ceil_last_window_starts_on_pad"})
"""Tests whose expected values are written down to four digits."""


@dataclass(frozen=True)
class Outcome:
    """What became of one test: "passed", "refused" or "failed", and how or why."""

    name: str
    op: str
    verdict: str
    detail: str


def cases(wanted: str = "") -> Iterator[Any]:
    """The tests whose nodes are all in the table."""
    from onnx.backend.test.loader import load_node_model_tests

    for case in load_node_model_tests():
        nodes = case.model.graph.node
        known = all((node.domain, node.op_type) in TABLE or node.op_type == "Constant" for node in nodes)
        if known and nodes and not case.model.functions and wanted in case.name:
            yield case


def run(case: Any, folder: Path, os: int = 18, half: bool = False) -> Outcome:
    """One test."""
    inputs, outputs = case.data_sets[0]
    op = "+".join(sorted({node.op_type for node in case.model.graph.node}))
    why = ""
    for how, frozen in (("as it is", "none"), ("constant integers", "integers"), ("constant parameters", "rest"),
                        ("all integers constant", "all")):  # fmt: skip
        try:
            model, feed = ready(case.model, inputs, frozen)
            if model is None:
                continue
            converted = convert(model, Settings(os=os, half=half), interface(model))
        except QCompilerError as error:
            why = str(error)
            continue
        path = folder / "case.mlpackage"
        try:
            save(converted.model, path)
            got = Package.load(path).run(feed)
        except (QCompilerError, ValueError, TypeError) as error:
            return Outcome(case.name, op, "failed", f"{type(error).__name__}: {error}")
        names = [info.name for info in case.model.graph.output]
        rtol = case.rtol if case.rtol > 1e-3 or case.name in FOUR_DIGITS else 0.0
        wrong = next(
            filter(None, (difference(w, got[n], rtol) for n, w in zip(names, outputs, strict=True) if n in got)),
            "",
        )  # fmt: skip
        return Outcome(case.name, op, "failed" if wrong else "passed", wrong or how)
    return Outcome(case.name, op, "refused", why)


def ready(proto: onnx.ModelProto, inputs: Any, frozen: str) -> tuple[ir.Model | None, dict[str, Any]]:
    """The prepared model with some inputs as initializers, and the feed of the others; None where nothing changes."""
    names = [info.name for info in proto.graph.input]
    values = [numpy_helper.to_array(v) if isinstance(v, onnx.TensorProto) else v for v in inputs]
    feed = {n: np.asarray(v) if isinstance(v, np.generic) else v for n, v in zip(names, values, strict=False)}
    if any(not isinstance(value, np.ndarray) for value in feed.values()):
        raise ModelError("no tensor")
    held = [
        n
        for i, (n, v) in enumerate(feed.items())
        if i and (frozen == "rest" or v.ndim == 0 or (frozen == "integers" and v.dtype.kind in "iub"))
    ]
    if frozen == "all":
        held = [n for n, v in feed.items() if v.dtype.kind in "iub"]
    if frozen != "none" and not 0 < len(held) < len(feed):
        return None, {}
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    for name in held:
        copy.graph.initializer.append(numpy_helper.from_array(feed.pop(name), name))
        kept = [info for info in copy.graph.input if info.name != name]
        del copy.graph.input[:]
        copy.graph.input.extend(kept)
    model = ir.Model.from_proto(copy)
    prepare(Pipeline(), model, unroll=True)
    for tensor in model.inputs:
        if tensor.shape is not None and not all(isinstance(d, int) for d in tensor.shape):
            next(ir.editors(model)).retype(tensor, tensor.dtype, list(feed[tensor.name].shape))
    return model, feed


def difference(wanted: Any, got: Any, rtol: float = 0.0) -> str:
    """What tells an output apart, empty if nothing does; types of integers are those of Core ML."""
    a = numpy_helper.to_array(wanted) if isinstance(wanted, onnx.TensorProto) else np.asarray(wanted)
    b = np.asarray(got)
    if a.shape != b.shape:
        return f"shape {a.shape} became {b.shape}"
    if a.dtype.kind != "f":
        return (
            ""
            if np.array_equal(a.astype(np.int64), b.astype(np.int64))
            else f"{a.reshape(-1)[:4]} became {b.reshape(-1)[:4]}"
        )
    rtol = max(rtol, TOLERANCE[str(a.dtype)])
    scale = float(np.max(np.abs(a, where=np.isfinite(a), out=np.zeros_like(a)), initial=0))
    same = np.allclose(b.astype(np.float64), a.astype(np.float64), rtol=rtol, atol=rtol * scale, equal_nan=True)
    return "" if same else f"{a.reshape(-1)[:4]} became {b.reshape(-1)[:4]}"


def every(folder: Path, wanted: str = "") -> list[Outcome]:
    """All tests."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [run(case, folder) for case in cases(wanted)]
