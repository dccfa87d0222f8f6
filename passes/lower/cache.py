"""A cache of keys and values in 8 or 4 bits, with a scale for each token and head.

    past, new -> Concat -> present            float, as exporters write it

    s = max |new / c| / top,  q = code(new / c / s)      along the last axis (`cache_codes`)
    past_q, q -> Concat -> present_q          bytes
    past_s, s -> Concat -> present_s          float: inputs and outputs of their own
    present = value(present_q) * present_s * c           for attention

Tokens are stored once and never rounded again, so what a step reads is what the steps before it wrote. `QuantizeCache`
puts the value in place of new and leaves inputs and outputs in float, which computes the same: so is it judged. `store`
then changes the inputs and outputs of what ships. Where the graph is in float16 between inputs and outputs in float32,
its Casts fall away with them.

c is 1 for values; for keys, some of whose channels are large whatever the token (Liu et al., "KIVI", 2024), it is the
largest of each head and channel in the calibration samples, where there are any. Such scales alone, fixed for all
tokens, lost more on docs_llama (KL at int4 0.0094, and 0.0071 with both), so tokens keep theirs beside them. Caches
that GroupQueryAttention keeps are its own affair (`cache_attention`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np

from qcompiler import ir
from qcompiler.passes.lower.cache_attention import AXES, PRESENT, keeps, quantize_inside, store_inside
from qcompiler.passes.lower.cache_codes import TOPS, Codes
from qcompiler.passes.lower.cache_fixed import round_fixed, store_fixed
from qcompiler.passes.plan.stretched import Statistics
from qcompiler.passes.prepare.eliminate_dead import EliminateDead
from qcompiler.pipeline import GraphPass, PassRecord
from qcompiler.rewrite import Refusal

KINDS = tuple(TOPS)
LEAST_OPSET = 18
"""The first with BitwiseAnd, and with the axes of ReduceMax as an input."""
RANK = 4
FIXED = "scales are fixed"


@dataclass(frozen=True)
class QuantizeCache(GraphPass):
    """Rounds what is added to a cache, as it will be stored.

    Attributes:
        kind: how: one of `KINDS`.
        stats: what calibration saw; None without data.
        fixed: fp8 has scales of channels alone (`cache_fixed`).
    """

    name: ClassVar[str] = "quantize-cache"
    kind: str = "int8"
    stats: Statistics | None = None
    fixed: bool = False

    def apply(self, model: ir.Model, record: PassRecord) -> None:
        """Each cache is a change; one of another form is refused."""
        edit, inside = ir.Editor(model, model.graph), dict[str, str | None]()
        for past in [tensor for tensor in model.inputs if tensor.name.startswith("past")]:
            node: ir.Node | str | None = _reader(edit, past)
            if isinstance(node, ir.Node) and keeps(node, past):
                if node.name not in inside:
                    inside[node.name] = quantize_inside(edit, node, self.kind, self.stats)
                node = inside[node.name]
            elif isinstance(node, ir.Node):
                node = self._round(model, edit, past, node)
            if node is None:
                record.changes += 1
            else:
                record.refusals.append(Refusal(self.name, past.name, str(node)))
        if record.refusals:
            record.notes.append(f"{len(record.refusals)} caches stay float: {record.refusals[0].reason}")
        elif not record.changes:
            record.notes.append("the model has no cache: no input whose name begins with 'past'")

    def _round(self, model: ir.Model, edit: ir.Editor, past: ir.Variable, node: ir.Node) -> str | None:
        why = _joins(edit, past, node)
        codes = None if why is not None else _codes(edit, self.kind, past, node)
        if why is None and codes is None:
            why = f"{past.name!r} has rows of no known even length, which int4 needs"
        if why is None and model.opset < LEAST_OPSET:
            why = f"the model has opset {model.opset}, and a cache in {self.kind} needs {LEAST_OPSET}"
        if why is not None or codes is None:
            return why
        new, factor = node.inputs[1], self._factor(past, _end(edit, node.outputs[0]), codes.dtype)
        if self.fixed:
            return round_fixed(edit, past, node, factor)
        shape = [*list(past.shape or [])[:2], None]
        if factor is not None:
            channels = edit.constant(f"{past.name}_channels", factor)
            new = edit.add("Div", [new, channels], name=f"{past.name}_even", before=node).outputs[0]
        scale = codes.scale(new)
        edit.rename(scale, f"{past.name}_scales")
        edit.retype(scale, codes.dtype, [*shape, 1])
        stored = edit.variable(f"{past.name}_codes", codes.stored, [*shape, codes.places])
        codes.encode(new, scale, stored)
        value = codes.decode(stored, scale)
        if factor is not None:
            value = edit.add("Mul", [value, channels], name=f"{past.name}_uneven", before=node).outputs[0]
        edit.retype(value, codes.dtype, node.inputs[1].shape)
        edit.set_input(node, 1, value)
        return None

    def _factor(self, past: ir.Variable, present: ir.Tensor | None, dtype: np.dtype[Any]) -> np.ndarray | None:
        """c; of channels that were 0 throughout the largest of all."""
        if self.stats is None or present is None or past.shape is None or not self.fixed | ("key" in past.name):
            return None
        ends, heads, width = self.stats.channel_range(present.name, AXES), past.shape[1], past.shape[3]
        if ends is None or not isinstance(heads, int) or ends.absmax.size != heads * width:
            return None
        known = np.where(ends.absmax > 0, ends.absmax, ends.absmax.max() or 1)
        found: np.ndarray = np.maximum(known, np.finfo(dtype).tiny).astype(dtype).reshape(1, heads, 1, width)
        return found


def observed(model: ir.Model, *, fixed: bool = False) -> Mapping[str, tuple[int, ...]]:
    """The caches whose extremes are wanted by head and channel; those of values where scales are `fixed`."""
    edit, found = ir.Editor(model, model.graph), dict[str, tuple[int, ...]]()
    for past in [tensor for tensor in model.inputs if tensor.name.startswith("past")]:
        node = _reader(edit, past)
        if isinstance(node, str):
            continue
        if keeps(node, past):
            found.update({node.outputs[port].name: AXES for port in PRESENT})
        elif fixed | ("key" in past.name) and _joins(edit, past, node) is None:
            found[node.outputs[0].name] = AXES
    return found


def _reader(edit: ir.Editor, past: ir.Variable) -> ir.Node | str:
    """The node that reads a cache, or why it cannot be stored otherwise."""
    if past.dtype not in (np.float32, np.float16) or past.shape is None or len(past.shape) != RANK:
        return f"{past.name!r} is no float tensor of rank {RANK}"
    node, readers = _only(edit, past)
    if node is not None and node.op == "Cast":
        node, readers = _only(edit, node.outputs[0])
    if node is None or not (node.op == "Concat" or keeps(node, past)):
        ops = ", ".join(sorted({"an output" if reader is None else reader.op for reader in readers}))
        return f"{past.name!r} is read by {ops}, not by Concat or GroupQueryAttention alone"
    return node


def _only(edit: ir.Editor, tensor: ir.Tensor) -> tuple[ir.Node | None, list[ir.Node | None]]:
    """The node that alone reads a value, and all that do."""
    readers = [use.node for use in edit.uses(tensor) if use.node is None or use.node.op != "Shape"]
    return (readers[0] if len(readers) == 1 else None), readers


def _cast(past: ir.Variable, node: ir.Node) -> ir.Node | None:
    """The Cast between a cache and its Concat."""
    maker = next(iter(node.inputs[0].inputs), None)
    return maker if maker is not None and maker.op == "Cast" and maker.inputs[0] is past else None


def _end(edit: ir.Editor, present: ir.Tensor) -> ir.Tensor | None:
    """The output of the model that a Concat makes, itself or by a Cast."""
    casts = [use.node.outputs[0] for use in edit.uses(present) if use.node is not None and use.node.op == "Cast"]
    return next((tensor for tensor in (present, *casts) if edit.is_output(tensor)), None)


def _joins(edit: ir.Editor, past: ir.Variable, node: ir.Node) -> str | None:
    """Why a Concat is not one that adds tokens to a cache."""
    first = len(node.inputs) == 2 and (node.inputs[0] is past or _cast(past, node) is not None)
    if not first or _end(edit, node.outputs[0]) is None:
        return f"Concat {node.name!r} does not add to {past.name!r} and give it back"
    if int(node.attrs["axis"]) not in (2, -2):
        return f"Concat {node.name!r} does not add tokens along axis 2"
    if node.inputs[1].dtype not in (np.float32, np.float16):
        return f"Concat {node.name!r} joins {node.inputs[1].dtype}, not float32 or float16"
    return None


def _codes(edit: ir.Editor, kind: str, past: ir.Variable, node: ir.Node) -> Codes | None:
    width = (past.shape or [None])[-1]
    if kind == "int4" and (not isinstance(width, int) or width % 2):
        return None
    return Codes(
        edit, kind, width if isinstance(width, int) else 0, np.dtype(node.inputs[1].dtype), past.name, before=node
    )


class Stored(NamedTuple):
    """A model as it ships, and what a reader should know of its caches."""

    model: ir.Model
    notes: tuple[str, ...] = ()


def store(model: ir.Model, kind: str) -> Stored:
    """The model with caches in codes at its inputs and outputs; itself where it has none."""
    result = model.copy()
    edit = ir.Editor(result, result.graph)
    inside = store_inside(edit, result)
    parts = {tensor.name: tensor for node in result.nodes for tensor in node.outputs}
    constants = {constant.name: constant for constant in result.constants()}
    joined = fixed = 0
    for past in list(result.inputs):
        stored, scale = parts.get(f"{past.name}_codes"), parts.get(f"{past.name}_scales")
        node = _reader(edit, past) if stored is not None else ""
        if isinstance(node, str) or stored is None or node.op != "Concat":
            continue
        codes = _codes(edit, kind, past, node)
        assert codes is not None
        _uncast(edit, past, node, codes.dtype)
        if scale is None:
            store_fixed(edit, past, node, stored)
            fixed += 1
        else:
            _join(edit, past, node, codes, stored, scale, constants.get(f"{past.name}_channels"))
            joined += 1
    if not inside + joined + fixed:
        return Stored(model)
    EliminateDead().apply(result, PassRecord(EliminateDead.name))
    edit = ir.Editor(result, result.graph)
    edit.sort()
    scales = "with a scale for each token beside each: NAME and NAME_scale" if joined else FIXED
    return Stored(result, (told(inside + joined + fixed, kind, scales, result, model),))


def told(count: int, kind: str, scales: str, stored: ir.Model, model: ir.Model) -> str:
    """What became of caches, in a sentence."""
    bytes_, before = token_bytes(stored), token_bytes(model)
    said = f"{count} caches are {kind} at the inputs and outputs, {scales}"
    return f"{said}; a token takes {bytes_} bytes of cache, in float {before}"


def _uncast(edit: ir.Editor, past: ir.Variable, node: ir.Node, dtype: np.dtype[Any]) -> None:
    """Has a cache come and go in the type of its Concat."""
    present, end = node.outputs[0], _end(edit, node.outputs[0])
    edit.replace_uses(node.inputs[0], past)  # Shape reads it, too
    edit.retype(past, dtype, past.shape)
    if end is not None and end is not present:
        edit.replace_uses(end, present)


def _join(
    edit: ir.Editor, past: ir.Variable, node: ir.Node, codes: Codes, stored: ir.Tensor, scale: ir.Tensor,
    channels: ir.Tensor | None,
) -> None:  # fmt: skip
    present, axis = node.outputs[0], {"axis": int(node.attrs["axis"])}
    shape, wide, kind = list(past.shape or []), list(present.shape or [None] * RANK), past.dtype
    scales = edit.add_input(f"{past.name}_scale", kind, [*shape[:-1], 1])
    edit.retype(past, codes.stored, [*shape[:-1], codes.places or shape[-1]])
    parts = []
    for name, first, second, dtype, last in (
        (present.name, past, stored, codes.stored, codes.places or shape[-1]),
        (f"{present.name}_scale", scales, scale, kind, 1),
    ):
        whole = edit.variable(f"{name}_all", dtype, [*wide[:-1], last])
        edit.add("Concat", [first, second], name=f"{name}_join", attrs=axis, outputs=[whole], before=node)
        parts.append(whole)
    value = codes.decode(parts[0], parts[1])
    if channels is not None:
        value = edit.add("Mul", [value, channels], name=f"{past.name}_uneven", before=node).outputs[0]
    edit.retype(value, kind, present.shape)
    for use in edit.uses(present):
        if use.node is not None:
            edit.set_input(use.node, use.port, value)
    edit.replace_uses(present, parts[0])
    edit.add_output(parts[1], f"{parts[0].name}_scale")


def token_bytes(model: ir.Model) -> int:
    """Bytes of one token of one text in all caches, scales included."""
    caches = [tensor for tensor in model.inputs if tensor.name.startswith("past") and len(tensor.shape or []) == RANK]
    sizes = [[tensor.shape[1], tensor.shape[3], np.dtype(tensor.dtype).itemsize] for tensor in caches]
    return sum(int(np.prod(size)) for size in sizes if all(isinstance(part, int) for part in size))
