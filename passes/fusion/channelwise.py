"""Constants that act on each channel alone, and elementwise operators with one such operand as y = x * s + t.

    Add(x, c) = x + c    Sub(x, c) = x - c    Sub(c, x) = x * -1 + c    Mul(x, c) = x * c    Div(x, c) = x * (1 / c)

Div(c, x) is not affine. Source: ONNX operator standard, multidirectional broadcasting.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from qcompiler import ir
from qcompiler.rewrite import Match

Vector = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Affine:
    """y = x * scale + shift, either of which may be absent; arrays of shape (channels,)."""

    scale: Vector | None
    shift: Vector | None


def constant_first(found: Match) -> bool:
    """Whether the constant bound to "c" is the left operand of the operator bound to "op"."""
    return found.node("op").inputs[0] is found.tensor("c")


def per_channel(constant: ir.Constant, axis: int, channels: int, rank: int | None) -> Vector | str:
    """The constant as one number per channel of a tensor that it is combined with elementwise.

    Args:
        constant: scalar, or of a shape that broadcasts.
        axis: axis of the tensor's channels, counted from the end.
        channels: their number.
        rank: rank of the tensor; None where it is only known to be at least `-axis`.

    Returns:
        float64 values of shape (channels,), or the reason why the constant is no such thing.
    """
    shape, name = [int(n) for n in constant.shape], constant.name
    if np.dtype(constant.dtype).kind != "f":
        return f"constant {name!r} is {constant.dtype}, not float"
    if len(shape) > (rank if rank is not None else -axis):
        known = f"rank {rank}" if rank is not None else "unknown rank"
        return f"constant {name!r} of shape {shape} may enlarge a tensor of {known}"
    own = shape[axis] if len(shape) >= -axis else 1
    if own not in (1, channels) or 0 in shape:
        return f"constant {name!r} of shape {shape} does not fit {channels} channels on axis {axis}"
    if any(n != 1 for i, n in enumerate(shape) if i - len(shape) != axis):
        return f"constant {name!r} of shape {shape} varies over more than channels"
    return np.broadcast_to(ir.array(constant).reshape(-1).astype(np.float64), (channels,))


def affine(op: str, values: Vector, first: bool) -> Affine | str:
    """What the operator with `values` as its constant operand, the left one if `first`, does to the other operand."""
    match op:
        case "Add":
            return Affine(None, values)
        case "Sub" if first:
            return Affine(-np.ones_like(values), values)
        case "Sub":
            return Affine(None, -values)
        case "Mul":
            return Affine(values, None)
        case "Div" if not first:
            with np.errstate(divide="ignore"):
                return Affine(1.0 / values, None)
        case _:
            return f"{op} of a constant by a tensor is not linear"


def rounds(constant: ir.Constant) -> str | None:
    """Why adding the constant may be meant to round: it is so large that the last bit of the sum is 0.25 or more.

    Adding and subtracting 1.5 * 2**23 is a known way to round float32 to integers; merging the two would undo it.
    """
    dtype = np.dtype(constant.dtype)
    if dtype.kind == "f" and np.abs(ir.array(constant)).max(initial=0) * np.finfo(dtype).eps >= 0.25:
        return f"constant {constant.name!r} is so large that adding it rounds"
    return None


def same_channels(tensor: ir.Tensor, axis: int, channels: int) -> bool:
    """Whether the tensor is known to have that many channels on that axis, counted from the end."""
    shape = tensor.shape
    return shape is not None and len(shape) >= -axis and shape[axis] == channels
