"""A number that says which model statistics belong to: sha256 of what it computes.

Hashed: opsets, inputs and outputs with types and shapes, nodes (operator, tensors, attributes) and constants, of every
graph. Not hashed: node names, doc strings, metadata, and whether weights lie in the file or beside it. Weights are read
one at a time; external ones through a memory map, a piece at a time.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from qcompiler import ir
from qcompiler.ir.exporter import export_attribute, export_variable

_PIECE = 1 << 24


def fingerprint(model: ir.Model) -> str:
    """64 hexadecimal digits; equal for equal models, on every machine."""
    digest = hashlib.sha256()

    def say(*words: object) -> None:
        for word in words:
            raw = word if isinstance(word, bytes) else str(word).encode("utf-8", "surrogateescape")
            digest.update(len(raw).to_bytes(8, "little") + raw)

    def say_constant(constant: ir.Constant) -> None:
        values = ir.array(constant)
        say("constant", constant.name, values.dtype, values.shape)
        if values.dtype == object:
            say(*values.reshape(-1))
            return
        flat: Any = values.reshape(-1)
        step = max(1, _PIECE // max(1, flat.itemsize))
        for start in range(0, flat.size, step):
            piece = flat[start : start + step]
            little = piece.astype(piece.dtype.newbyteorder("<"), copy=False) if piece.dtype.kind in "iufc" else piece
            digest.update(np.ascontiguousarray(little).view(np.uint8).data)

    say(*sorted(f"{opset.domain}:{opset.version}" for opset in model.header.opset_import))
    for graph in model.graphs():
        ends = [
            [export_variable(tensor) for tensor in part if not isinstance(tensor, ir.Constant)]
            for part in (graph.inputs, graph.outputs)
        ]
        for word, infos in zip(("inputs", "outputs"), ends, strict=True):
            say(word, len(infos), *(info.SerializeToString(deterministic=True) for info in infos))
        for node in graph.nodes:
            say("node", node.op, node.domain or "", len(node.inputs), *(tensor.name for tensor in node.inputs))
            say(len(node.outputs), *(tensor.name for tensor in node.outputs), len(node.attrs))
            for name, value in sorted(node.attrs.items()):
                say(name)
                if isinstance(value, ir.Constant):
                    say_constant(value)
                elif not isinstance(value, ir.Graph):  # subgraphs come by themselves
                    say(export_attribute(name, value, frozenset()).SerializeToString(deterministic=True))
    for constant in sorted(model.constants(), key=lambda constant: str(constant.name)):
        say_constant(constant)
    return digest.hexdigest()
