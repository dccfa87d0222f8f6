"""The only place that changes a graph.

An `Editor` edits one graph of a model (the main graph or a subgraph). It keeps what onnx-graphsurgeon does not: uses
include graph outputs, the names of graph outputs never change, fresh names are unique in the whole model, consumer
lists are edited by identity, and new nodes stand before their consumers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import onnx_graphsurgeon as gs
from onnx import NodeProto

from qcompiler.ir.model import Model

REACH = 256
"""How far from where it was last seen a node is looked for before the whole list is."""


class Use(NamedTuple):
    """One use of a tensor: input `port` of `node`, or output number `port` of the graph where `node` is None."""

    node: gs.Node | None
    port: int


@dataclass(eq=False)
class Editor:
    """Edits one graph of a model.

    Attributes:
        model: the whole model.
        graph: the graph being edited.
        taken: every name in the model.
        touched: nodes that were added or got other inputs, in order; for whoever clears it.
    """

    model: Model
    graph: gs.Graph
    taken: set[str] = field(default_factory=set)
    touched: list[gs.Node] = field(default_factory=list)
    _places: dict[int, int] = field(default_factory=dict, repr=False)
    _alive: list[gs.Node] = field(default_factory=list, repr=False)

    def __post_init__(self) -> None:
        if not self.taken:
            self.taken = self.model.names()

    # ---- questions
    def uses(self, tensor: gs.Tensor) -> list[Use]:
        """Every use, in consumer order, then as graph outputs."""
        found: list[Use] = []
        seen: set[int] = set()
        for node in tensor.outputs:
            if id(node) not in seen:
                seen.add(id(node))
                found += [Use(node, port) for port, value in enumerate(node.inputs) if value is tensor]
        return found + [Use(None, port) for port, value in enumerate(self.graph.outputs) if value is tensor]

    def is_output(self, tensor: gs.Tensor) -> bool:
        """Whether the tensor is an output of this graph."""
        return any(value is tensor for value in self.graph.outputs)

    def only_use(self, tensor: gs.Tensor) -> gs.Node | None:
        """The node that is the only user of the tensor, if there is exactly one use in all."""
        uses = self.uses(tensor)
        return uses[0].node if len(uses) == 1 else None

    def holds(self, node: gs.Node) -> bool:
        """Whether the node lies in this graph, not in an enclosing or inner one."""
        if len(self._places) != len(self.graph.nodes):
            self._find_places()
        return id(node) in self._places

    def position(self, node: gs.Node) -> int:
        """Index of the node in this graph.

        Raises:
            KeyError: it lies in another graph.
        """
        nodes = self.graph.nodes
        for _ in range(2):
            if id(node) in self._places:
                # the index as noted is a guess: neighbours may have come and gone since
                guess = self._places[id(node)]
                low = max(0, guess - REACH)
                for i, other in enumerate(nodes[low : guess + REACH], low):
                    if other is node:
                        return i
            self._find_places()
        raise KeyError(node.name)

    def refresh(self) -> None:
        """Looks again where the nodes are; for changes to the node list that were not made through this editor."""
        self._find_places()

    def _find_places(self) -> None:
        self._places = dict(zip(map(id, self.graph.nodes), range(len(self.graph.nodes)), strict=True))
        # as long as the nodes live, their ids are not given to others
        self._alive = list(self.graph.nodes)

    # ---- names
    def fresh(self, hint: str) -> str:
        """A name that nothing in the model has, `hint` itself if free; the same edits give the same names."""
        name = hint
        while not name or name in self.taken:
            self.model.counter[hint] = self.model.counter.get(hint, 0) + 1
            name = f"{hint}_{self.model.counter[hint]}"
        self.taken.add(name)
        return name

    # ---- changes
    def constant(self, hint: str, values: npt.NDArray[Any]) -> gs.Constant:
        """A new initializer; rank 0 stays rank 0."""
        constant = gs.Constant(self.fresh(hint), np.asarray(values))
        self.graph.declared.append(constant)
        return constant

    def variable(self, hint: str, dtype: Any = None, shape: Sequence[int | str | None] | None = None) -> gs.Variable:
        """A new tensor of the given type and shape, either of which may be unknown."""
        variable = gs.Variable(self.fresh(hint), dtype, None if shape is None else list(shape))
        variable.type_proto = None
        return variable

    def add(
        self,
        op: str,
        inputs: Sequence[gs.Tensor | None],
        *,
        name: str,
        attrs: Mapping[str, Any] | None = None,
        outputs: Sequence[gs.Tensor] | None = None,
        domain: str = "",
        like: gs.Tensor | None = None,
        before: gs.Node | None = None,
    ) -> gs.Node:
        """Adds a node.

        Args:
            op: operator type.
            inputs: tensors; None stands for an omitted optional input.
            name: hint for the node's name, and for its output's.
            attrs: attributes.
            outputs: tensors to produce; by default one new tensor with the type and shape of `like`.
            domain: operator domain.
            like: see `outputs`.
            before: the node to stand before; by default right behind the last producer of its inputs.
        """
        node_name = self.fresh(name)
        if outputs is None:
            dtype, shape = (like.dtype, like.shape) if like is not None else (None, None)
            outputs = [self.variable(f"{node_name}_out", dtype, shape)]
        present = [gs.Variable.empty() if tensor is None else tensor for tensor in inputs]
        node = gs.Node(op, node_name, dict(attrs or {}), present, list(outputs), domain)
        node.extra = NodeProto()
        place = self._position(node, before)
        self.graph.nodes.insert(place, node)
        self._places[id(node)] = place
        self._alive.append(node)
        self.touched.append(node)
        return node

    def _position(self, node: gs.Node, before: gs.Node | None) -> int:
        if before is not None:
            return self.position(before)
        producers = [producer for tensor in node.inputs for producer in tensor.inputs]
        return max((self.position(producer) + 1 for producer in producers if self.holds(producer)), default=0)

    def set_input(self, node: gs.Node, port: int, tensor: gs.Tensor | None) -> None:
        """Makes `tensor` the input `port` of `node`, padding with omitted inputs where the list is short."""
        inputs = list(node.inputs)
        inputs += [gs.Variable.empty() for _ in range(port + 1 - len(inputs))]
        inputs[port] = gs.Variable.empty() if tensor is None else tensor
        self.set_inputs(node, inputs)

    def set_inputs(self, node: gs.Node, tensors: Sequence[gs.Tensor]) -> None:
        """Replaces the whole input list of `node`."""
        for tensor in node.inputs:
            _drop(tensor.outputs, node)
        list.clear(node.inputs)
        node.inputs.extend(list(tensors))
        self.touched.append(node)

    def set_outputs(self, node: gs.Node, tensors: Sequence[gs.Tensor]) -> None:
        """Replaces the whole output list of `node`."""
        for tensor in node.outputs:
            _drop(tensor.inputs, node)
        list.clear(node.outputs)
        node.outputs.extend(list(tensors))

    def replace_uses(self, old: gs.Tensor, new: gs.Tensor, *, keep: Sequence[gs.Node] = ()) -> None:
        """Every use of `old`, graph outputs included, becomes a use of `new`, except at the nodes in `keep`.

        Where `old` is a graph output, `new` takes over its name, so that the model's interface stays. If `new` cannot
        be renamed (it is a graph input, a constant or an output itself), an Identity node carries the name.
        """
        kept = set(map(id, keep))
        for node, port in self.uses(old):
            if node is not None and id(node) not in kept:
                self.set_input(node, port, new)
        if self.is_output(old):
            self._take_output(old, new)

    def _take_output(self, old: gs.Tensor, new: gs.Tensor) -> None:
        fixed = isinstance(new, gs.Constant) or self.is_output(new) or any(t is new for t in self.model.graph.inputs)
        if fixed or not any(self.holds(producer) for producer in new.inputs):
            new = self.add("Identity", [new], name=f"{old.name}_identity", like=old).outputs[0]
        name = old.name
        old.name, new.name = self.fresh(f"{name}_inner"), name
        if new.dtype is None:
            new.dtype, new.shape = old.dtype, old.shape
        for port, value in enumerate(self.graph.outputs):
            if value is old:
                self.graph.outputs[port] = new

    def erase(self, node: gs.Node) -> None:
        """Removes a node and its uses, those of its subgraphs too; its outputs must have no use left."""
        for subgraph in node.subgraphs():
            inner = Editor(self.model, subgraph, self.taken)
            for child in list(subgraph.nodes):
                inner.erase(child)
        self.set_inputs(node, [])
        self.set_outputs(node, [])
        del self.graph.nodes[self.position(node)]
        self._places.pop(id(node), None)

    def drop_unused_constants(self) -> None:
        """Forgets the initializers of the model that nothing reads; those that are graph inputs stay."""
        graphs = list(self.model.graphs())
        ends = {id(t) for graph in graphs for t in [*graph.inputs, *graph.outputs]}
        for graph in graphs:
            graph.declared = [t for t in graph.declared if t.outputs or id(t) in ends]

    def rename(self, item: gs.Node | gs.Tensor, hint: str) -> None:
        """Gives a node or tensor a fresh name; inputs and outputs of the model keep theirs by never being passed."""
        item.name = self.fresh(hint)

    def retype(self, tensor: gs.Variable, dtype: Any, shape: Sequence[int | str | None] | None) -> None:
        """States the type and shape of a tensor."""
        tensor.dtype, tensor.shape = dtype, None if shape is None else list(shape)

    def sort(self) -> None:
        """Puts the nodes in the stable topological order."""
        from qcompiler.ir.dag import topological

        ordered = topological(self.graph)
        self.graph.nodes[:] = ordered


def editors(model: Model) -> Iterator[Editor]:
    """An editor for each graph of the model, the main graph first; they share one set of names."""
    taken = model.names()
    return (Editor(model, graph, taken) for graph in list(model.graphs()))


def _drop(nodes: Any, node: gs.Node) -> None:
    """Removes one occurrence of `node` from a consumer or producer list, by identity."""
    for position, other in enumerate(nodes):
        if other is node:
            list.__delitem__(nodes, position)
            return
