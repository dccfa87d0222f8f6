"""Convolutions. ONNX pads [b0, b1, e0, e1], MIL [b0, e0, b1, e1].

The weight may be a constant behind DequantizeLinear, or a palette: it stays compressed (`stored`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from qcompiler.backends.coreml.lower.scope import Refused, Scope, Var
from qcompiler.backends.coreml.lower.stored import weight
from qcompiler.backends.coreml.lower.table import lowers


def interleaved(pads: Sequence[int]) -> list[int]:
    """[b0, b1, e0, e1] as [b0, e0, b1, e1]."""
    half = len(pads) // 2
    return [pads[i + half * end] for i in range(half) for end in (0, 1)]


def explicit_pads(
    s: Scope, size: Sequence[Any], kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]
) -> list[int]:
    """The pads of a window operator in ONNX's order; those of auto_pad computed from the input's size."""
    rank = len(kernel)
    auto = s.attr("auto_pad", "NOTSET")
    if auto in ("NOTSET", ""):
        return s.ints("pads", [0] * 2 * rank) or []
    if auto == "VALID":
        return [0] * 2 * rank
    begins, ends = [], []
    for n, k, step, dilation in zip(size, kernel, strides, dilations, strict=True):
        if not isinstance(n, int | np.integer):
            raise Refused(f"auto_pad {auto} of an input whose size is open")
        whole = max((-(-int(n) // step) - 1) * step + (k - 1) * dilation + 1 - int(n), 0)
        small = whole // 2
        begins.append(whole - small if auto == "SAME_LOWER" else small)
        ends.append(small if auto == "SAME_LOWER" else whole - small)
    return [*begins, *ends]


@lowers("Conv", to="conv", limits="more than three spatial dimensions")
def conv(s: Scope) -> Var:
    """1, 2 or 3 dimensions; any groups, dilations and pads."""
    x, kernel = s.x(0), weight(s, 1)
    rank = int(x.rank) - 2
    if rank > 3:
        raise Refused(f"{rank} spatial dimensions; Core ML has 1 to 3")
    strides, dilations = s.ints("strides", [1] * rank) or [], s.ints("dilations", [1] * rank) or []
    pads = explicit_pads(s, x.shape[2:], [int(d) for d in kernel.shape[2:]], strides, dilations)
    found = s.op(
        "conv", x=x, weight=kernel, bias=known_bias(s, 2), strides=strides, dilations=dilations,
        groups=int(s.attr("group", 1)), **padding(pads),
    )  # fmt: skip
    return with_bias(s, found, 2)


def padding(pads: Sequence[int]) -> dict[str, Any]:
    """Pads as MIL has them."""
    return {"pad_type": "custom", "pad": interleaved(pads)} if any(pads) else {"pad_type": "valid"}


def known_bias(s: Scope, port: int) -> Any:
    """The bias where it is constant; MIL takes no other."""
    found = s.known(port)
    return None if found is None else s.constant(found, s.node.inputs[port].name)


def with_bias(s: Scope, result: Var, port: int) -> Var:
    """Adds a computed bias along the channels."""
    if not s.has(port) or s.known(port) is not None:
        return result
    return s.op("add", x=result, y=s.reshape(s.x(port), [1, -1, *[1] * (int(result.rank) - 2)]))


@lowers(
    "ConvTranspose", to="conv_transpose, pad, slice_by_index", limits="a computed weight, an open size of the input"
)
def conv_transpose(s: Scope) -> Var:
    """Without pads, then cut or padded to what ONNX's pads, output_padding and output_shape say.

    full[i] = (n - 1) * stride + (k - 1) * dilation + 1 + output_padding
    """
    x, kernel = s.x(0), weight(s, 1)
    rank = int(x.rank) - 2
    strides, dilations = s.ints("strides", [1] * rank) or [], s.ints("dilations", [1] * rank) or []
    extra, pads = s.ints("output_padding", [0] * rank) or [], s.ints("pads", [0] * 2 * rank) or []
    size, window = s.shape()[2:], [int(d) for d in kernel.shape[2:]]
    natural = [(n - 1) * step + (k - 1) * d + 1 for n, step, k, d in zip(size, strides, window, dilations, strict=True)]
    full = [n + e for n, e in zip(natural, extra, strict=True)]
    wanted, auto = s.ints("output_shape"), s.attr("auto_pad", "NOTSET")
    if wanted is None and auto in ("SAME_UPPER", "SAME_LOWER"):
        wanted = [n * step for n, step in zip(size, strides, strict=True)]
    if wanted is not None:
        whole = [f - w for f, w in zip(full, wanted[-rank:], strict=True)]
        small = [max(n, 0) // 2 for n in whole]
        large = [max(n, 0) - m for n, m in zip(whole, small, strict=True)]
        pads = [*small, *large] if auto == "SAME_UPPER" else [*large, *small]
        pads = [*pads[:rank], *(p + min(n, 0) for p, n in zip(pads[rank:], whole, strict=True))]
    ends = [p - e for p, e in zip(pads[rank:], extra, strict=True)]
    begins = pads[:rank]
    held = [max(p, 0) for p in [*begins, *ends]]
    found = s.op(
        "conv_transpose", x=x, weight=kernel, bias=known_bias(s, 2), strides=strides, dilations=dilations,
        groups=int(s.attr("group", 1)), **padding(held),
    )  # fmt: skip
    lacking = [max(-p, 0) for p in [*begins, *ends]]
    if any(lacking):
        bias, found = None, grown(s, x, kernel, strides, dilations, held, lacking)
        bias = s.optional(2)
        return found if bias is None else s.op("add", x=found, y=s.reshape(bias, [1, -1, *[1] * rank]))
    return with_bias(s, found, 2)


def grown(
    s: Scope, x: Var, kernel: Var, strides: list[int], dilations: list[int], held: list[int], lacking: list[int]
) -> Var:
    """The result without bias, with zeros where output_padding makes room that no window reaches."""
    found = s.op(
        "conv_transpose", x=x, weight=kernel, strides=strides, dilations=dilations,
        groups=int(s.attr("group", 1)), **padding(held),
    )  # fmt: skip
    pad = np.array([0, 0, 0, 0, *interleaved(lacking)], np.int32)
    return s.op("pad", x=found, pad=pad, mode="constant", constant_val=s.scalar(0, found))
