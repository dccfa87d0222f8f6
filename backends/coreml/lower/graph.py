"""A whole graph: every node by its row of the table; what has no form is reported all at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from qcompiler import ir
from qcompiler.backends.coreml.lower.scope import Program, Refused, Scope, Var, convertible, mil_type, type_of
from qcompiler.backends.coreml.lower.state import closed, opened
from qcompiler.backends.coreml.lower.stored import dense, stored
from qcompiler.backends.coreml.lower.table import TABLE
from qcompiler.backends.coreml.tools import builder, mil
from qcompiler.errors import ModelError
from qcompiler.passes.prepare.unroll import is_loop, why_not

CLOSEST = 5


@dataclass(frozen=True)
class Unsupported:
    """A node without a form in Core ML."""

    node: str
    op: str
    reason: str

    def __str__(self) -> str:
        return f"{self.op} {self.node!r}: {self.reason}"


def unsupported(model: ir.Model) -> list[Unsupported]:
    """The nodes whose operators the table lacks, and loops that stay; what else a row refuses shows when it is used."""
    found = []
    for node in model.all_nodes():
        if (node.domain or "", node.op) not in TABLE:
            found.append(Unsupported(node.name, node.op, f"no form for {operator(node)} in Core ML"))
        elif is_loop(node) and (reason := why_not(node)):
            found.append(Unsupported(node.name, node.op, reason))
    return found


def operator(node: ir.Node) -> str:
    """The operator with its domain."""
    return f"{node.domain}.{node.op}" if node.domain else str(node.op)


def lower(model: ir.Model, program: Program, inputs: Mapping[str, Var]) -> list[tuple[str, Var]]:
    """Makes the MIL operations of a graph, inside an open MIL function.

    Args:
        model: prepared.
        program: names, options, and what is filled in.
        inputs: MIL value by name of the graph's input; those that are states are in `program.caches`.

    Returns:
        The outputs, by their names in ONNX; each value is named after the output.

    Raises:
        ModelError: naming every node that has no form, with the reason.
    """
    found = unsupported(model)
    if not found:
        tensors = {tensor.name: tensor for tensor in model.inputs}
        program.values |= opened(program.caches, tensors)
        for name, value in inputs.items():
            program.values[name] = received(tensors[name], value, program)
        for node in model.nodes:
            found += lowered(node, program)
    if found:
        shown = "; ".join(map(str, found[:CLOSEST]))
        more = f"; and {len(found) - CLOSEST} more" if len(found) > CLOSEST else ""
        raise ModelError(
            f"{len(found)} of {sum(1 for _ in model.all_nodes())} nodes have no form in Core ML: {shown}{more}"
        )
    closed(program.caches, program.values)
    kept = {cache.state.present for cache in program.caches.values()}
    return [(tensor.name, output(tensor, program)) for tensor in model.outputs if tensor.name not in kept]


def received(tensor: ir.Tensor, value: Var, program: Program) -> Var:
    """An input as the graph has it: bool comes as float32, and a value without dimensions as an array of one."""
    if tensor.shape is not None and not len(tensor.shape) and value.rank:
        value = builder().squeeze(x=value, axes=[0], name=program.names.fresh(f"{tensor.name}_value"))
    if tensor.dtype is not None and np.dtype(tensor.dtype) == np.bool_ and type_of(value) != "bool":
        name = program.names.fresh(f"{tensor.name}_bool")
        return builder().cast(x=value, dtype="bool", name=name)
    return value


def lowered(node: ir.Node, program: Program) -> list[Unsupported]:
    """Makes the operations of one node; gives why not."""
    scope = Scope(node, program)
    missing = [t.name for t in node.inputs if t.name and absent(t, program)]
    if missing:
        return []  # its producer has been reported
    if lazy(node):
        return []
    try:
        check_types(node)
        results = TABLE[node.domain or "", node.op].lower(scope)
        named(node, results if isinstance(results, Sequence) else [results], program)
    except Refused as error:
        return [Unsupported(node.name, node.op, str(error))]
    except (ValueError, TypeError, KeyError, IndexError, AssertionError, NotImplementedError) as error:
        text = " ".join(str(error).split())[:160]
        return [Unsupported(node.name, node.op, f"coremltools refuses it: {text or type(error).__name__}")]
    return []


def absent(tensor: ir.Tensor, program: Program) -> bool:
    """Whether nothing computes a value: its producer was refused."""
    if isinstance(tensor, ir.Constant) or tensor.name in program.values or tensor.name in program.caches:
        return False
    return not (tensor.inputs and lazy(tensor.inputs[0]))


def lazy(node: ir.Node) -> bool:
    """Whether a node is part of a stored weight, made where the weight is read."""
    if node.op == "DequantizeLinear":
        found = stored(node.outputs[0])
        return found is not None and found.codes.ndim >= 2
    if node.op == "Gather":
        return stored(node.outputs[0]) is not None
    if node.op == "Cast":
        return (
            bool(node.outputs[0].outputs)
            and all(lazy(reader) for reader in node.outputs[0].outputs)
            and isinstance(node.inputs[0], ir.Constant)
        )
    if node.op == "Add":
        return bool(node.outputs[0].outputs) and all(
            reader.op == "Gather" and lazy(reader) for reader in node.outputs[0].outputs
        )
    return False


def check_types(node: ir.Node) -> None:
    """Refuses types that Core ML does not have.

    Raises:
        Refused: naming the value.
    """
    if node.op in ("QuantizeLinear", "DequantizeLinear", "MatMulNBits"):
        return
    for tensor in [*node.inputs, *node.outputs]:
        if tensor.name and tensor.dtype is not None:
            mil_type(np.dtype(tensor.dtype))


def named(node: ir.Node, results: Sequence[Any], program: Program) -> None:
    """Gives results the names that their tensors have in our graph."""
    for tensor, value in zip(node.outputs, results, strict=False):
        if not tensor.name or value is None:
            continue
        if value.op is not None and value.op.op_type != "const" and program.owner.get(value.op.name) == node.name:
            clean = program.names(tensor.name)
            if len(value.op.outputs) == 1:
                program.owner[clean] = node.name
                value.op.name = clean
            value.name = clean
        program.values[tensor.name] = value


def output(tensor: ir.Tensor, program: Program) -> Var:
    """A graph output under its own name, in a type that a package may give out."""
    value = given(tensor, program)
    clean = program.names(tensor.name)
    if type_of(value) in ("bool", "int8", "uint8"):
        value = builder().cast(x=value, dtype="int32", name=program.names.fresh(f"{tensor.name}_int"))
    if value.name != clean or value.op is None or value.op.op_type == "const":
        value = builder().identity(x=value, name=clean)
    return value


def given(tensor: ir.Tensor, program: Program) -> Var:
    """What a graph or a branch gives: a value that was made, or a constant."""
    return program.values[tensor.name] if tensor.name in program.values else constant_output(tensor, program)


def constant_output(tensor: ir.Tensor, program: Program) -> Var:
    """An initializer, or a stored weight, that is an output of the graph."""
    found = stored(tensor)
    values = dense(found) if found is not None else convertible(tensor)
    return builder().const(val=values, name=program.names.fresh(f"{tensor.name}_const"))


def placeholder(tensor: ir.Tensor, shape: Sequence[Any], name: str) -> Any:
    """The MIL input of a graph input.

    Raises:
        ModelError: a type or a rank that a package cannot take.
    """
    dtype = np.dtype(np.float32 if tensor.dtype is None else tensor.dtype)
    try:
        kind = mil_type(dtype)
    except Refused as error:
        raise ModelError(str(error), where=f"input {tensor.name}") from error
    if any(d == 0 for d in shape if isinstance(d, int)):
        raise ModelError("an empty input", where=f"input {tensor.name}")
    if len(shape) > CLOSEST:
        raise ModelError(f"rank {len(shape)}; Core ML takes at most 5", where=f"input {tensor.name}")
    types = mil().types
    kind = "fp32" if kind == "bool" else kind
    return builder().placeholder(shape=tuple(shape) or (1,), dtype=getattr(types, kind), name=name)


__all__ = ["Unsupported", "lower", "placeholder", "unsupported"]
