"""When a node gives back one of its inputs; see `remove_identity`."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt
from onnx import helper

from qcompiler import ir
from qcompiler.passes.prepare.infer_shapes import Shape

Shapes = Mapping[str, Shape | None]
FAR = 2**31 - 1
"""An end of a Slice from which on it means the end of the axis."""
DROPOUT_WITHOUT_TEST_MODE = 7


def same_as(node: ir.Node, shapes: Shapes, opset: int) -> ir.Tensor | None:
    """The input that the first output of `node` equals in values, shape and type, None where that is not certain.

    Args:
        node: a node of the ONNX domain.
        shapes: shapes by tensor name that can be relied upon.
        opset: opset of the model.
    """
    if not node.inputs or not node.inputs[0].name or not node.outputs:
        return None
    if node.op == "Dropout":
        return node.inputs[0] if _idle_dropout(node, opset) else None
    if node.op in ("Add", "Mul"):
        return next(
            (node.inputs[i] for i in (0, 1) if _neutral(node, node.inputs[1 - i], node.inputs[i], shapes)), None
        )
    if node.op in ("Squeeze", "Unsqueeze"):
        return _undone(node)
    return node.inputs[0] if CANDIDATES[node.op](node, shapes) else None


def _constant(node: ir.Node, port: int, attribute: str = "") -> npt.NDArray[np.generic] | None:
    """Input `port`, or in older opsets an attribute, as an array; None where absent or computed."""
    if attribute and attribute in node.attrs:
        return np.asarray(node.attrs[attribute])
    if port < len(node.inputs) and isinstance(node.inputs[port], ir.Constant):
        return ir.array(node.inputs[port])
    return None


def _given(node: ir.Node, port: int) -> bool:
    return port < len(node.inputs) and bool(node.inputs[port].name)


def _idle_dropout(node: ir.Node, opset: int) -> bool:
    if opset < DROPOUT_WITHOUT_TEST_MODE:
        return bool(node.attrs.get("is_test", 0))
    training = _constant(node, 2)
    return not _given(node, 2) or (training is not None and not training.any())


def _same_type(node: ir.Node, _shapes: Shapes) -> bool:
    have = node.inputs[0].dtype
    if node.op == "CastLike":
        want = node.inputs[1].dtype
        return have is not None and want is not None and np.dtype(have) == np.dtype(want)
    return have is not None and np.dtype(have) == helper.tensor_dtype_to_np_dtype(node.attrs["to"])


def _in_order(node: ir.Node, shapes: Shapes) -> bool:
    perm = node.attrs.get("perm")
    if perm is None:
        shape = shapes.get(node.inputs[0].name)
        return shape is not None and len(shape) < 2
    return list(perm) == list(range(len(perm)))


def _same_shape(node: ir.Node, shapes: Shapes) -> bool:
    """Each entry of the target copies its dimension, states it, or is the only one left open."""
    shape, target = shapes.get(node.inputs[0].name), _constant(node, 1, "shape")
    if shape is None or target is None or target.ndim != 1 or len(target) != len(shape):
        return False
    copies = 0 if not node.attrs.get("allowzero", 0) else None
    open_entries = 0
    for dim, entry in zip(shape, target.tolist(), strict=True):
        if entry in (copies, dim):
            continue
        if entry != -1:
            return False
        open_entries += 1
    return open_entries <= 1


def _already_expanded(node: ir.Node, shapes: Shapes) -> bool:
    shape, target = shapes.get(node.inputs[0].name), _constant(node, 1)
    if shape is None or target is None or len(target) > len(shape):
        return False
    return all(entry in (1, dim) for dim, entry in zip(reversed(shape), reversed(target.tolist()), strict=False))


def _flat(node: ir.Node, shapes: Shapes) -> bool:
    shape = shapes.get(node.inputs[0].name)
    return shape is not None and len(shape) == 2 and node.attrs.get("axis", 1) in (1, -1)


def _no_padding(node: ir.Node, _shapes: Shapes) -> bool:
    pads = _constant(node, 1, "pads")
    return pads is not None and not pads.any()


def _whole(node: ir.Node, _shapes: Shapes) -> bool:
    starts, ends = _constant(node, 1, "starts"), _constant(node, 2, "ends")
    steps = _constant(node, 4)
    if starts is None or ends is None or (_given(node, 4) and (steps is None or (steps != 1).any())):
        return False
    return not starts.any() and all(end >= FAR for end in ends.tolist())


def _single(node: ir.Node, _shapes: Shapes) -> bool:
    return len(node.inputs) == 1


def _one_part(node: ir.Node, _shapes: Shapes) -> bool:
    return len(node.outputs) == 1


def _neutral_right(node: ir.Node, shapes: Shapes) -> bool:
    return _neutral(node, node.inputs[1], node.inputs[0], shapes)


def _neutral(node: ir.Node, constant: ir.Tensor, other: ir.Tensor, shapes: Shapes) -> bool:
    """Whether `constant` is the neutral element and does not enlarge `other`."""
    shape = shapes.get(other.name)
    if not isinstance(constant, ir.Constant) or shape is None or len(constant.shape) > len(shape):
        return False
    if not all(entry in (1, dim) for dim, entry in zip(reversed(shape), reversed(constant.shape), strict=False)):
        return False
    values = ir.array(constant)
    return values.dtype.kind in "fiu" and bool((values == (1 if node.op in ("Mul", "Div") else 0)).all())


def _undone(node: ir.Node) -> ir.Tensor | None:
    """x where the node squeezes or unsqueezes what the node before did the other way, on axes written the same."""
    before = node.inputs[0].inputs[0] if node.inputs[0].inputs else None
    if before is None or {before.op, node.op} != {"Squeeze", "Unsqueeze"} or before.domain:
        return None
    mine, theirs = _constant(node, 1, "axes"), _constant(before, 1, "axes")
    if mine is None or theirs is None or sorted(mine.reshape(-1).tolist()) != sorted(theirs.reshape(-1).tolist()):
        return None
    tensor: ir.Tensor = before.inputs[0]
    return tensor


def _always(_node: ir.Node, _shapes: Shapes) -> bool:
    return True


CANDIDATES: dict[str, Callable[[ir.Node, Shapes], bool]] = {
    "Identity": _always,
    "Dropout": _always,
    "Cast": _same_type,
    "CastLike": _same_type,
    "Transpose": _in_order,
    "Reshape": _same_shape,
    "Expand": _already_expanded,
    "Flatten": _flat,
    "Pad": _no_padding,
    "Slice": _whole,
    "Split": _one_part,
    "Concat": _single,
    "Sum": _single,
    "Max": _single,
    "Min": _single,
    "Mean": _single,
    "Add": _neutral_right,
    "Sub": _neutral_right,
    "Mul": _neutral_right,
    "Div": _neutral_right,
    "Squeeze": _always,
    "Unsqueeze": _always,
}
"""The operators that may do nothing, and the test for those that need no more than this."""
