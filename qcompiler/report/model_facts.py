"""What a model is, before anything is done to it: sizes, types, shapes, and how much of it each target could quantize.

Every fact is a plain value, so that `--json` and the text say the same thing. Nodes are listed as they are after
preparation, since those are the names that `--keep-float` and `explain` know.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from qcompiler import backends, ir
from qcompiler.analysis.macs import Macs, count_macs
from qcompiler.backends.base import Backend
from qcompiler.frontend import Frontend, front
from qcompiler.search.candidates import Drafter

Facts = dict[str, Any]
_QDQ = ("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear")


def model_facts(path: Path, shapes: Mapping[str, str] | None = None) -> Facts:
    """The facts about a model file.

    Args:
        path: an ONNX file.
        shapes: values of dynamic dimensions, as `--shape` takes them.

    Raises:
        ModelError: the file is unreadable, invalid or unsafe.
        UsageError: a shape fits nothing.
    """
    ready = front(path, shapes)
    model, prepared = ready.original, ready.prepared
    macs = count_macs(prepared)
    header = model.header
    ops = Counter(_op(node) for node in model.all_nodes())
    return {
        "file": path.name,
        "bytes": path.stat().st_size,
        "ir_version": int(header.ir_version),
        "producer": " ".join(filter(None, [header.producer_name, header.producer_version])),
        "opsets": {opset.domain or "ai.onnx": int(opset.version) for opset in header.opset_import},
        "metadata": {entry.key: entry.value for entry in header.metadata_props},
        "inputs": [_value(tensor) for tensor in prepared.inputs],
        "outputs": [_value(tensor) for tensor in prepared.outputs],
        "dynamic": _dynamic(prepared),
        "nodes": sum(ops.values()),
        "in_subgraphs": sum(ops.values()) - len(model.nodes),
        "ops": dict(sorted(ops.items(), key=lambda item: (-item[1], item[0]))),
        "parameters": _parameters(model),
        "external": _external(model),
        "quantized_ops": {op: ops[op] for op in _QDQ if op in ops},
        "given_encodings": len(ready.given),
        "macs": _macs(prepared, macs),
        "targets": [line for name in backends.names() for line in _shares(ready, backends.get(name), macs)],
        "prepared": [_node(node, macs) for node in prepared.all_nodes()],
    }


def _op(node: ir.Node) -> str:
    return f"{node.domain}.{node.op}" if node.domain else str(node.op)


def _value(tensor: ir.Tensor) -> Facts:
    shape = None if tensor.shape is None else [d if isinstance(d, int) else d or "?" for d in tensor.shape]
    return {"name": tensor.name, "dtype": _dtype(tensor.dtype), "shape": shape}


def _dtype(dtype: Any) -> str:
    if dtype is None:
        return "unknown"
    return "string" if np.dtype(dtype) == object else np.dtype(dtype).name


def _dynamic(model: ir.Model) -> dict[str, list[str]]:
    """Open dimensions of the inputs and where they occur, as "image[0]"."""
    found: dict[str, list[str]] = {}
    for tensor in model.inputs:
        for axis, dim in enumerate(tensor.shape or ()):
            if not isinstance(dim, int):
                found.setdefault(dim or "?", []).append(f"{tensor.name}[{axis}]")
    return found


def _stored(model: ir.Model) -> Iterator[ir.Constant]:
    """Initializers, and the values of Constant nodes."""
    yield from model.constants()
    for node in model.all_nodes():
        yield from (value for value in node.attrs.values() if isinstance(value, ir.Constant))


def _parameters(model: ir.Model) -> dict[str, Facts]:
    """Tensors, values and bytes by type, most bytes first."""
    found: dict[str, Facts] = {}
    for constant in _stored(model):
        entry = found.setdefault(_dtype(constant.dtype), {"tensors": 0, "values": 0, "bytes": 0})
        entry["tensors"] += 1
        entry["values"] += int(np.prod(constant.shape, dtype=object)) if constant.shape else 1
        entry["bytes"] += ir.nbytes(constant)
    return dict(sorted(found.items(), key=lambda item: -int(item[1]["bytes"])))


def _external(model: ir.Model) -> Facts:
    outside = [c for c in model.constants() if isinstance(c._values, ir.Lazy) and c._values.external]
    return {"tensors": len(outside), "bytes": sum(ir.nbytes(constant) for constant in outside)}


def _macs(model: ir.Model, macs: Macs) -> Facts:
    by_op: dict[str, int] = {}
    for node in model.all_nodes():
        if node.name in macs.nodes:
            by_op[node.op] = by_op.get(node.op, 0) + macs.nodes[node.name]
    ordered = dict(sorted(by_op.items(), key=lambda item: -item[1]))
    named = _dynamic(model).keys() - {"?"}
    return {
        "total": macs.total,
        "ops": ordered,
        "assumed_1": sorted(macs.assumed & named),
        "assumed_1_inside": len(macs.assumed - named),
        "unknown": macs.unknown,
    }


def _shares(ready: Frontend, backend: Backend, macs: Macs) -> Iterator[Facts]:
    """How much of the model each precision of a target takes, by its table; nothing is run."""
    drafter = Drafter(ready.prepared, backend, given=ready.given)
    floats = sum(ir.nbytes(c) for c in ready.prepared.constants() if np.dtype(c.dtype).kind == "f")
    for precision, rules in backend.spec.schemes.items():
        if not rules:  # another float type: nothing is quantized
            continue
        draft = drafter.draft(precision)
        if precision == "mixed" and not draft.mixes:
            continue
        constants = {c.name: c for c in draft.model.constants() if len(c.shape) > 1}
        weights = {site.tensor for site, _ in draft.plan.quantized()} & constants.keys()
        inside = {name for name, decision in draft.plan.nodes.items() if decision.precision != "float"}
        counted = sum(macs.nodes.get(name, 0) for name in inside)
        yield {
            "target": backend.spec.name,
            "precision": precision,
            "nodes": len(inside),
            "of_nodes": sum(1 for _ in draft.model.all_nodes()),
            "macs": counted / macs.total if macs.total else None,
            "weights": sum(ir.nbytes(constants[name]) for name in weights) / floats if floats else None,
            "needs_data": precision in backend.spec.needs_data,
        }


def _node(node: ir.Node, macs: Macs) -> Facts:
    outputs = [_value(tensor) for tensor in node.outputs if tensor.name]
    return {"name": node.name, "op": _op(node), "macs": macs.nodes.get(node.name), "outputs": outputs}
