"""f(x), f(x) -> one f(x); equal initializers -> one initializer.

Two nodes are equal if operator, attributes, inputs and the set of present outputs are; random operators and nodes with
subgraphs never are. Two initializers are equal if dtype, shape and bytes are; of those, the outermost stays, and only
initializers that it is visible to give way. Weights are compared by digest, one at a time.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from qcompiler import ir
from qcompiler.passes.prepare.purity import is_random
from qcompiler.pipeline import GraphPass, PassRecord

CHUNK = 1 << 24
"""Bytes of a weight in memory at a time."""
BEGINNING = 1 << 12
"""Bytes by which most weights of the same shape already differ, so that the rest need not be read."""


@dataclass(frozen=True)
class MergeDuplicates(GraphPass):
    """Merges equal initializers, and equal nodes of the same graph."""

    name: ClassVar[str] = "merge-duplicates"

    def apply(self, model: ir.Model, record: PassRecord) -> None:
        """Each node or initializer that gives way is a change."""
        editors = {id(edit.graph): edit for edit in ir.editors(model)}
        record.changes += _merge_constants(model, editors)
        for edit in editors.values():
            record.changes += _merge_nodes(edit)


def _merge_constants(model: ir.Model, editors: dict[int, ir.Editor]) -> int:
    """Shares equal initializers of each graph with those of the graphs around it."""
    groups: dict[Hashable, list[ir.Constant]] = defaultdict(list)
    visible = [(graph, constant) for graph in model.graphs() for constant in graph.declared]
    listed = {id(tensor) for graph in model.graphs() for tensor in [*graph.inputs, *graph.outputs]}
    for _, constant in visible:
        if id(constant) not in listed:
            groups[_form(constant), _digest(constant, BEGINNING)].append(constant)
    digests = {id(c): _digest(c) for group in groups.values() if len(group) > 1 for c in group}
    home = {id(constant): graph for graph, constant in visible}
    around = _enclosing(model.graph, ())
    first: dict[Hashable, ir.Constant] = {}
    count = 0
    for graph, constant in visible:
        if id(constant) not in digests:
            continue
        content = (_form(constant), digests[id(constant)])
        scopes = [id(scope) for scope in around[id(graph)]]
        other = next((first[(scope, content)] for scope in scopes if (scope, content) in first), None)
        if other is None or other is constant:
            first[(id(home[id(constant)]), content)] = constant
            continue
        editors[id(graph)].replace_uses(constant, other)
        count += 1
    if count:
        next(iter(editors.values())).drop_unused_constants()
    return count


def _enclosing(graph: ir.Graph, outer: tuple[ir.Graph, ...]) -> dict[int, tuple[ir.Graph, ...]]:
    """For each graph the graphs it can see, outermost first, itself last."""
    found = {id(graph): (*outer, graph)}
    for node in graph.nodes:
        for subgraph in node.subgraphs():
            found |= _enclosing(subgraph, (*outer, graph))
    return found


def _form(constant: ir.Constant) -> Hashable:
    return str(constant.dtype), tuple(constant.shape)


def _digest(constant: ir.Constant, limit: int | None = None) -> bytes:
    """A digest of the values, or of their first `limit` bytes."""
    values = ir.array(constant)
    digest = hashlib.blake2b(digest_size=32)
    if values.dtype == object:
        for item in values.flat:
            text = item if isinstance(item, bytes) else str(item).encode("utf-8", "surrogateescape")
            digest.update(len(text).to_bytes(8, "little") + text)
        return digest.digest()
    flat = values.reshape(-1).view(np.uint8)[:limit]
    for start in range(0, flat.size, CHUNK):
        digest.update(flat[start : start + CHUNK].data)
    return digest.digest()


def _merge_nodes(edit: ir.Editor) -> int:
    """Merges equal nodes of one graph, in topological order, so that equal chains merge whole."""
    first: dict[Hashable, ir.Node] = {}
    count = 0
    for node in ir.topological(edit.graph):
        key = _key(node)
        if key is None:
            continue
        other = first.setdefault(key, node)
        if other is node or any(_both_outputs(edit, a, b) for a, b in zip(node.outputs, other.outputs, strict=True)):
            continue
        for mine, theirs in zip(list(node.outputs), list(other.outputs), strict=True):
            if mine.name:
                edit.replace_uses(mine, theirs)
        edit.erase(node)
        count += 1
    return count


def _both_outputs(edit: ir.Editor, a: ir.Tensor, b: ir.Tensor) -> bool:
    """Whether merging would need a copy of the value, since both names are outputs of the graph."""
    return edit.is_output(a) and edit.is_output(b)


def _key(node: ir.Node) -> Hashable | None:
    """Equal for equal nodes; None for a node that equals no other."""
    if is_random(node) or any(True for _ in node.subgraphs()) or not node.outputs:
        return None
    attributes = sorted(_attributes(node))
    inputs = [id(tensor) if tensor.name else 0 for tensor in node.inputs]
    while inputs and inputs[-1] == 0:
        inputs.pop()
    present = tuple(bool(tensor.name) for tensor in node.outputs)
    return node.domain or "", node.op, tuple(attributes), tuple(inputs), present


def _attributes(node: ir.Node) -> Iterator[bytes]:
    for name, value in node.attrs.items():
        yield ir.export_attribute(name, value, frozenset()).SerializeToString(deterministic=True)
