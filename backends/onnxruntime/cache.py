"""A cache of keys and values in int8, with a scale for each token and head.

    past, new -> Concat -> present            float, as exporters write it

    s = max |new| / 127,  q = round(new / s)  along the last axis
    past_q, q -> Concat -> present_q          int8
    past_s, s -> Concat -> present_s          float: inputs and outputs of their own
    present = present_q * present_s           for attention

Tokens are stored once and never rounded again, so what a step reads is what the steps before it wrote. `QuantizeCache`
puts q * s in place of new and leaves inputs and outputs in float, which computes the same: so is it judged. `store`
then changes the inputs and outputs of what ships.

Scales are of tokens for keys, too. Keys by channel (Liu et al., "KIVI", 2024) need scales that are fixed beforehand;
ONNX Runtime 1.31 refuses Concat of fp8 and of int4 (found by trying), so int8 is all there is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np
from onnx import TensorProto

from qcompiler import ir
from qcompiler.pipeline import GraphPass, PassRecord
from qcompiler.rewrite import Refusal

KINDS = ("int8",)
STORED = "caches are int8 at the inputs and outputs, with a scale for each token beside each: NAME and NAME_scale"
TOP = 127.0
RANK = 4


@dataclass(frozen=True)
class QuantizeCache(GraphPass):
    """Rounds what is added to a cache, as it will be stored."""

    name: ClassVar[str] = "quantize-cache"

    def apply(self, model: ir.Model, record: PassRecord) -> None:
        """Each cache is a change; one of another form is refused."""
        edit = ir.Editor(model, model.graph)
        for past in [tensor for tensor in model.inputs if tensor.name.startswith("past")]:
            node = _joins(edit, past)
            if isinstance(node, str):
                record.refusals.append(Refusal(self.name, past.name, node))
                continue
            edit.set_input(node, 1, _rounded(edit, node.inputs[1], past))
            record.changes += 1
        if record.refusals:
            record.notes.append(f"{len(record.refusals)} caches stay float: {record.refusals[0].reason}")
        elif not record.changes:
            record.notes.append("the model has no cache: no input whose name begins with 'past'")


def _joins(edit: ir.Editor, past: ir.Variable) -> ir.Node | str:
    """The Concat that adds to a cache, or why it cannot be stored otherwise."""
    if past.dtype not in (np.float32, np.float16) or past.shape is None or len(past.shape) != RANK:
        return f"{past.name!r} is no float tensor of rank {RANK}"
    readers = [use.node for use in edit.uses(past) if use.node is None or use.node.op != "Shape"]
    node = readers[0] if len(readers) == 1 else None
    if node is None or node.op != "Concat":
        ops = ", ".join(sorted({"an output" if reader is None else reader.op for reader in readers}))
        return f"{past.name!r} is read by {ops}, not by Concat alone"
    if len(node.inputs) != 2 or node.inputs[0] is not past or not edit.is_output(node.outputs[0]):
        return f"Concat {node.name!r} does not add to {past.name!r} and give it back"
    if int(node.attrs["axis"]) not in (2, -2):
        return f"Concat {node.name!r} does not add tokens along axis 2"
    return node


def _rounded(edit: ir.Editor, new: ir.Tensor, past: ir.Variable) -> ir.Tensor:
    """q * s."""
    hint, kind, shape = past.name, np.dtype(past.dtype), [*list(past.shape or [])[:2], None]
    width = list(past.shape or [])[-1:]

    def add(op: str, inputs: list[ir.Tensor], last: list[int | str | None], **attrs: int) -> ir.Tensor:
        output = edit.variable(f"{hint}_{op.lower()}", kind, [*shape, *last])
        return edit.add(op, inputs, name=f"{hint}_{op.lower()}", attrs=attrs, outputs=[output]).outputs[0]

    axes = edit.constant(f"{hint}_axes", np.array([-1], np.int64))
    unit = edit.constant(f"{hint}_unit", np.array(1 / TOP, kind))
    least = edit.constant(f"{hint}_least", np.array(np.finfo(kind).tiny, kind))
    largest = add("ReduceMax", [add("Abs", [new], width), axes], [1], keepdims=1)
    scale = add("Max", [add("Mul", [largest, unit], [1]), least], [1])
    codes = edit.variable(f"{hint}_codes", np.dtype(np.int8), [*shape, *width])
    steps = add("Round", [add("Div", [new, scale], width)], width)
    edit.add("Cast", [steps], name=f"{hint}_store", attrs={"to": int(TensorProto.INT8)}, outputs=[codes])
    return _value(edit, hint, codes, scale, past)


def _value(edit: ir.Editor, hint: str, codes: ir.Tensor, scale: ir.Tensor, like: ir.Variable) -> ir.Tensor:
    kind = TensorProto.FLOAT16 if like.dtype == np.float16 else TensorProto.FLOAT
    wide = edit.add("Cast", [codes], name=f"{hint}_load", attrs={"to": int(kind)}).outputs[0]
    return edit.add("Mul", [wide, scale], name=f"{hint}_value").outputs[0]


class Cache(NamedTuple):
    """What `QuantizeCache` made of one cache."""

    past: ir.Variable
    concat: ir.Node
    load: ir.Node
    value: ir.Node


def caches(model: ir.Model) -> list[Cache]:
    """The rounded caches of a model."""
    found = []
    for past in model.inputs:
        for concat in [node for node in past.outputs if node.op == "Concat" and len(node.inputs) == 2]:
            value = concat.inputs[1].inputs[0] if concat.inputs[1].inputs else None
            load = value.inputs[0].inputs[0] if value is not None and value.inputs[0].inputs else None
            if value is None or load is None or value.op != "Mul" or load.op != "Cast":
                continue
            if load.inputs[0].dtype == np.int8:
                found.append(Cache(past, concat, load, value))
    return found


def store(model: ir.Model) -> ir.Model:
    """The model with caches in int8 at its inputs and outputs; itself where it has none."""
    if not caches(model):
        return model
    model = model.copy()
    edit = ir.Editor(model, model.graph)
    for past, concat, load, value in caches(model):
        present, axis = concat.outputs[0], {"axis": int(concat.attrs["axis"])}
        kind, shape = past.dtype, list(past.shape or [])
        scales = edit.add_input(f"{past.name}_scale", kind, [*shape[:-1], 1])
        edit.retype(past, np.dtype(np.int8), shape)
        wide = list(present.shape or [])
        parts = []
        for name, first, second, dtype, last in (
            (present.name, past, load.inputs[0], np.dtype(np.int8), wide[-1:]),
            (f"{present.name}_scale", scales, value.inputs[1], kind, [1]),
        ):
            joined = edit.variable(f"{name}_all", dtype, [*wide[:-1], *last])
            edit.add("Concat", [first, second], name=f"{name}_join", attrs=axis, outputs=[joined], before=concat)
            parts.append(joined)
        to = {"to": int(load.attrs["to"])}
        loaded = edit.add("Cast", [parts[0]], name=f"{past.name}_load_all", attrs=to, before=concat).outputs[0]
        whole = edit.add("Mul", [loaded, parts[1]], name=f"{past.name}_values", before=concat, like=present).outputs[0]
        for use in edit.uses(present):
            if use.node is not None:
                edit.set_input(use.node, use.port, whole)
        edit.replace_uses(present, parts[0])
        edit.add_output(parts[1], f"{parts[0].name}_scale")
        for node in (concat, value, load):
            edit.erase(node)
    edit.sort()
    return model
