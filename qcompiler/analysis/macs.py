"""Multiply-accumulates of a node, from static shapes.

    Conv           values of the output * kernel values of one output channel (input channels / groups * kernel size)
    ConvTranspose  values of the input * kernel values of one input channel (output channels / groups * kernel size)
    Gemm, MatMul   values of the output * length of the summed axis
    LSTM, GRU, RNN steps * batch * values of both weight matrices

Padding is counted as if it were data. Source: definitions of the operators in the ONNX standard.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from qcompiler import ir

OPS = ("Conv", "ConvTranspose", "Gemm", "MatMul", "LSTM", "GRU", "RNN")

Dims = Sequence[int | str | None]


@dataclass
class Macs:
    """Counts by node.

    Attributes:
        nodes: multiply-accumulates by node name.
        assumed: names of dynamic dimensions that were taken as 1; "?" for one without a name.
        unknown: nodes that compute and whose shapes are not known.
    """

    nodes: dict[str, int] = field(default_factory=dict)
    assumed: set[str] = field(default_factory=set)
    unknown: list[str] = field(default_factory=list)

    @property
    def total(self) -> int:
        """All nodes together."""
        return sum(self.nodes.values())


def count_macs(model: ir.Model) -> Macs:
    """The multiply-accumulates of every node of `OPS`, subgraphs included (a loop body once)."""
    found = Macs()
    for node in model.all_nodes():
        if node.op in OPS and not node.domain:
            assumed: set[str] = set()
            count = node_macs(node, assumed)
            if count is None:
                found.unknown.append(node.name)
            else:
                found.nodes[node.name] = count
                found.assumed |= assumed
    return found


def node_macs(node: ir.Node, assumed: set[str]) -> int | None:
    """The count of one node; None where a shape is missing."""
    x, w, out = node.inputs[0].shape, node.inputs[1].shape, node.outputs[0].shape
    if x is None or w is None:
        return None
    match node.op:
        case "Conv":
            return None if out is None else _product(out, assumed) * _product(w[1:], assumed)
        case "ConvTranspose":
            return _product(x, assumed) * _product(w[1:], assumed)
        case "LSTM" | "GRU" | "RNN":
            recurrent = node.inputs[2].shape
            if recurrent is None:
                return None
            return _product(x[:2], assumed) * (_product(w, assumed) + _product(recurrent, assumed))
        case _:
            inner = x[0] if node.op == "Gemm" and node.attrs.get("transA", 0) else x[-1]
            return None if out is None else _product(out, assumed) * _product([inner], assumed)


def _product(dims: Dims, assumed: set[str]) -> int:
    assumed.update(str(d or "?") for d in dims if not isinstance(d, int))
    return math.prod(d for d in dims if isinstance(d, int))
