"""The interval of a value outside of which its readers cannot tell: what lies beyond may saturate at no cost.

    HardSwish(x)                     [-3, inf)                 it is 0 below
    HardSigmoid(x; a, b)             [-b / a, (1 - b) / a]     it is 0 below and 1 above
    Relu(x), Clip(x, l, h)           [0, inf), [l, h]
    Sigmoid(x), Tanh(x)              [-8, 8]                   the rest changes the result by less than 0.0004
    x * Sigmoid(x)                   [-10, inf)                less than 0.0005
    x * Clip(x + c, 0, h) [* a]      [-c, inf)                 HardSwish as integer kernels compute it
    Softmax(x), x masked             [low, inf)                out of sight (`masks`): the histogram says where that is

Add of a constant, Mul by a positive constant, and operators that only move values hand the interval of their result on.
Where the other operand of Add is computed, what it was seen to reach counts as its largest value. A constant that only
lowers, as a mask does, has the largest value 0.
A tensor has the smallest interval that holds those of all its uses. Batch normalisation leaves a third of the input of
a HardSwish below -3, often far below: cut there, the steps are two to five times finer where they count.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from qcompiler import ir
from qcompiler.numerics.histogram import Histogram
from qcompiler.passes.plan.bounds import Bounds, bounds
from qcompiler.passes.plan.masks import lowest_in_sight

Seen = Callable[[str], Histogram | None]

EVERYTHING: Bounds = (-math.inf, math.inf)
SATURATION = 8.0
SILU_ENDS = 10.0

_MOVES = frozenset(
    {
        "Identity", "MaxPool", "GlobalMaxPool", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Slice",
        "Gather", "Concat", "Split", "DepthToSpace", "SpaceToDepth",
    }
)  # fmt: skip


def useful_ranges(model: ir.Model, seen: Seen = lambda _: None) -> Mapping[str, Bounds]:
    """The interval of every value of the main graph, constants among them, for which it is not everything.

    Args:
        model: its main graph is read.
        seen: the histogram of a tensor; None where there is none.
    """
    found = _Backward(ir.Editor(model, model.graph), seen)
    results = (tensor for node in model.nodes for tensor in node.outputs if tensor.name)
    values = [*model.inputs, *model.constants(), *results]
    known = {tensor.name: found.of(tensor) for tensor in reversed(values)}
    return {name: known[name] for name in reversed(known) if known[name] != EVERYTHING}


@dataclass(eq=False)
class _Backward:
    """Walks from readers to what they read; each value is looked at once."""

    edit: ir.Editor
    seen: Seen
    done: dict[int, Bounds] = field(default_factory=dict)

    def of(self, tensor: ir.Tensor) -> Bounds:
        """Over all uses."""
        if id(tensor) not in self.done:
            parts = [
                EVERYTHING if node is None or node.domain else self._by(node, port, tensor)
                for node, port in self.edit.uses(tensor)
            ]
            low, high = min((p[0] for p in parts), default=-math.inf), max((p[1] for p in parts), default=math.inf)
            # every grid holds zero
            self.done[id(tensor)] = min(low, 0.0), max(high, 0.0)
        return self.done[id(tensor)]

    def _by(self, node: ir.Node, port: int, tensor: ir.Tensor) -> Bounds:
        """What one use says."""
        if port == 0 and node.op in ("Relu", "Clip"):
            own = bounds(node)
            return EVERYTHING if own is None else _both(own, self.of(node.outputs[0]))
        match node.op:
            case "HardSwish":
                return -3.0, math.inf
            case "HardSigmoid":
                return hard_sigmoid(node)
            case "Sigmoid" | "Tanh":
                return -SATURATION, SATURATION
            case "Add" if (shift := number(node.inputs[1 - port])) is not None:
                low, high = self.of(node.outputs[0])
                return low - shift, high - shift
            case "Add" if node.inputs[0] is not node.inputs[1]:
                return self.of(node.outputs[0])[0] - max(self._largest(node.inputs[1 - port]), 0.0), math.inf
            case "Softmax":
                values = self.seen(tensor.name)
                return (-math.inf if values is None else lowest_in_sight(values)), math.inf
            case "Where" if port > 0:
                return self.of(node.outputs[0])
            case "Mul" if (factor := number(node.inputs[1 - port])) is not None:
                low, high = self.of(node.outputs[0])
                return (low / factor, high / factor) if factor > 0 else EVERYTHING
            case "Mul":
                return gate_opens(node.inputs[1 - port], tensor), math.inf
            case op if op in _MOVES and (port == 0 or op == "Concat"):
                parts = [self.of(result) for result in node.outputs]
                return min(p[0] for p in parts), max(p[1] for p in parts)
        return EVERYTHING

    def _largest(self, tensor: ir.Tensor) -> float:
        """0 of a constant that only lowers; what was seen of a value; infinity where nothing is known."""
        if isinstance(tensor, ir.Constant):
            return 0.0 if (ir.array(tensor) <= 0).all() else math.inf
        values = self.seen(tensor.name)
        return math.inf if values is None else values.maximum


def gate_opens(gate: ir.Tensor, x: ir.Tensor) -> float:
    """Below which x the gate is 0; -inf where it is not a gate of x."""
    node = gate.inputs[0] if gate.inputs else None
    if node is None or node.domain:
        return -math.inf
    source = node.inputs[0]
    if node.op == "Mul" and number(node.inputs[1]) is not None:
        return gate_opens(source, x)
    if node.op == "Sigmoid" and source is x:
        return -SILU_ENDS
    if node.op == "HardSigmoid" and source is x:
        return hard_sigmoid(node)[0]
    own = bounds(node)
    if own is not None and own[0] == 0.0:
        add = source.inputs[0] if source.inputs else None
        shift = number(add.inputs[1]) if add is not None and add.op == "Add" and add.inputs[0] is x else None
        return -math.inf if shift is None else -shift
    return -math.inf


def hard_sigmoid(node: ir.Node) -> Bounds:
    """Between which values HardSigmoid is not constant."""
    alpha, beta = float(node.attrs.get("alpha", 0.2)), float(node.attrs.get("beta", 0.5))
    return (-beta / alpha, (1 - beta) / alpha) if alpha > 0 else EVERYTHING


def number(tensor: ir.Tensor) -> float | None:
    """The value of a constant that holds one number."""
    if not isinstance(tensor, ir.Constant) or not 0 < ir.nbytes(tensor) <= 8:
        return None
    values = ir.array(tensor)
    return float(values.item()) if values.size == 1 else None


def _both(one: Bounds, other: Bounds) -> Bounds:
    return max(one[0], other[0]), min(one[1], other[1])
