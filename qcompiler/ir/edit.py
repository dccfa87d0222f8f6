"""The only place that changes a graph.

An `Editor` edits one graph of a model (the main graph or a subgraph). It keeps what onnx-graphsurgeon does not: uses
include graph outputs, the names of graph outputs never change, fresh names are unique in the whole model, consumer
lists are edited by identity, an erased node leaves no trace in the consumer lists of what its subgraphs captured. New
nodes stand behind their producers; where an edit leaves a consumer before its producer, the model is written in order
all the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import onnx_graphsurgeon as gs
from onnx import NodeProto

from qcompiler.errors import PassError
from qcompiler.ir.dag import reads, subgraphs, topological
from qcompiler.ir.importer import untyped
from qcompiler.ir.model import Model
from qcompiler.ir.weights import Deferred, Held, Lazy

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
        taken: every name in the model, once the first fresh one has been asked for.
        touched: nodes that were added or got other inputs, in order; for whoever clears it.
    """

    model: Model
    graph: gs.Graph
    taken: set[str] = field(default_factory=set)
    touched: list[gs.Node] = field(default_factory=list)
    _places: dict[int, int] = field(default_factory=dict, repr=False)

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
        """Whether the node is in this graph: not erased, not in a graph around or inside it."""
        return getattr(node, "home", None) is self.graph

    def position(self, node: gs.Node) -> int:
        """Index of the node in this graph.

        It is looked for near its last known place, then everywhere: edits move nodes by little, so the cost hardly
        depends on the size of the graph.

        Raises:
            PassError: it lies in another graph, or was erased.
        """
        nodes = self.graph.nodes
        guess = self._places.get(id(node), -REACH)
        low = max(0, guess - REACH)
        for at, other in enumerate(nodes[low : max(0, guess + REACH)], low):
            if other is node:
                self._places[id(node)] = at
                return at
        self._places = {id(other): at for at, other in enumerate(nodes)}
        if id(node) not in self._places:
            raise PassError(f"{node.op} {node.name!r} is not in graph {self.graph.name!r}")
        return self._places[id(node)]

    def refresh(self) -> None:
        """Takes note of changes to the node list that were not made through this editor."""
        for node in self.graph.nodes:
            node.home = self.graph
        self._places = {}

    # ---- names
    def fresh(self, hint: str) -> str:
        """A name that nothing in the model has, `hint` itself if free; the same edits give the same names."""
        if not self.taken:
            self.taken.update(self.model.names())
        name = hint
        while not name or name in self.taken:
            self.model.counter[hint] = self.model.counter.get(hint, 0) + 1
            name = f"{hint}_{self.model.counter[hint]}"
        self.taken.add(name)
        return name

    # ---- the interface
    def add_input(self, hint: str, dtype: Any, shape: Sequence[int | str | None]) -> gs.Variable:
        """A further input of the graph."""
        variable = self.variable(hint, dtype, shape)
        self.graph.inputs.append(variable)
        return variable

    def add_output(self, tensor: gs.Variable, hint: str) -> None:
        """Makes a computed tensor a further output of the graph, under a name near `hint`."""
        self.rename(tensor, hint)
        self.graph.outputs.append(tensor)

    # ---- changes
    def constant(self, hint: str, values: npt.NDArray[Any] | Deferred) -> gs.Constant:
        """A new initializer; rank 0 stays rank 0. Nobody may write to the array afterwards."""
        held = values if isinstance(values, Deferred) else Held(np.asarray(values))
        constant = gs.Constant(self.fresh(hint), held)
        self.graph.declared.append(constant)
        return constant

    def settle(self, constant: gs.Constant, values: Lazy) -> None:
        """Lets go of the values of a constant, which lie elsewhere from now on: equal ones, of its type and shape."""
        constant.values = values

    def recast(self, constant: gs.Constant, values: Deferred) -> None:
        """Gives a constant values of another type; whoever reads it must take that."""
        constant.values = values

    def variable(self, hint: str, dtype: Any = None, shape: Sequence[int | str | None] | None = None) -> gs.Variable:
        """A new tensor of the given type and shape, either of which may be unknown."""
        variable = untyped(self.fresh(hint))
        self.retype(variable, dtype, shape)
        return variable

    def given(self, hint: str, dtype: Any, shape: Sequence[int | str | None]) -> gs.Variable:
        """A new input of the graph."""
        variable = self.variable(hint, dtype, shape)
        self.graph.inputs.append(variable)
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
        node.extra, node.home = NodeProto(), self.graph
        place = self.position(before) if before is not None else self._behind_producers(node)
        self.graph.nodes.insert(place, node)
        self._places[id(node)] = place
        self.touched.append(node)
        return node

    def _behind_producers(self, node: gs.Node) -> int:
        producers = {id(producer): producer for tensor in reads(node) for producer in tensor.inputs}
        return max((self.position(producer) + 1 for producer in producers.values() if self.holds(producer)), default=0)

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
        be renamed (it is a graph input, a constant, an output itself, or of a graph around this one), an Identity node
        carries the name. An input that is an output too stays one: no other tensor can have its name.
        """
        if old is new:
            return
        kept = set(map(id, keep))
        for node, port in self.uses(old):
            if node is not None and id(node) not in kept:
                self.set_input(node, port, new)
        if self.is_output(old) and not any(value is old for value in self.graph.inputs):
            self._take_output(old, new)

    def _take_output(self, old: gs.Tensor, new: gs.Tensor) -> None:
        local = any(self.holds(producer) for producer in new.inputs)
        if self.is_output(new) or not local:
            new = self.add("Identity", [new], name=f"{old.name}_identity", like=old).outputs[0]
        name = old.name
        old.name, new.name = self.fresh(f"{name}_inner"), name
        if new.dtype is None or new.dtype == old.dtype:  # the interface keeps the shape that it states
            new.dtype, new.shape = old.dtype, old.shape
            new.type_proto, new.origin = getattr(old, "type_proto", None), getattr(old, "origin", None)
        for port, value in enumerate(self.graph.outputs):
            if value is old:
                self.graph.outputs[port] = new

    def erase(self, node: gs.Node) -> None:
        """Removes a node and its uses, those of its subgraphs too; its outputs must have no use left."""
        for subgraph in subgraphs(node):
            inner = Editor(self.model, subgraph, self.taken)
            for child in list(subgraph.nodes):
                inner.erase(child)
        self.set_inputs(node, [])
        self.set_outputs(node, [])
        del self.graph.nodes[self.position(node)]
        self._places.pop(id(node), None)
        node.home = None

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
        """States the type and shape of a dense tensor."""
        tensor.type_proto = None
        tensor.dtype, tensor.shape = dtype, None if shape is None else list(shape)

    def sort(self) -> None:
        """Puts the nodes in the stable topological order."""
        self.graph.nodes[:] = topological(self.graph)


def editors(model: Model) -> Iterator[Editor]:
    """An editor for each graph of the model, the main graph first; they share one set of names."""
    taken: set[str] = set()
    return (Editor(model, graph, taken) for graph in list(model.graphs()))


def _drop(nodes: Any, node: gs.Node) -> None:
    """Removes one occurrence of `node` from a consumer or producer list, by identity."""
    for position, other in enumerate(nodes):
        if other is node:
            list.__delitem__(nodes, position)
            return
