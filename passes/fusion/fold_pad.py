"""Conv(Pad(x, p), W; pads=q) -> Conv(x, W; pads=p+q), where Pad adds zeros, on spatial axes only.

    AveragePool   the same, if it counts padding (count_include_pad = 1) or pads nothing itself; padding then counts
    MaxPool       ignores its own padding, so Pad must add the lowest value of the type; or zeros, where x >= 0: then a
                  zero never exceeds the maximum of a window, which holds at least one element of x (pads < kernel)

Source: ONNX operator standard, Pad, Conv, AveragePool, MaxPool.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from qcompiler import ir
from qcompiler.rewrite import Any, Match, Op, Rule

NOT_NEGATIVE = {"Relu", "Sigmoid", "HardSigmoid", "Softmax", "Abs", "Exp", "Softplus"}
KEEPS_SIGN = {"MaxPool", "Identity", "Dropout", "Reshape", "Transpose", "Concat"}


@dataclass(frozen=True)
class FoldPad(Rule):
    """Moves a Pad into the padding of the Conv or pool behind it."""

    name: ClassVar[str] = "fold-pad"
    pattern: ClassVar[Op] = Op(
        "Conv|AveragePool|MaxPool",
        Op(
            "Pad",
            *(Any("x"), Any("pads", optional=True), Any("value", optional=True), Any("axes", optional=True)),
            bind="pad",
        ),
        open=True,
    )

    def check(self, edit: ir.Editor, found: Match) -> str | None:
        """Refuses other modes, values, axes, and what the operator's own padding would not do in the same way."""
        node, pad = found.root, f"Pad {found.node('pad').name!r}"
        what = f"{node.op} {node.name!r}"
        own = _own_pads(node)
        if own is None:
            return f"spatial rank of {what} is not known"
        added = _added(found, len(own) // 2)
        if isinstance(added, str):
            return f"{pad} {added}"
        if str(node.attrs.get("auto_pad", "NOTSET")).startswith("SAME"):
            return f"{what} pads by itself ({node.attrs['auto_pad']})"
        value = _value(found)
        if value is None:
            return f"padding value of {pad} is not a constant number"
        if node.op == "Conv":
            return None if value == 0 else f"{pad} pads with {value:g}, Conv with 0"
        return _pool_refusal(edit, found, own, added, value)

    def rewrite(self, edit: ir.Editor, found: Match) -> None:
        """Adds up the paddings; the operator reads the input of Pad."""
        node, own = found.root, _own_pads(found.root)
        assert own is not None
        added = _added(found, len(own) // 2)
        assert not isinstance(added, str)
        node.attrs.pop("auto_pad", None)
        node.attrs["pads"] = [a + b for a, b in zip(own, added, strict=True)]
        if node.op == "AveragePool":
            node.attrs["count_include_pad"] = 1
        edit.set_input(node, 0, found.tensor("x"))


def _own_pads(node: ir.Node) -> list[int] | None:
    """Padding that the node has already, begins then ends; None where its spatial rank is not known."""
    attrs = node.attrs
    kernel = attrs.get("kernel_shape")
    if kernel is None and node.op == "Conv" and node.inputs[1].shape is not None:
        kernel = node.inputs[1].shape[2:]
    if kernel is None:
        return None
    pads = attrs.get("pads") if attrs.get("auto_pad", "NOTSET") == "NOTSET" else None
    return [int(n) for n in pads] if pads is not None else [0] * (2 * len(kernel))


def _added(found: Match, spatial: int) -> list[int] | str:
    """What Pad adds on each spatial axis, begins then ends; or why that is not all it does."""
    pad, rank = found.node("pad"), spatial + 2
    if pad.attrs.get("mode", "constant") != "constant":
        return f"has mode {pad.attrs['mode']}"
    amounts, axes = pad.attrs.get("pads", pad.attrs.get("paddings")), list(range(rank))
    for name in ("pads", "axes"):
        tensor = found.get(name)
        if tensor is not None and not isinstance(tensor, ir.Constant):
            return f"has {name} that are not constant"
    if "pads" in found.bound:
        amounts = found.value("pads").reshape(-1).tolist()
    if "axes" in found.bound:
        axes = [int(axis) % rank for axis in found.value("axes").reshape(-1).tolist()]
    if amounts is None or len(amounts) != 2 * len(axes):
        return f"has {len(amounts or [])} amounts for {len(axes)} axes"
    begin, end = [0] * rank, [0] * rank
    for i, axis in enumerate(axes):
        begin[axis], end[axis] = int(amounts[i]), int(amounts[i + len(axes)])
    if any((*begin[:2], *end[:2])):
        return "pads the batch or the channels"
    if min(begin + end) < 0:
        return "crops"
    return begin[2:] + end[2:]


def _value(found: Match) -> float | None:
    """The number that Pad writes, None where it is computed."""
    tensor = found.get("value")
    if tensor is None:
        return float(found.node("pad").attrs.get("value", 0.0))
    if not isinstance(tensor, ir.Constant) or found.value("value").size != 1:
        return None
    return float(found.value("value").astype(np.float64).reshape(()))


def _pool_refusal(edit: ir.Editor, found: Match, own: list[int], added: list[int], value: float) -> str | None:
    node, attrs = found.root, found.root.attrs
    what = f"{node.op} {node.name!r}"
    if attrs.get("ceil_mode", 0):
        return f"{what} rounds its shape up, and leaves out windows that begin in its own padding"
    if any(d != 1 for d in attrs.get("dilations", ())):
        return f"{what} has dilations"
    kernel = [int(n) for n in attrs["kernel_shape"]]
    if any(a + b >= k for a, b, k in zip(own, added, kernel * 2, strict=True)):
        return f"{what} would pad as much as its kernel or more"
    if node.op == "AveragePool":
        if value != 0:
            return f"Pad {found.node('pad').name!r} pads with {value:g}, AveragePool with 0"
        if edit.model.opset < 7:
            return f"{what} cannot count its padding before opset 7"
        if any(own) and not attrs.get("count_include_pad", 0):
            return f"{what} does not count the padding that it has"
        return None
    if sum(bool(tensor.name) for tensor in node.outputs) > 1:
        return f"{what} also gives indices, which would be those of the input before padding"
    if value == _lowest(found.tensor("x"), node.outputs[0]) or (value == 0 and not_negative(found.tensor("x"))):
        return None
    pad, x = found.node("pad").name, found.tensor("x").name
    return f"Pad {pad!r} pads with {value:g}, which may exceed the elements of {x!r}"


def _lowest(*tensors: ir.Tensor) -> float | None:
    """The lowest value of the first known type; of floats, minus infinity."""
    known = [np.dtype(tensor.dtype) for tensor in tensors if tensor.dtype is not None]
    if not known:
        return None
    return float(np.iinfo(known[0]).min) if known[0].kind in "iu" else -float("inf")


def not_negative(tensor: ir.Tensor, depth: int = 8) -> bool:
    """Whether the operators that make the tensor show that no element is below zero."""
    if len(tensor.inputs) != 1 or depth == 0:
        return False
    node = tensor.inputs[0]
    if node.domain or node.outputs[0] is not tensor:
        return False
    if node.op == "Clip":
        low = node.inputs[1] if len(node.inputs) > 1 and node.inputs[1].name else None
        if low is None:
            return float(node.attrs.get("min", -1.0)) >= 0
        return isinstance(low, ir.Constant) and bool((ir.array(low) >= 0).all())
    if node.op in KEEPS_SIGN:
        inputs = node.inputs if node.op == "Concat" else node.inputs[:1]
        return all(not_negative(value, depth - 1) for value in inputs)
    return node.op in NOT_NEGATIVE
