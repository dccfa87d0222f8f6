"""Which convolutions are stems: they compute in integers on few channels of a value that is stored in float."""

from __future__ import annotations

from qcompiler import ir
from qcompiler.passes.plan.region import choose
from qcompiler.targets import TargetSpec


def find(model: ir.Model, target: TargetSpec, keep_float: tuple[str, ...], channels: int) -> list[ir.Node]:
    """The stems of the main graph, in order: two-dimensional Conv nodes, group 1, without dilation.

    Args:
        model, target, keep_float: as for `choose`.
        channels: the most channels that a stem reads.
    """
    candidates = [node for node in model.nodes if node.op == "Conv" and not node.domain and plain(node, channels)]
    if not candidates:
        return []
    region = choose(model, target, "int8", keep_float)
    return [
        node
        for node in candidates
        if node.name in region.rules
        and region.source(node.inputs[0]) is None
        and region.readers(node.inputs[0]) == [node]
    ]


def plain(conv: ir.Node, channels: int) -> bool:
    """Whether this is a plain convolution of an image of few channels."""
    x, weight = conv.inputs[:2]
    return (
        isinstance(weight, ir.Constant)
        and len(weight.shape) == 4
        and weight.shape[1] <= channels
        and x.shape is not None
        and len(x.shape) == 4
        and conv.attrs.get("group", 1) == 1
        and all(d == 1 for d in conv.attrs.get("dilations", ()))
        and (not same_size(conv) or all(isinstance(size, int) for size in x.shape[2:]))
    )


def same_size(node: ir.Node) -> bool:
    """Whether the padding follows from the size of the input."""
    return str(node.attrs.get("auto_pad", "NOTSET")).startswith("SAME")


def spatial(node: ir.Node) -> tuple[list[int], list[int], list[int]]:
    """Strides, padding (begins, then ends) and kernel of a two-dimensional Conv or pool."""
    attrs = node.attrs
    kernel = [int(k) for k in (attrs["kernel_shape"] if "kernel_shape" in attrs else node.inputs[1].shape[2:])]
    strides = [int(s) for s in attrs.get("strides", (1, 1))]
    if attrs.get("auto_pad", "NOTSET") == "NOTSET":
        return strides, [int(p) for p in attrs.get("pads", [0] * 4)], kernel
    if not same_size(node):
        return strides, [0] * 4, kernel
    sizes = node.inputs[0].shape[2:]
    total = [max((-(-n // s) - 1) * s + k - n, 0) for n, s, k in zip(sizes, strides, kernel, strict=True)]
    less, more = [t // 2 for t in total], [t - t // 2 for t in total]
    return strides, [*less, *more] if attrs["auto_pad"] == "SAME_UPPER" else [*more, *less], kernel
