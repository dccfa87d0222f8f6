"""The gate: what ONNX Runtime made of a model under the session that it ships with, and what its slow forms cost."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy.typing as npt
import onnx
from onnx import GraphProto

from qcompiler import ir
from qcompiler.analysis import Runner, SessionConfig, node_times
from qcompiler.backends.conformance import Conformance
from qcompiler.backends.onnxruntime.inspect import WEIGHTS_APART, conformance
from qcompiler.backends.onnxruntime.traps import findings
from qcompiler.quant import NodePlan

Feed = Mapping[str, npt.NDArray[Any]]
RUNS = 10
NOT_PREPACKED = ("session.disable_prepacking", "1")


def optimised(model: ir.Model, config: SessionConfig) -> GraphProto:
    """The graph that ONNX Runtime runs.

    Raises:
        ModelError: ONNX Runtime refuses the model; the message is its own.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "optimised.onnx"
        Runner(model, replace(config, save_optimized=path, entries=(*config.entries, *WEIGHTS_APART)))
        return onnx.load(path, load_external_data=False).graph


def gate(model: ir.Model, plan: Mapping[str, NodePlan], config: SessionConfig, feed: Feed | None) -> Conformance:
    """What ONNX Runtime makes of `model`, whose nodes were planned by `plan`; see `Backend.inspect`.

    Raises:
        ModelError: ONNX Runtime refuses the model; the message is its own.
        DataError: the model cannot run on the feed.
    """
    graph = optimised(model, config)
    found = findings(graph, model)
    if found and feed is not None:  # a profile costs runs, and only serves to say what a finding costs
        times = node_times(model, feed, config=config, runs=RUNS)
        found = findings(graph, model, {name: time.seconds for name, time in times.items()})
    return replace(conformance(graph, plan), findings=found)


def loaded(path: Path, model: ir.Model, config: SessionConfig) -> Conformance:
    """That ONNX Runtime takes a file whose weights lie beside it, none of them read: mapped, not folded or prepacked.

    Raises:
        ModelError: ONNX Runtime refuses the model; the message is its own.
    """
    off = (*config.disabled_optimizers, "ConstantFolding")
    Runner(path, replace(config, entries=(*config.entries, NOT_PREPACKED), disabled_optimizers=off))
    ops = Counter(node.op for node in model.all_nodes())
    boundaries = sum(ops[op] for op in ("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear"))
    note = "weights stayed on disk: ONNX Runtime loaded the file, but did not run it whole"
    return Conformance(ops, 0, sum(ops.values()) - boundaries, boundaries, notes=(note,), executed=False)
