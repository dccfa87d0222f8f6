"""What the provider made of a graph, read from its operator trace (`qnn_op_trace.json`), in terms of our nodes.

A node with its DequantizeLinear and QuantizeLinear becomes one QNN operator, whose sources name all three. An operator
made of a node alone, without Q and DQ, computes in float16, and so does a node that became Dequantize or Quantize
besides: an island. Quantize and Dequantize operators on its shores are those that stand elsewhere than at inputs and
outputs of the graph.
docs: QNN fact sheet, rule 7 and section 2.5.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from qcompiler import ir
from qcompiler.passes.prepare.purity import GRID

FILE = "qnn_op_trace.json"
BORDER = frozenset({"Quantize", "Dequantize"})
_TOKEN = re.compile(r"_token_\d+$")


@dataclass(frozen=True)
class Trace:
    """See the module.

    Attributes:
        ops: count of each QNN operator.
        nodes: the QNN operators that each of our nodes became, by name; Q and DQ left out.
        converts: names of the operators that turn one integer grid into another.
        borders: names of Quantize and Dequantize operators inside the graph.
        islands: our nodes that compute in float16.
        refused: reason by name of each node that the provider does not take.
        partitions: graphs that the provider computes.
    """

    ops: Mapping[str, int] = field(default_factory=dict)
    nodes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    converts: tuple[str, ...] = ()
    borders: tuple[str, ...] = ()
    islands: tuple[str, ...] = ()
    refused: Mapping[str, str] = field(default_factory=dict)
    partitions: int = 0


def read(folder: Path, model: ir.Model) -> Trace | None:
    """The trace in a folder, of a graph with Q and DQ; None where there is none."""
    try:
        data = json.loads((folder / FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return understood(data, model)


def understood(data: Mapping[str, Any], model: ir.Model) -> Trace:
    """The trace in our terms."""
    known = {node.name: node for node in model.all_nodes()}
    ops: Counter[str] = Counter()
    made: dict[str, list[str]] = {}
    lone: dict[str, None] = {}
    converts, borders = [], []
    for mapping in (entry for graph in data["subgraph_traces"] for entry in graph["op_mappings"]):
        kind = str(mapping["dst_qnn_op_type"])
        ops[kind] += 1
        sources = list(dict.fromkeys(ours(part["name"]) for part in mapping["sources"] if part["type"] == "OP"))
        nodes = [known[name] for name in sources if name in known]
        if kind == "Convert":
            converts.append(str(mapping["dst_name"]))
        if kind in BORDER and not any(at_end(model, node) for node in nodes):
            borders.append(str(mapping["dst_name"]))
        alone = len(nodes) == len(sources) and not any(node.op in GRID for node in nodes)
        for node in nodes:
            if node.op not in GRID:
                made.setdefault(node.name, []).append(kind)
                if (alone or kind in BORDER) and computes_float(node):
                    lone[node.name] = None
    refused = {ours(entry["node_name"]): str(entry["reason"]) for entry in data["unsupported_nodes"]}
    return Trace(
        dict(sorted(ops.items())), {name: tuple(kinds) for name, kinds in made.items()}, tuple(converts),
        tuple(borders), tuple(lone), refused, len(data["subgraph_traces"]),
    )  # fmt: skip


def ours(name: str) -> str:
    """The name of our node behind that of one which layout transformation put in its place."""
    return _TOKEN.sub("", str(name))


def at_end(model: ir.Model, node: ir.Node) -> bool:
    """Whether a Q reads an input of the graph, or a DQ gives an output."""
    ends = {id(tensor) for tensor in (*model.inputs, *model.outputs)}
    return any(id(tensor) in ends for tensor in (*node.inputs[:1], *node.outputs))


def computes_float(node: ir.Node) -> bool:
    """Whether a value that a node computes, or reads, is a floating-point number."""
    values = [*node.outputs, *(tensor for tensor in node.inputs if not isinstance(tensor, ir.Constant))]
    return any(tensor.dtype is not None and np.dtype(tensor.dtype).kind == "f" for tensor in values if tensor.name)
