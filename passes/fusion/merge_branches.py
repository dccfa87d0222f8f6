"""Conv(x, W, b) + Conv(x, V, c) -> Conv(x, W + V, b + c);  Conv(x, W, b) + x * s -> Conv(x, W + diag(s), b).

    V      is put where its taps fall on those of W, with zeros around: a 1 x 1 kernel is the centre of a 3 x 3 one
    x * s  is Conv(x, diag(s)), s a scalar or one number per channel
    x      is Conv(x, I), beside a depthwise Conv; elsewhere the Add of a residual network stays
    Sub    takes the difference

Blocks that are trained with branches, and meant to be merged before they are used, are often exported as they were
trained. With random weights, on one thread, MobileOne-S0 went from 10.6 to 2.5 ms in float, and from 7.7 to 1.1 ms in
8 bits. Source: linearity in (W, b) (see `linear`); RepVGG, Ding et al. 2021; MobileOne, Vasu et al. 2023.

Two convolutions are rounded once in place of twice. A branch without weights had no rounding of its own, and its s may
be far larger than the weights beside it, whose grid it would then coarsen. Where n weights of a channel have the
largest value p, 8 bits add n (p / 127)^2 / 12 to its energy; under `CLEAN` dB such a branch stays.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from qcompiler import ir
from qcompiler.passes.fusion.channelwise import affine, per_channel, same_channels
from qcompiler.passes.fusion.fold_scale import copied
from qcompiler.passes.fusion.linear import Linear
from qcompiler.rewrite import NOTHING_TO_DO, Any, Const, Match, Op, Rule

F64 = npt.NDArray[np.float64]

CLEAN = 30.0
FINEST = 127
"""Steps from zero to the largest weight of a channel in 8 bits."""
FIRST = Op("Conv", Any("x"), Const("w"), Any("b", optional=True), bind="first")
SECOND = Op("Conv", Any("x"), Const("v"), Any("c", optional=True), bind="second")
SCALED = Op("Mul|Div", Any("x"), Const("s"), commutative=True, bind="scale", shared=True)


@dataclass(frozen=True)
class MergeBranches(Rule):
    """Merges a convolution and what is added to it, where both read the same tensor.

    Args:
        copy_limit: a weight that other nodes use as well is copied up to this many bytes.
    """

    name: ClassVar[str] = "merge-branches"
    pattern: ClassVar[tuple[Op, ...]] = (
        Op("Add|Sub", FIRST, SECOND, bind="op"),
        Op("Add|Sub", FIRST, SCALED, commutative=True, bind="op"),
        Op("Add|Sub", FIRST, Any("x"), commutative=True, bind="op"),
    )
    copy_limit: int = 1 << 20

    def check(self, edit: ir.Editor, found: Match) -> str | None:
        """Refuses kernels whose taps do not fit together, branches that 8 bits would not hold, and large copies."""
        if not {"second", "scale"} & found.bound.keys() and found.node("first").inputs[1].shape[1] != 1:
            return NOTHING_TO_DO
        views = [Linear(found.node(name)) for name in ("first", "second") if name in found.bound]
        for view in views:
            if reason := view.refusal() or _irregular(view) or copied(edit, view, self.copy_limit):
                return reason
        merged = _merged(found)
        if isinstance(merged, str):
            return merged
        host, weight, bias = merged
        limit = np.finfo(host.dtype).max
        if not all((np.abs(values) <= limit).all() for values in (weight, bias)):
            return f"weights of Conv {host.node.name!r} and what is added to it overflow {host.dtype}"
        if len(views) == 1 and (ratio := _ratio(weight)) < CLEAN:
            return f"8 bits would hold the weights of Conv {host.node.name!r} and its shortcut to {ratio:.0f} dB only"
        return None

    def rewrite(self, edit: ir.Editor, found: Match) -> None:
        """The convolution with more taps gets the sums, and takes over the output."""
        merged = _merged(found)
        assert not isinstance(merged, str)
        host, weight, bias = merged
        host.become(edit, weight, bias)
        edit.replace_uses(found.output, host.node.outputs[0])


def _irregular(view: Linear) -> str | None:
    """Why the taps of a convolution are not known."""
    mode = view.node.attrs.get("auto_pad", "NOTSET")
    return None if mode == "NOTSET" else f"Conv {view.node.name!r} pads by itself ({mode})"


def _merged(found: Match) -> tuple[Linear, F64, F64] | str:
    """The convolution that stays, its new weight and bias; or why there is none."""
    first, left = Linear(found.node("first")), found.node("op").inputs[0]
    signs = (1.0, -1.0) if found.node("op").op == "Sub" else (1.0, 1.0)
    own, other = signs if left is first.node.outputs[0] else signs[::-1]
    if "second" not in found.bound:
        kernel = _diagonal(found, first)
        if isinstance(kernel, str):
            return kernel
        return first, own * _weight(first) + other * kernel, own * _bias(first)
    second = Linear(found.node("second"))
    if first.node is second.node:
        return NOTHING_TO_DO
    host, guest, sign = first, second, (own, other)
    if np.prod(first.weight.shape[2:]) < np.prod(second.weight.shape[2:]):
        host, guest, sign = second, first, (other, own)
    what = f"Conv {host.node.name!r} and Conv {guest.node.name!r}"
    if host.dtype != guest.dtype or list(host.weight.shape[:2]) != list(guest.weight.shape[:2]):
        return f"{what} have other types or channels"
    for key, default in (("group", 1), ("strides", [1] * (len(host.weight.shape) - 2))):
        if host.node.attrs.get(key, default) != guest.node.attrs.get(key, default):
            return f"{what} have other {key}"
    place = _place(host, guest)
    if place is None:
        return f"the taps of {what} do not fall on each other"
    weight = sign[0] * _weight(host)
    weight[(slice(None), slice(None), *place)] += sign[1] * _weight(guest)
    return host, weight, sign[0] * _bias(host) + sign[1] * _bias(guest)


def _diagonal(found: Match, first: Linear) -> F64 | str:
    """The kernel that gives x, or x * s, of the shape of `first`'s; or why there is none."""
    node, x, shape = first.node, found.tensor("x"), [int(n) for n in first.weight.shape]
    channels, what = shape[0], f"Conv {node.name!r}"
    if not same_channels(x, first.output_axis, channels) or shape[1] * int(node.attrs.get("group", 1)) != channels:
        return f"{what} does not give as many channels as it reads"
    spatial = len(shape) - 2
    if any(stride != 1 for stride in node.attrs.get("strides", ())):
        return f"{what} has strides"
    begin, end, steps = _pads(first)
    centre = [pad // step for pad, step in zip(begin, steps, strict=True)]
    for axis in range(spatial):
        reach = (shape[2 + axis] - 1) * steps[axis]
        if begin[axis] % steps[axis] or centre[axis] >= shape[2 + axis] or begin[axis] + end[axis] != reach:
            return f"no tap of {what} falls on the place that it is for"
    scale = np.ones(channels)
    if "scale" in found.bound:
        factor = found.node("scale")
        values = per_channel(found.tensor("s"), first.output_axis, channels, len(shape))
        if isinstance(values, str):
            return values
        change = affine(factor.op, values, factor.inputs[0] is found.tensor("s"))
        if isinstance(change, str) or change.scale is None:
            return str(change)
        scale = change.scale
    kernel = np.zeros(shape)
    rows = np.arange(channels)
    kernel[(rows, rows % shape[1], *(np.full(channels, tap) for tap in centre))] = scale
    return kernel


def _place(host: Linear, guest: Linear) -> tuple[slice, ...] | None:
    """Where the kernel of `guest` lies in that of `host`; None where it does not, or gives results of another size."""
    (begin, end, steps), (own_begin, own_end, own_steps) = _pads(host), _pads(guest)
    found = []
    for axis, (large, small) in enumerate(zip(host.weight.shape[2:], guest.weight.shape[2:], strict=True)):
        offset, rest = divmod(begin[axis] - own_begin[axis], steps[axis])
        behind = large - small - offset
        if rest or offset < 0 or behind < 0 or end[axis] - own_end[axis] != behind * steps[axis]:
            return None
        if small > 1 and steps[axis] != own_steps[axis]:
            return None
        found.append(slice(offset, offset + small))
    return tuple(found)


def _pads(view: Linear) -> tuple[list[int], list[int], list[int]]:
    """Zeros in front and behind, and dilations, by spatial axis."""
    spatial = len(view.weight.shape) - 2
    pads = [int(n) for n in view.node.attrs.get("pads", [0] * (2 * spatial))]
    return pads[:spatial], pads[spatial:], [int(n) for n in view.node.attrs.get("dilations", [1] * spatial)]


def _weight(view: Linear) -> F64:
    return ir.array(view.weight).astype(np.float64)


def _bias(view: Linear) -> F64:
    return np.zeros(view.channels) if view.bias is None else ir.array(view.bias).astype(np.float64)


def _ratio(weight: F64) -> float:
    """Energy of a convolution's weights over that of their rounding to 8 bits by channel, in dB."""
    rows = weight.reshape(len(weight), -1)
    noise = rows.shape[1] * np.square(np.abs(rows).max(1) / FINEST).sum() / 12
    return float(10 * np.log10(np.square(rows).sum() / noise)) if noise > 0 else np.inf
