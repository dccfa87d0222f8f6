"""Constant() -> initializer, in all scopes: value, value_float(s), value_int(s), value_string(s), sparse_value.

Values given as a tensor are not read. A Constant that is an output of its graph stays for that use, since an output
must be computed. Source: ONNX operator standard, Constant.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from onnx import AttributeProto, TensorProto, helper

from qcompiler import ir
from qcompiler.errors import ModelError
from qcompiler.pipeline import GraphPass, PassRecord
from qcompiler.rewrite import Refusal


@dataclass(frozen=True)
class LiftConstants(GraphPass):
    """Turns Constant nodes into initializers of the graph they stand in."""

    name: ClassVar[str] = "lift-constants"

    def apply(self, model: ir.Model, record: PassRecord) -> None:
        """Lifts every Constant that it can read; others are refused."""
        for edit in ir.editors(model):
            for node in [node for node in edit.graph.nodes if node.op == "Constant" and not node.domain]:
                output = node.outputs[0]
                is_output = edit.is_output(output)
                if is_output and edit.only_use(output) is None and len(edit.uses(output)) == 1:
                    continue
                values = constant_value(node)
                if isinstance(values, str):
                    record.refusals.append(Refusal(self.name, node.name, values))
                    continue
                record.changes += 1
                if is_output:
                    _serve_nodes(edit, output, values)
                else:
                    ir.freeze(edit, output, values)
                    edit.erase(node)


def _serve_nodes(edit: ir.Editor, output: ir.Tensor, values: ir.Lazy) -> None:
    """Gives an initializer to the nodes that read `output`; the graph output itself stays."""
    constant = ir.declare(edit, f"{output.name}_value", values)
    for node, port in edit.uses(output):
        if node is not None:
            edit.set_input(node, port, constant)


def constant_value(node: ir.Node) -> ir.Lazy | str:
    """The value of a Constant node, or why it has none that can be used."""
    if len(node.attrs) != 1:
        return f"Constant {node.name!r} has {len(node.attrs)} attributes where it must have one"
    ((kind, value),) = node.attrs.items()
    if isinstance(value, ir.Constant):
        return ir.lazy(value)
    if isinstance(value, AttributeProto):
        if value.type == AttributeProto.SPARSE_TENSOR:
            try:
                return ir.Lazy(ir.dense(value.sparse_tensor), None)
            except ModelError as error:
                return f"Constant {node.name!r}: {error.what}"
        value = helper.get_attribute_value(value)
    return _from_python(node, kind, value)


def _from_python(node: ir.Node, kind: str, value: Any) -> ir.Lazy | str:
    types = {"value_float": TensorProto.FLOAT, "value_int": TensorProto.INT64, "value_string": TensorProto.STRING}
    scalar = kind in types
    data_type = types.get(kind.removesuffix("s"))
    if data_type is None:
        return f"attribute {kind!r} of Constant {node.name!r} is not known"
    items = [value] if scalar else list(value)
    if data_type == TensorProto.STRING:
        items = [s.encode("utf-8", "surrogateescape") if isinstance(s, str) else s for s in items]
    return ir.Lazy(helper.make_tensor("", data_type, [] if scalar else [len(items)], items), None)
