"""Which nodes could be quantized whatever their neighbours do: by the target's table, operands, and the user's word."""

from __future__ import annotations

from fnmatch import fnmatchcase

import numpy as np

from qcompiler import ir
from qcompiler.errors import UsageError
from qcompiler.quant import PerBlock
from qcompiler.targets import Activation, Bias, Float, OpRule, Weight

PIECE = 1 << 20
"""Numbers that are looked at at a time."""
KEPT = "kept float by --keep-float"


def kept_float(model: ir.Model, patterns: tuple[str, ...]) -> dict[str, str]:
    """Nodes that a pattern keeps float, each with the reason.

    A pattern names nodes, or tensors: those stand for the node that computes them, or, for inputs and initializers,
    for the nodes that read them.

    Raises:
        UsageError: a pattern matches nothing.
    """
    kept: dict[str, str] = {}
    for pattern in patterns:
        hit = [node.name for node in model.all_nodes() if named(node, pattern)]
        if not hit:
            raise UsageError(
                f"pattern {pattern!r} matches no node and no tensor",
                where="--keep-float",
                hint="qcompile inspect MODEL --nodes lists the names",
            )
        for name in hit:
            kept.setdefault(name, f"{KEPT} {pattern!r}")
    return kept


def named(node: ir.Node, pattern: str) -> bool:
    """Whether a pattern (as in the shell; a plain name is one too) names the node or a tensor that stands for it."""
    sources = [t for t in node.inputs if not t.inputs]
    names = [node.name, *(t.name for t in [*node.outputs, *sources] if t.name)]
    return pattern in names or any(fnmatchcase(name, pattern) for name in names)


def disqualified(node: ir.Node, rule: OpRule) -> str | None:
    """Why the node cannot be quantized by the rule whatever its neighbours do."""
    for port, tensor in enumerate(node.inputs):
        operand = rule.operand(port)
        if not tensor.name or isinstance(operand, Float):
            continue
        reason = unfit(tensor, half=isinstance(operand, Weight) and in_blocks(operand))
        if reason is None and isinstance(operand, Weight | Bias) and not isinstance(tensor, ir.Constant):
            reason = f"{tensor.name!r} of {node.op} {node.name!r} is computed, not constant"
        if reason is None and isinstance(operand, Weight) and (not ir.nbytes(tensor) or len(tensor.shape) < 2):
            reason = f"weight {tensor.name!r} of {node.op} {node.name!r} has shape {list(tensor.shape)}"
        if reason is not None:
            return reason
    missing = [p for p, operand in rule.inputs.items() if isinstance(operand, Activation | Weight) and p >= 0]
    if any(port >= len(node.inputs) or not node.inputs[port].name for port in missing):
        return f"{node.op} {node.name!r} lacks an input"
    return next((reason for condition in rule.conditions if (reason := condition(node)) is not None), None)


def in_blocks(operand: Weight) -> bool:
    """Whether a weight is stored in blocks with plain scales, which have its own type."""
    return all(isinstance(spec.granularity, PerBlock) and spec.scale == "f32" for spec in operand.options)


def unfit(tensor: ir.Tensor, *, half: bool = False) -> str | None:
    """Why a value cannot be quantized at all; `half` allows float16."""
    if tensor.dtype is None:
        return f"type of {tensor.name!r} is unknown"
    if np.dtype(tensor.dtype) not in ((np.float32, np.float16) if half else (np.float32,)):
        return f"{tensor.name!r} is {np.dtype(tensor.dtype)}, not float32"
    if isinstance(tensor, ir.Constant) and ir.nbytes(tensor):
        values = ir.array(tensor).reshape(-1)
        if not all(np.isfinite(values[start : start + PIECE]).all() for start in range(0, values.size, PIECE)):
            return f"{tensor.name!r} holds NaN or infinity"
    return None


def unread_output(edit: ir.Editor, node: ir.Node) -> str | None:
    """Why a node with several results cannot move codes: ONNX Runtime wants each of them quantized, so each read."""
    if len(node.outputs) == 1:
        return None
    unread = [tensor.name for tensor in node.outputs if tensor.name and not edit.uses(tensor)]
    return f"nothing reads {unread[0]!r}, a result of {node.op} {node.name!r}" if unread else None
