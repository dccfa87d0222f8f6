"""manifest.json: what the model needs and holds, for whoever deploys it without reading reports."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from onnx import TensorProto, helper

from qcompiler import ir
from qcompiler._version import __version__
from qcompiler.backends.base import Job
from qcompiler.backends.tensorrt.keep_single import is_single
from qcompiler.backends.tensorrt.profile import Bounds
from qcompiler.passes.lower.cache import token_bytes
from qcompiler.passes.lower.cache_fixed import E4M3

if TYPE_CHECKING:
    from qcompiler.backends.tensorrt.backend import TensorRT

NEEDS: Mapping[int, tuple[str, int, str]] = {
    TensorProto.FLOAT16: ("float16", 75, "10.0"),
    TensorProto.BFLOAT16: ("bfloat16", 80, "10.0"),
    TensorProto.INT8: ("int8", 75, "10.0"),
    TensorProto.INT4: ("int4", 80, "10.0"),
    TensorProto.FLOAT8E4M3FN: ("fp8_e4m3", 89, "10.0"),
    TensorProto.FLOAT4E2M1: ("fp4_e2m1", 100, "10.8"),
}
"""Name, smallest compute capability, and smallest version of TensorRT by type (fact sheet, section 7)."""

CODES = (np.dtype(np.int8), E4M3)
INT8_CONV = 80
"""Turing computes int8 convolutions in float."""


def manifest(job: Job, backend: TensorRT, bounds: Mapping[str, Bounds], golden: Mapping[str, str]) -> dict[str, object]:
    """The whole file."""
    model = job.model
    used = {name: (sm, version) for name, sm, version in map(NEEDS.__getitem__, sorted(types(model)))}
    convolves = any(node.op == "Conv" and plan_of(job, node.name) == "int8" for node in model.nodes)
    if convolves:
        used["int8"] = (INT8_CONV, used["int8"][1])
    versions = [tuple(map(int, version.split("."))) for _, version in used.values()]
    return {
        "schema": 1,
        "tool": f"qcompiler {__version__}",
        "target": f"tensorrt:{backend.variant}",
        "precision": job.precision,
        "opset": model.opset,
        "ir_version": int(model.head().ir_version),
        "types": {name: {"min_sm": sm, "min_tensorrt": version} for name, (sm, version) in used.items()},
        "min_sm": max((sm for sm, _ in used.values()), default=75),
        "min_tensorrt": ".".join(map(str, max(versions, default=(10, 0)))),
        "caches": caches(model),
        "cache_bytes_per_token": token_bytes(model),
        "inputs": {t.name: {**described(t), "profile": bounds.get(t.name)} for t in model.inputs},
        "outputs": {t.name: described(t) for t in model.outputs},
        "scales": {
            str(site): {"type": str(decision.choice), "scale": float(decision.encoding.scale)}
            for site, decision in job.plan.quantized()
            if decision.encoding is not None and decision.encoding.scale.ndim == 0
        },
        "float32_nodes": [
            node.name
            for node in model.nodes
            if node.op != "Cast" and any(map(is_single, [*node.outputs, *node.inputs]))
        ],
        "float_nodes": {
            name: plan.reason
            for name, plan in job.plan.nodes.items()
            if plan.precision == "float" and not plan.reason.startswith("no rule")
        },
        "golden": {"data": job.samples is not None, "files": dict(golden)},
        "sha256": {file.name: digest(file) for file in sorted(job.folder.glob("model.onnx*"))},
    }  # fmt: skip


def types(model: ir.Model) -> Iterator[int]:
    """The types in use that TensorRT does not have everywhere, each once."""
    found: set[int] = set()
    for graph in model.graphs():
        for node in graph.nodes:
            for tensor in [*node.inputs, *node.outputs]:
                if tensor.name and tensor.dtype is not None:
                    found.add(int(helper.np_dtype_to_tensor_dtype(np.dtype(tensor.dtype))))
    return iter(found & NEEDS.keys())


def caches(model: ir.Model) -> dict[str, dict[str, str]]:
    """Caches that come and go in codes: their type, and the input that holds the scales of their tokens, if any."""
    names = {tensor.name for tensor in model.inputs}
    stored = [tensor for tensor in model.inputs if tensor.name.startswith("past") and tensor.dtype in CODES]
    beside = {tensor.name: f"{tensor.name}_scale" for tensor in stored}
    return {
        tensor.name: {"type": str(np.dtype(tensor.dtype))}
        | ({"scale": beside[tensor.name]} if beside[tensor.name] in names else {})
        for tensor in stored
    }


def plan_of(job: Job, node: str) -> str:
    """The precision that a node was planned in."""
    plan = job.plan.nodes.get(node)
    return "" if plan is None else plan.precision


def described(tensor: ir.Tensor) -> dict[str, object]:
    """Type as NumPy has it; shape with numbers, and names of what is dynamic."""
    return {
        "type": "" if tensor.dtype is None else str(np.dtype(tensor.dtype)),
        "shape": None if tensor.shape is None else list(tensor.shape),
    }


def digest(file: Path) -> str:
    """Hex SHA-256."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
