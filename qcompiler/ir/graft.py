"""Larger operations on graphs than `Editor` has: freeze a tensor, inline a branch, replace a node by protos.

Like `Editor`, they keep consumer lists by identity, names unique, and the names of graph outputs.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_graphsurgeon as gs
from onnx import NodeProto

from qcompiler.ir.edit import Editor
from qcompiler.ir.exporter import export_node
from qcompiler.ir.importer import import_attribute
from qcompiler.ir.weights import Lazy, to_proto


def freeze(edit: Editor, tensor: gs.Tensor, values: npt.NDArray[Any] | Lazy) -> gs.Constant:
    """A constant in place of a computed tensor, under its name; what computed it stays, without uses.

    Where the tensor is a graph output, an Identity behind the constant carries the name.
    """
    if edit.is_output(tensor):
        constant = declare(edit, f"{tensor.name}_value", values)
    else:
        constant = gs.Constant(tensor.name, values if isinstance(values, Lazy) else np.asarray(values))
        tensor.name = edit.fresh(f"{tensor.name}_computed")
        edit.graph.declared.append(constant)
    edit.replace_uses(tensor, constant)
    return constant


def declare(edit: Editor, hint: str, values: npt.NDArray[Any] | Lazy) -> gs.Constant:
    """A new initializer, from values that may stay where they lie."""
    constant = gs.Constant(edit.fresh(hint), values if isinstance(values, Lazy) else np.asarray(values))
    edit.graph.declared.append(constant)
    return constant


def lazy(constant: gs.Constant) -> Lazy:
    """The values of a constant, such as the attribute of a node, without reading them."""
    values = constant._values
    return values if isinstance(values, Lazy) else Lazy(to_proto(constant), None)


def inline(edit: Editor, node: gs.Node, branch: gs.Graph) -> None:
    """Puts the nodes of `branch`, a subgraph of `node` that takes no inputs, in the place of `node`.

    Output number i of the branch becomes output number i of the node. Names are unique across scopes already.
    """
    place = edit.position(node)
    inner = list(branch.nodes)
    branch.nodes[:] = []
    edit.graph.nodes[place:place] = inner
    edit.refresh()
    edit.graph.declared += branch.declared
    for old, new in zip(list(node.outputs), list(branch.outputs), strict=True):
        if old.name:
            edit.replace_uses(old, new)
    edit.erase(node)


def drop_output(edit: Editor, node: gs.Node, port: int, inner_port: int) -> None:
    """Removes output `port`, which nobody uses, of a node, and output `inner_port` of each of its subgraphs."""
    for subgraph in node.subgraphs():
        del subgraph.outputs[inner_port]
    outputs = list(node.outputs)
    del outputs[port]
    edit.set_outputs(node, outputs)


def drop_input(edit: Editor, tensor: gs.Tensor) -> None:
    """Takes an initializer off the inputs of the graph; it stays as a constant."""
    edit.graph.inputs[:] = [other for other in edit.graph.inputs if other is not tensor]


def lone(node: gs.Node) -> NodeProto:
    """The proto of one node, with its tensors named by place: i0, i1 ... and o0, o1 ...; "" where omitted."""
    proto = export_node(node, frozenset())
    proto.ClearField("input")
    proto.ClearField("output")
    proto.input.extend([f"i{port}" if tensor.name else "" for port, tensor in enumerate(node.inputs)])
    proto.output.extend([f"o{port}" if tensor.name else "" for port, tensor in enumerate(node.outputs)])
    for entry in ("name", "doc_string", "metadata_props"):
        proto.ClearField(entry)
    return proto


def graft(edit: Editor, node: gs.Node, protos: Sequence[NodeProto]) -> None:
    """Replaces `node` by the nodes of `protos`, in topological order, whose outer tensors are named as by `lone`.

    Constant nodes become initializers. The name, doc string and metadata of `node` go to the new node that has its
    operator type, else to the last.
    """
    tensors: dict[str, gs.Tensor] = {f"i{port}": tensor for port, tensor in enumerate(node.inputs)}
    tensors |= {f"o{port}": tensor for port, tensor in enumerate(node.outputs)}
    outputs = list(node.outputs)
    edit.set_outputs(node, [])
    bearer = next((i for i, proto in enumerate(protos) if proto.op_type == node.op), len(protos) - 1)
    for i, proto in enumerate(protos):
        attrs = {a.name: import_attribute(a, ChainMap(tensors), edit.model.base_dir) for a in proto.attribute}
        if proto.op_type == "Constant" and isinstance(attrs.get("value"), gs.Constant):
            tensors[proto.output[0]] = declare(edit, f"{node.name}_{proto.op_type}", lazy(attrs["value"]))
            continue
        for name in proto.output:
            if name and name not in tensors:
                tensors[name] = edit.variable(f"{node.name}_{proto.op_type}_out")
        added = edit.add(
            proto.op_type,
            [tensors[name] if name else None for name in proto.input],
            name=f"{node.name}_{proto.op_type}",
            attrs=attrs,
            outputs=[tensors[name] if name else gs.Variable.empty() for name in proto.output],
            domain=proto.domain,
            before=node,
        )
        if i == bearer:
            added.name, added.extra = node.name, node.extra
    for tensor in outputs:
        if tensor.name and not tensor.inputs:
            raise ValueError(f"nothing computes {tensor.name!r}")
    edit.erase(node)
