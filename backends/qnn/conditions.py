"""What a node must satisfy for a rule of the QNN table; each gives the reason against it, or None."""

from __future__ import annotations

from fnmatch import fnmatchcase

import numpy as np

from qcompiler import ir
from qcompiler.targets import Condition

MAX_RANK = 5


def named(patterns: tuple[str, ...]) -> Condition:
    """The condition that a pattern names the node."""

    def chosen(node: ir.Node) -> str | None:
        """A pattern of --a16 names the node."""
        hit = any(fnmatchcase(node.name, pattern) for pattern in patterns)
        return None if hit else f"{node.op} {node.name!r} is not among those that --a16 names"

    return chosen


def nothing(node: ir.Node) -> str | None:
    """Nodes that an option names."""
    return f"{node.op} {node.name!r} is not among those that --a16 names"


def one_group(node: ir.Node) -> str | None:
    """With several groups, channels are not one axis of the weight."""
    groups = int(node.attrs.get("group", 1))
    return None if groups == 1 else f"ConvTranspose {node.name!r} has {groups} groups"


def matrix_weight(node: ir.Node) -> str | None:
    """A constant second operand of rank 2 has one scale for each column."""
    weight = node.inputs[1]
    if not isinstance(weight, ir.Constant):
        return f"both operands of {node.op} {node.name!r} are computed"
    return None if len(weight.shape) == 2 else f"weight {weight.name!r} has rank {len(weight.shape)}"


def whole_blocks(size: int) -> Condition:
    """The condition that a column of a constant matrix divides into blocks."""

    def divides(node: ir.Node) -> str | None:
        """A constant second operand of rank 2 whose columns divide into blocks."""
        reason, weight = matrix_weight(node), node.inputs[1]
        if reason is None and weight.shape[0] % size:
            reason = f"columns of {weight.name!r} have {weight.shape[0]} values, which blocks of {size} do not divide"
        return reason

    return divides


def whole_norm(node: ir.Node) -> str | None:
    """Scale and bias are constants, along the last axis."""
    if len(node.inputs) < 3 or not node.inputs[2].name:
        return f"LayerNormalization {node.name!r} has no bias"
    return None


def adds_to_cache(node: ir.Node) -> str | None:
    """An input of the model whose name begins with 'past', and what is new, along the tokens."""
    past = node.inputs[0]
    fits = len(node.inputs) == 2 and not past.inputs and past.name.startswith("past")
    if fits and int(node.attrs.get("axis", 0)) in (2, -2):
        return None
    return f"Concat {node.name!r} does not add tokens to a cache"


def two_operands(node: ir.Node) -> str | None:
    """Two operands."""
    return None if len(node.inputs) == 2 else f"{node.op} {node.name!r} has {len(node.inputs)} operands"


def interpolating(node: ir.Node) -> str | None:
    """A Resize that computes new values."""
    return f"Resize {node.name!r} copies values" if node.attrs.get("mode", "nearest") == "nearest" else None


def pads_zero(node: ir.Node) -> str | None:
    """Padding with what is there, or with zero, which every grid holds."""
    if node.attrs.get("mode", "constant") != "constant" or len(node.inputs) < 3 or not node.inputs[2].name:
        return None
    value = node.inputs[2]
    zero = isinstance(value, ir.Constant) and not np.asarray(ir.array(value)).any()
    return None if zero else f"Pad {node.name!r} fills with {value.name!r}, which is not zero"


def at_most_rank_5(node: ir.Node) -> str | None:
    """Values of rank 5 at most, before and after."""
    ranks = [len(tensor.shape) for tensor in (node.inputs[0], *node.outputs) if tensor.shape is not None]
    worst = max(ranks, default=0)
    return (
        None
        if worst <= MAX_RANK
        else f"{node.op} {node.name!r} works on rank {worst}; the processor ends at {MAX_RANK}"
    )
