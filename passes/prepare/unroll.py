"""Loop and Scan whose number of turns is known -> the nodes of their body, once for each turn.

    Loop(M, true, v)         v_0 = v;  v_(i+1), y_i = body(i, true, v_i) for i < M;  gives v_M and the y_i, stacked
    Scan(v, x; n turns)      v_(i+1), y_i = body(v_i, x[i]);  x is cut, and y stacked, along the stated axes and ways

M must be constant and no turn may end the loop: the condition that the body gives is constant true, or the one that
it was given. A Scan has as many turns as x is long. What has a body with graphs of its own, sequences or optionals, or
more than `MOST` nodes in all turns, stays, and so does a loop without a turn that stacks results: they would be empty.

Source: ONNX operator standard, Loop (13 and later) and Scan (9 and later).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from qcompiler import ir
from qcompiler.pipeline import GraphPass, PassRecord
from qcompiler.rewrite import Refusal

LOOPS = frozenset({"Loop", "Scan"})
MOST = 4096
AXES_AS_INPUTS = 13
"""The opset from which Unsqueeze takes its axes as an input."""


@dataclass(frozen=True)
class Unroll(GraphPass):
    """Unrolls every Loop and Scan that it can; inner ones before those around them."""

    name: ClassVar[str] = "unroll"

    def apply(self, model: ir.Model, record: PassRecord) -> None:
        """Each loop that goes is a change, each that stays a refusal."""
        if model.opset < AXES_AS_INPUTS:
            return
        for edit in reversed(list(ir.editors(model))):
            for node in [node for node in edit.graph.nodes if is_loop(node)]:
                reason = why_not(node)
                if reason:
                    record.refusals.append(Refusal(self.name, node.name, reason))
                else:
                    Turns(edit, node).write()
                    record.changes += 1


def is_loop(node: ir.Node) -> bool:
    """Whether a node is a Loop or a Scan of the standard."""
    return node.op in LOOPS and not node.domain


def why_not(node: ir.Node) -> str:
    """Why a Loop or Scan cannot be unrolled, with names; empty where it can."""
    body, count = node.attrs["body"], turns(node)
    if isinstance(count, str):
        return count
    inner = next((child for child in body.nodes if any(isinstance(v, ir.Graph) for v in child.attrs.values())), None)
    if inner is not None:
        return f"its body holds {inner.op} {inner.name!r}, which has a graph of its own"
    odd = next((t for t in tensors(node) if getattr(t, "type_proto", None) is not None), None)
    if odd is not None:
        return f"{odd.name!r} is no tensor"
    if count * max(len(body.nodes), 1) > MOST:
        return f"{count} turns of {len(body.nodes)} nodes are more than {MOST}"
    if not count and len(node.outputs) > states(node):
        return "it has no turn, and what it stacks is empty"
    return ""


def tensors(node: ir.Node) -> Iterator[ir.Tensor]:
    """What a loop takes and gives, outside and in its body."""
    body = node.attrs["body"]
    yield from (*node.inputs, *node.outputs, *body.inputs, *body.outputs)
    for child in body.nodes:
        yield from child.outputs


def states(node: ir.Node) -> int:
    """How many values are carried from turn to turn."""
    return len(node.inputs) - (2 if node.op == "Loop" else int(node.attrs["num_scan_inputs"]))


def turns(node: ir.Node) -> int | str:
    """How many turns there are, or why that is not known."""
    return _scan_turns(node) if node.op == "Scan" else _loop_turns(node)


def _scan_turns(node: ir.Node) -> int | str:
    cut = node.inputs[states(node) :]
    axes, lengths = node.attrs.get("scan_input_axes") or [0] * len(cut), set[int]()
    for tensor, axis in zip(cut, axes, strict=True):
        shape = tensor.shape or ()
        if not -len(shape) <= axis < len(shape) or not isinstance(shape[axis], int):
            return f"the length of {tensor.name!r} along axis {axis} is open"
        lengths.add(shape[axis])
    if len(lengths) != 1:
        return f"its inputs have {sorted(lengths)} turns"
    return lengths.pop()


def _loop_turns(node: ir.Node) -> int | str:
    most, start, body = node.inputs[0], node.inputs[1], node.attrs["body"]
    if start.name and not isinstance(start, ir.Constant):
        return f"its condition {start.name!r} is computed"
    if start.name and not bool(ir.array(start).reshape(-1)[0]):
        return 0
    if not isinstance(most, ir.Constant):
        return f"its trip count {most.name!r} is computed" if most.name else "it has no trip count"
    ends = body.outputs[0]
    while ends.inputs and ends.inputs[0].op == "Identity":
        ends = ends.inputs[0].inputs[0]
    if ends is not body.inputs[1] and not (isinstance(ends, ir.Constant) and bool(ir.array(ends).reshape(-1)[0])):
        return f"its condition {body.outputs[0].name!r} is computed in each turn"
    return max(int(ir.array(most).reshape(-1)[0]), 0)


class Turns:
    """Writes the turns of a Loop or Scan in its place."""

    def __init__(self, edit: ir.Editor, node: ir.Node) -> None:
        self.edit, self.node, self.body = edit, node, node.attrs["body"]
        self.carried, self.count = states(node), int(turns(node))
        self.loop = node.op == "Loop"

    def write(self) -> None:
        """The turns, then what is stacked, then the old node goes."""
        edit, node, first = self.edit, self.node, 2 if self.loop else 0
        self.nodes = ir.topological(self.body)
        state = list(node.inputs[first : first + self.carried])
        stacked: list[list[ir.Tensor]] = [[] for _ in node.outputs[self.carried :]]
        for turn in range(self.count):
            found = self.turn(turn, [*self.around(turn), *state, *self.cut(turn)])
            found = found[1:] if self.loop else found
            state = found[: self.carried]
            for values, value in zip(stacked, found[self.carried :], strict=False):
                values.append(value)
        edit.graph.declared += self.body.declared
        for old, new in zip(node.outputs, [*state, *self.stack(stacked)], strict=True):
            if old.name:
                edit.replace_uses(old, new)
        edit.erase(node)

    def around(self, turn: int) -> Iterator[ir.Tensor]:
        """The number of a turn, and the condition, as a Loop hands them on."""
        if self.loop:
            yield self.edit.constant(f"{self.node.name}_turn_{turn}", np.asarray(turn, np.int64))
            yield self.edit.constant(f"{self.node.name}_goes_on", np.asarray(True))

    def cut(self, turn: int) -> Iterator[ir.Tensor]:
        """What a turn of a Scan sees of the inputs that are cut."""
        for i, tensor in enumerate(self.node.inputs[self.carried :] if not self.loop else ()):
            axis, backward = self.way("input", i)
            at = np.asarray(self.count - 1 - turn if backward else turn, np.int64)
            index = self.edit.constant(f"{self.node.name}_turn_{turn}", at)
            shape = [size for j, size in enumerate(tensor.shape) if j != axis % len(tensor.shape)]
            out = self.edit.variable(f"{tensor.name}_turn_{turn}", tensor.dtype, shape)
            name = f"{self.node.name}_cut_{turn}"
            self.add("Gather", [tensor, index], name, {"axis": axis}, [out])
            yield out

    def way(self, side: str, i: int) -> tuple[int, bool]:
        """The axis that input or output `i` of a Scan is cut or stacked along, and whether backward."""
        attrs = self.node.attrs
        axes, ways = attrs.get(f"scan_{side}_axes") or (), attrs.get(f"scan_{side}_directions") or ()
        return int(axes[i]) if i < len(axes) else 0, bool(ways[i]) if i < len(ways) else False

    def turn(self, turn: int, given: Sequence[ir.Tensor]) -> list[ir.Tensor]:
        """The nodes of one turn; gives what the body gives."""
        now = {id(inside): value for inside, value in zip(self.body.inputs, given, strict=True)}
        for child in self.nodes:
            outputs = []
            for tensor in child.outputs:
                if tensor.name:
                    fixed = tensor.shape is not None and all(isinstance(size, int) for size in tensor.shape)
                    shape = tensor.shape if fixed else None  # a size that has a name may differ by turn
                    now[id(tensor)] = self.edit.variable(f"{tensor.name}_turn_{turn}", tensor.dtype, shape)
                outputs.append(now.get(id(tensor), tensor))
            inputs = [now.get(id(tensor), tensor) if tensor.name else None for tensor in child.inputs]
            self.add(child.op, inputs, f"{child.name}_turn_{turn}", child.attrs, outputs, child.domain)
        return [now.get(id(tensor), tensor) for tensor in self.body.outputs]

    def stack(self, stacked: Sequence[Sequence[ir.Tensor]]) -> Iterator[ir.Tensor]:
        """What the turns gave, each as one tensor."""
        for i, values in enumerate(stacked):
            axis, backward = (0, False) if self.loop else self.way("output", i)
            tensor = self.node.outputs[self.carried + i]
            if not tensor.name:
                yield tensor
                continue
            axes, name = self.edit.constant(f"{tensor.name}_axis", np.asarray([axis], np.int64)), self.node.name
            rows = [self.edit.variable(f"{tensor.name}_row", tensor.dtype) for _ in values]
            for value, row in zip(values, rows, strict=True):
                self.add("Unsqueeze", [value, axes], f"{name}_row", {}, [row])
            out = self.edit.variable(f"{tensor.name}_rows", tensor.dtype, tensor.shape)
            self.add("Concat", rows[::-1] if backward else rows, f"{name}_rows", {"axis": axis}, [out])
            yield out

    def add(
        self, op: str, inputs: Sequence[ir.Tensor | None], name: str, attrs: dict[str, object],
        outputs: Sequence[ir.Tensor], domain: str = "",
    ) -> None:  # fmt: skip
        """A node in front of the old one."""
        self.edit.add(op, inputs, name=name, attrs=attrs, outputs=outputs, domain=domain, before=self.node)
