"""Pools. MIL refuses ceil_mode with uneven pads, and has no dilations: the input is then padded first.

    out = floor or ceil((n + b + e - k) / stride) + 1

With ceil_mode the last window may reach beyond the padded input; ONNX drops it where it would start there. Here the
end is padded as far as the last window that stays reaches, and the pool rounds down.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from qcompiler.backends.coreml.lower.conv import explicit_pads, interleaved
from qcompiler.backends.coreml.lower.scope import MASK, Refused, Scope, Var, type_of
from qcompiler.backends.coreml.lower.table import lowers


def window(s: Scope) -> tuple[list[int], list[int], list[int], list[int]]:
    """Kernel, strides, pads in ONNX's order with what ceil_mode needs behind the end, and that part alone."""
    kernel = s.ints("kernel_shape") or []
    rank = len(kernel)
    strides, dilations = s.ints("strides", [1] * rank) or [], s.ints("dilations", [1] * rank) or []
    if any(d != 1 for d in dilations):
        raise Refused("dilations")
    if rank > 3:
        raise Refused(f"{rank} spatial dimensions; Core ML has 1 to 3")
    size = s.x().shape[2:]
    pads = explicit_pads(s, size, kernel, strides, dilations)
    beyond = [0] * rank
    if s.attr("ceil_mode", 0) and s.attr("auto_pad", "NOTSET") in ("NOTSET", ""):
        for i, (n, k, step) in enumerate(zip(s.shape()[2:], kernel, strides, strict=True)):
            padded = n + pads[i] + pads[i + rank]
            count = -(-(padded - k) // step) + 1
            if (count - 1) * step >= n + pads[i]:
                count -= 1
            beyond[i] = max((count - 1) * step + k - padded, 0)
    return kernel, strides, pads, beyond


def padded(s: Scope, x: Var, pads: Sequence[int], value: float) -> Var:
    """`x` with its spatial dimensions padded."""
    whole = np.array([0, 0, 0, 0, *interleaved(pads)], np.int32)
    return s.op("pad", x=x, pad=whole, mode="constant", constant_val=s.scalar(value, x))


@lowers("MaxPool", to="max_pool", limits="indices, dilations, 8-bit integers outside of quantized models")
def max_pool(s: Scope) -> Var:
    """Padding never wins; the values of a pool that rounds up are padded with the lowest number."""
    if len(s.node.outputs) > 1 and s.node.outputs[1].name:
        raise Refused("indices as a result")
    x = s.x()
    if type_of(x) not in ("fp32", "fp16"):
        raise Refused(f"{s.onnx_type()} values")
    kernel, strides, pads, beyond = window(s)
    if any(beyond):
        lowest = MASK if s.program.half or type_of(x) == "fp16" else float(np.finfo(np.float32).min)
        rank = len(kernel)
        x, pads = padded(s, x, [*pads[:rank], *(e + b for e, b in zip(pads[rank:], beyond, strict=True))], lowest), []
    return s.op("max_pool", x=x, kernel_sizes=kernel, strides=strides, **pool_pads(pads))


def pool_pads(pads: Sequence[int]) -> dict[str, Any]:
    """Pads as MIL has them."""
    return {"pad_type": "custom", "pad": interleaved(pads)} if any(pads) else {"pad_type": "valid"}


@lowers("AveragePool", to="avg_pool, pad, mul", limits="dilations, an open size of the input with ceil_mode")
def average_pool(s: Scope) -> Var:
    """Where ceil_mode reaches beyond the end, a sum of windows times the constant 1 / count of each."""
    x = s.x()
    kernel, strides, pads, beyond = window(s)
    counted = bool(s.attr("count_include_pad", 0))
    if not any(beyond):
        return s.op(
            "avg_pool", x=x, kernel_sizes=kernel, strides=strides, exclude_padding_from_average=not counted,
            **pool_pads(pads),
        )  # fmt: skip
    rank, size = len(kernel), s.shape()[2:]
    ends = [e + b for e, b in zip(pads[rank:], beyond, strict=True)]
    mean = s.op(
        "avg_pool", x=padded(s, x, [*pads[:rank], *ends], 0.0), kernel_sizes=kernel, strides=strides,
        pad_type="valid", exclude_padding_from_average=False,
    )  # fmt: skip
    factor = np.ones([1] * rank)
    for i, (n, k, step) in enumerate(zip(size, kernel, strides, strict=True)):
        first, last = (0, n + pads[i] + pads[i + rank]) if counted else (pads[i], pads[i] + n)
        starts = np.arange((n + pads[i] + ends[i] - k) // step + 1) * step
        counts = np.minimum(starts + k, last) - np.maximum(starts, first)
        form = [1] * rank
        form[i] = -1
        factor = factor * (k / counts).reshape(form)
    return s.op("mul", x=mean, y=s.constant(factor[None, None].astype(np.float32)))


@lowers("GlobalAveragePool", "GlobalMaxPool", to="reduce_mean, reduce_max")
def global_pool(s: Scope) -> Var:
    """Over all spatial dimensions."""
    kind = "reduce_mean" if s.node.op == "GlobalAveragePool" else "reduce_max"
    return s.op(kind, x=s.x(), axes=list(range(2, s.rank())), keep_dims=True)


@lowers("LpPool", to="l2_pool", limits="p other than 2, pads, dilations, ceil_mode")
def lp_pool(s: Scope) -> Var:
    """p = 2"""
    kernel, strides, pads, beyond = window(s)
    if s.attr("p", 2) != 2 or any(beyond) or any(pads) or len(kernel) > 2:
        raise Refused("only p = 2 without pads, ceil_mode, or a third dimension")
    return s.op("l2_pool", x=s.x(), kernel_sizes=kernel, strides=strides, pad_type="valid")


@lowers("GlobalLpPool", to="reduce_l2_norm, reduce_l1_norm", limits="p other than 1 and 2")
def global_lp_pool(s: Scope) -> Var:
    """p = 1 or 2"""
    kind = {1: "reduce_l1_norm", 2: "reduce_l2_norm"}.get(int(s.attr("p", 2)))
    if kind is None:
        raise Refused("only p = 1 and p = 2")
    return s.op(kind, x=s.x(), axes=list(range(2, s.rank())), keep_dims=True)
